// take_flags and flags_help of config.h: a small loop over the table of settings.
//
// CLI11 parses the options of programs, but not here: it takes over a whole command line, and cannot lift one owner's
// flags out of another's without knowing which of the rest take a value; its errors also name the flag, not the key.
//
// Left to right: an argument that begins with "--" is a flag of the cache, of the caller, or unknown; everything else
// that is not the value of a flag of the cache stays in `rest`, in order. What follows a flag of the cache and begins
// with "--" is never its value ("--disk=--odd" says it where it is meant). A boolean flag may stand bare, for true:
// only a word that says yes or no after it is its value (of which only "true" and "false" are accepted).
#include "base/try.h"
#include "config/draft.h"
#include "config/nearest.h"
#include "config/setting_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

namespace tiercel {
namespace config {
namespace {

constexpr std::string_view kConfigFlag = "--config";
/// Taken for the value of a boolean flag, lest "--host-prefault no" means yes.
constexpr std::array<std::string_view, 8> kYesNo = {"true", "false", "yes", "no", "on", "off", "1", "0"};

const Setting* setting_of_flag(std::string_view flag) {
  for (const Setting& setting : settings()) {
    if (flag == flag_of(setting) || (!setting.alias.empty() && flag == setting.alias)) return &setting;
  }
  return nullptr;
}

Error unknown_flag(std::string_view flag, std::span<const std::string> other_flags) {
  std::vector<std::string> known(other_flags.begin(), other_flags.end());
  known.emplace_back(kConfigFlag);
  for (const Setting& setting : settings()) {
    known.push_back(flag_of(setting));
    if (!setting.alias.empty()) known.emplace_back(setting.alias);
  }
  return {.code = ErrorCode::kUnknownKey,
          .message = fmt::format("unknown option {}{}", shown(flag), did_you_mean(flag, known))};
}

std::vector<std::string> split_commas(std::string_view text) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t comma = text.find(',');
    parts.emplace_back(text.substr(0, comma));
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

/// A flag of the cache as it was given.
struct Given {
  const Setting* setting = nullptr;
  std::string value;
};

/// The command line, taken apart.
struct Taken {
  std::vector<std::string> files;
  std::vector<Given> flags;
  std::vector<std::string> rest;
};

Result<Taken> take_apart(std::span<const std::string> arguments, std::span<const std::string> other_flags) {
  Taken taken;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    if (argument == "--") {
      taken.rest.insert(taken.rest.end(), arguments.begin() + static_cast<std::ptrdiff_t>(i), arguments.end());
      break;
    }
    const std::size_t equals = argument.find('=');
    const std::string_view flag = argument.substr(0, equals);
    const bool of_caller = std::ranges::find(other_flags, flag) != other_flags.end();
    if (!argument.starts_with("--") || of_caller) {
      taken.rest.emplace_back(argument);
      continue;
    }
    const Setting* setting = setting_of_flag(flag);
    if (setting == nullptr && flag != kConfigFlag) return tl::unexpected(unknown_flag(flag, other_flags));
    std::string value;
    if (equals != std::string_view::npos) {
      value = argument.substr(equals + 1);
    } else if (setting != nullptr && setting->kind == ValueKind::kBoolean) {
      const bool said = i + 1 < arguments.size() && std::ranges::find(kYesNo, arguments[i + 1]) != kYesNo.end();
      value = said ? arguments[++i] : "true";
    } else if (i + 1 < arguments.size() && !arguments[i + 1].starts_with("--")) {
      value = arguments[++i];
    } else {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("{}: needs a value, {}", flag, setting == nullptr ? "a file" : needs(*setting)));
    }
    if (setting == nullptr) {
      taken.files.push_back(std::move(value));
    } else {
      taken.flags.push_back({.setting = setting, .value = std::move(value)});
    }
  }
  return taken;
}

/// In a file these keys may stand for another program; on a command line they ask for what will not happen.
Status check_scope(std::span<const Given> flags, FlagScope scope) {
  for (const Given& given : flags) {
    if (given.setting->scope <= scope) continue;
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{}: is a flag of `tiercel serve` and would do nothing here", flag_of(*given.setting)));
  }
  return {};
}

/// Applies each setting's flags at the place of its first: a list collects all of them, anything else takes one.
Status apply(std::span<const Given> flags, Draft& draft) {
  for (std::size_t i = 0; i < flags.size(); ++i) {
    const Setting& setting = *flags[i].setting;
    const auto same = [&](const Given& given) { return given.setting == &setting; };
    if (std::ranges::any_of(flags.first(i), same)) {
      if (setting.kind == ValueKind::kList) continue;
      return complain(setting, fmt::format("given twice; give {} once", flag_of(setting)));
    }
    if (setting.kind == ValueKind::kList) {
      std::vector<std::string> list;
      for (const Given& given : flags.subspan(i)) {
        if (!same(given)) continue;
        for (std::string& part : split_commas(given.value)) list.push_back(std::move(part));
      }
      TIERCEL_TRY(draft.set_list(setting, std::move(list), ""));
    } else if (setting.kind == ValueKind::kText) {
      TIERCEL_TRY(draft.set_text(setting, flags[i].value, ""));
    } else {
      TIERCEL_TRY_ASSIGN(const std::uint64_t number, parse_number(setting, flags[i].value));
      TIERCEL_TRY(draft.set_number(setting, number, ""));
    }
  }
  return {};
}

std::string placeholder(const Setting& setting) {
  switch (setting.kind) {
    case ValueKind::kBytes:
      return "BYTES";
    case ValueKind::kCount:
      return "N";
    case ValueKind::kPercent:
      return "PERCENT";
    case ValueKind::kMilliseconds:
      return "TIME";
    case ValueKind::kBoolean:
      return "[true|false]";
    case ValueKind::kChoice:
      return fmt::format("{}", fmt::join(setting.choices, "|"));
    case ValueKind::kList:
      return fmt::format("{0}[,{0}...]", setting.form);
    case ValueKind::kText:
      return std::string(setting.form);
  }
  return "";
}

std::string help_line(const Setting& setting) {
  std::string line = fmt::format("  {:<46}  {}", flag_of(setting) + " " + placeholder(setting), setting.meaning);
  if (!setting.alias.empty()) line += fmt::format("; also {}", setting.alias);
  if (setting.list == nullptr) line += fmt::format(" [{}]", default_of(setting));
  return line + "\n";
}

}  // namespace
}  // namespace config

Result<FlagsTaken> take_flags(std::span<const std::string> arguments, std::span<const std::string> other_flags,
                              Config base, FlagScope scope) {
  TIERCEL_TRY_ASSIGN(auto taken, config::take_apart(arguments, other_flags));
  TIERCEL_TRY(config::check_scope(taken.flags, scope));
  config::Draft draft(std::move(base));
  for (const std::string& file : taken.files) TIERCEL_TRY(config::read_config_file(file, draft));
  TIERCEL_TRY(config::apply(taken.flags, draft));
  TIERCEL_TRY_ASSIGN(Config config, draft.finish());
  return FlagsTaken{.config = std::move(config), .rest = std::move(taken.rest)};
}

std::string flags_help(FlagScope scope) {
  std::string help =
      fmt::format("  {:<46}  {}\n", "--config FILE", "read settings from a TOML file; flags go before it");
  for (const config::Setting& setting : config::settings()) {
    if (setting.scope <= scope) help += config::help_line(setting);
  }
  return help;
}

}  // namespace tiercel
