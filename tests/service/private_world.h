// PrivateWorld: a directory for one private service, engines that ask for it, and a look at the process that they get.
// The test is a subreaper: services that were started become its children, so that it sees how they end.
#pragma once

#include "tests/service/child.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace tiercel {

struct PrivateArguments {
  std::string program;  ///< tiercel
  std::string engine;   ///< private_engine
  std::uint64_t rounds = 30;
};
inline PrivateArguments private_arguments;  // set by main before any test runs

class PrivateWorld : public ::testing::Test {
 protected:
  using Engines = std::vector<std::unique_ptr<Child>>;
  static constexpr std::chrono::seconds kPatience{60};

  PrivateWorld();
  ~PrivateWorld() override;

  struct Wishes {
    std::string program;  ///< empty: tiercel
    std::chrono::milliseconds deadline = kPatience;
    std::chrono::milliseconds grace{100};
    std::vector<std::string> flags{};
  };
  /// The flags of a small service.
  [[nodiscard]] static std::vector<std::string> small(std::chrono::milliseconds grace);
  [[nodiscard]] std::unique_ptr<Child> engine(const Wishes& wishes) const;
  [[nodiscard]] std::unique_ptr<Child> engine() const { return engine(Wishes{}); }
  [[nodiscard]] Engines eight(const Wishes& wishes) const;
  /// A program in place of tiercel: notes that it was started, then does what `script` says.
  [[nodiscard]] std::string program(const std::string& script) const;
  /// How often such a program was started.
  [[nodiscard]] std::size_t starts() const;
  /// Lets a program go on that waits with "read word < $DIRECTORY/gate".
  void open_gate() const;

  /// Of all, one after the other; the commands are said to all before.
  static std::vector<std::string> ask(const Engines& engines, const std::string& command);
  static std::string ask(Child& engine, const std::string& command);
  /// Asks until the answer has `part` in it, or for too long.
  [[nodiscard]] static bool says(Child& engine, const std::string& command, const std::string& part);
  [[nodiscard]] static bool serves_again(Child& engine) { return says(engine, "serve", "served"); }

  /// The processes that serve, or are about to.
  [[nodiscard]] std::vector<pid_t> services() const;
  [[nodiscard]] pid_t the_service() const;
  /// Its exit status once it has ended (128 + signal), or -1 if it does not in time.
  static int end_of(pid_t service);
  /// Kills it, and sees it gone.
  static void lose(pid_t service);
  [[nodiscard]] std::string log() const { return content(socket_ + ".log"); }
  [[nodiscard]] std::size_t in_log(const std::string& text) const;
  static std::string content(const std::filesystem::path& file);
  /// Waits until so many of the engines have the start lock's file open: they start, or wait for who does.
  [[nodiscard]] bool all_wait(const Engines& engines) const;

  std::string directory_;
  std::string socket_;
};

}  // namespace tiercel
