#include "cli/arguments.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

namespace tiercel::cli {
namespace {

std::vector<std::string> split_commas(std::string_view text) {
  std::vector<std::string> parts;
  for (;;) {
    const std::size_t comma = text.find(',');
    parts.emplace_back(text.substr(0, comma));
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

/// For CLI11, which wants exceptions of its own here.
std::uint64_t bytes_of(const std::string& flag, const std::string& text) {
  const auto bytes = parse_bytes(text);
  if (!bytes) throw CLI::ValidationError(flag, bytes.error().message);
  return *bytes;
}

bool asks_for_help(std::span<const std::string> arguments) {
  return std::ranges::any_of(arguments, [](const std::string& word) { return word == "--help" || word == "-h"; });
}

}  // namespace

Arguments::Arguments(std::string usage, const std::string& what)
    : usage_(std::move(usage)), app_(std::make_unique<CLI::App>(what)) {
  app_->set_help_flag("--help,-h", "this text");
}

void Arguments::add_bytes(const std::string& flag, std::uint64_t& bytes, const std::string& meaning) {
  app_->add_option_function<std::string>(
      flag, [&bytes, flag](const std::string& text) { bytes = bytes_of(flag, text); }, meaning);
}

void Arguments::add_bytes_list(const std::string& flag, std::vector<std::uint64_t>& bytes, const std::string& meaning) {
  app_->add_option_function<std::string>(
      flag,
      [&bytes, flag](const std::string& text) {
        bytes.clear();
        for (const std::string& part : split_commas(text)) bytes.push_back(bytes_of(flag, part));
      },
      meaning);
}

Status Arguments::parse(std::span<const std::string> arguments, bool& help) {
  help = asks_for_help(arguments);
  if (help) return {};
  const std::vector<std::string> known = flags();
  for (const std::string& argument : arguments) {
    if (argument == "--") break;
    const std::string flag = argument.substr(0, argument.find('='));
    if (!flag.starts_with("-") || std::ranges::find(known, flag) != known.end()) continue;
    return fail(ErrorCode::kUnknownKey, fmt::format("unknown option {}{}", flag, did_you_mean(flag, known)));
  }
  return parse_own(arguments);
}

Status Arguments::parse_with_config(std::span<const std::string> arguments, Config& config, bool& help,
                                    FlagScope scope) {
  help = asks_for_help(arguments);
  if (help) return {};
  auto taken = take_flags(arguments, flags(), config, scope);
  if (!taken) return tl::unexpected<Error>(taken.error());
  config = std::move(taken->config);
  return parse_own(taken->rest);
}

Status Arguments::parse_own(std::span<const std::string> arguments) {
  std::vector<std::string> from_the_back(arguments.rbegin(), arguments.rend());
  try {
    app_->parse(std::move(from_the_back));
  } catch (const CLI::ExtrasError&) {
    const auto extra = app_->remaining();
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{} is one word too many; usage: {}", extra.empty() ? "that" : extra.front(), usage_));
  } catch (const CLI::ParseError& error) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("{}; usage: {}", error.what(), usage_));
  }
  return {};
}

std::string Arguments::help(bool with_config, FlagScope scope) const {
  std::string text = fmt::format("usage: {}\n\n{}\n\n", usage_, app_->get_description());
  for (const CLI::Option* option : app_->get_options()) {
    std::string name = option->get_name();
    if (option->get_positional() && option->get_lnames().empty()) {
      name = option->get_name(true);
    } else if (option->get_type_size() > 0 && option->get_expected_min() > 0) {
      name += " VALUE";
    }
    text += fmt::format("  {:<24} {}\n", name, option->get_description());
  }
  return with_config ? text + "\nFlags of the cache:\n" + flags_help(scope) : text;
}

std::vector<std::string> Arguments::flags() const {
  std::vector<std::string> names;
  for (const CLI::Option* option : app_->get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

}  // namespace tiercel::cli
