// Arguments: the flags of one command of `tiercel`, on CLI11, with sentences for errors and a plain help text.
//
// A command binds its flags to its options with app(), then calls parse(). One thread.
#pragma once

#include <tiercel/config.h>
#include <tiercel/result.h>

#include <CLI/CLI.hpp>

#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tiercel::cli {

class Arguments {
 public:
  /// `usage`: "tiercel fsck FILE [flags]". `what`: one sentence.
  Arguments(std::string usage, const std::string& what);

  [[nodiscard]] CLI::App& app() noexcept { return *app_; }
  /// A flag whose value is a size ("4GiB") or a list of sizes; an error names the flag and the value.
  void add_bytes(const std::string& flag, std::uint64_t& bytes, const std::string& meaning);
  void add_bytes_list(const std::string& flag, std::vector<std::uint64_t>& bytes, const std::string& meaning);

  /// `help` becomes true where --help was given; then nothing else is looked at.
  [[nodiscard]] Status parse(std::span<const std::string> arguments, bool& help);
  /// The same, with the cache's own flags taken out first and applied over `config`.
  [[nodiscard]] Status parse_with_config(std::span<const std::string> arguments, Config& config, bool& help,
                                         FlagScope scope = FlagScope::kCache);

  [[nodiscard]] std::string help(bool with_config = false, FlagScope scope = FlagScope::kCache) const;
  /// "--dir", "--size", ...
  [[nodiscard]] std::vector<std::string> flags() const;

 private:
  [[nodiscard]] Status parse_own(std::span<const std::string> arguments);

  std::string usage_;
  std::unique_ptr<CLI::App> app_;
};

}  // namespace tiercel::cli
