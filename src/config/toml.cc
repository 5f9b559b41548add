// parse_toml and load_config_file of config.h, over toml++ (without exceptions). The only file that includes it.
#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "base/try.h"
#include "config/draft.h"
#include "config/nearest.h"
#include "config/setting_value.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace tiercel {
namespace config {
namespace {

constexpr std::size_t kMostFileBytes = 1_MiB;

class Reader {
 public:
  Reader(Draft& draft, std::string_view origin) : draft_(draft), origin_(origin) {}

  [[nodiscard]] Status read_table(const toml::table& table, const std::string& path) {
    for (const auto& [name, node] : table) {
      const bool has_dot = name.str().find('.') != std::string_view::npos;  // a quoted key, never one of ours
      const std::string key = path.empty() ? std::string(name.str()) : path + "." + std::string(name.str());
      const std::string at = place(name.source());
      if (const Setting* setting = has_dot ? nullptr : find_setting(key)) {
        TIERCEL_TRY(read_value(*setting, node, at));
      } else if (!has_dot && is_table(key)) {
        if (!node.is_table()) return error(at, fmt::format("{}: is a table of settings, not {}", key, type_of(node)));
        TIERCEL_TRY(read_table(*node.as_table(), key));
      } else if (has_dot && path.empty() && find_setting(key) != nullptr) {
        return unknown(at, fmt::format("\"{}\"; write it without quotes", key));
      } else {
        return unknown(at, name.str().empty() ? "\"\"" : shown(key) + did_you_mean(key, known_keys()));
      }
    }
    return {};
  }

  [[nodiscard]] std::string place(const toml::source_region& source) const {
    return fmt::format("{}:{}", origin_, source.begin.line);
  }

 private:
  static bool is_table(std::string_view key) {
    for (const Setting& setting : settings()) {
      if (table_of(setting) == key) return true;
    }
    return false;
  }

  static std::vector<std::string> known_keys() {
    std::vector<std::string> known;
    for (const Setting& setting : settings()) {
      known.emplace_back(setting.key);
      known.emplace_back(table_of(setting));
    }
    return known;
  }

  static tl::unexpected<Error> unknown(std::string_view place, const std::string& what) {
    return tl::unexpected(at_place(place, {.code = ErrorCode::kUnknownKey, .message = "unknown key " + what}));
  }

  static std::string_view type_of(const toml::node& node) {
    switch (node.type()) {
      case toml::node_type::table:
        return "a table";
      case toml::node_type::array:
        return "a list";
      case toml::node_type::string:
        return "a string";
      case toml::node_type::integer:
        return "a whole number";
      case toml::node_type::floating_point:
        return "a number with a point";
      case toml::node_type::boolean:
        return "true or false";
      default:
        return "a date or time";
    }
  }

  static tl::unexpected<Error> error(std::string_view place, std::string message) {
    return tl::unexpected(at_place(place, {.code = ErrorCode::kInvalidArgument, .message = std::move(message)}));
  }

  static tl::unexpected<Error> wrong_type(const Setting& setting, const toml::node& node, std::string_view at) {
    return error(at, fmt::format("{}: needs {}, not {}", setting.key, needs(setting), type_of(node)));
  }

  Status read_value(const Setting& setting, const toml::node& node, std::string_view at) {
    if (setting.kind == ValueKind::kList) return read_list(setting, node, at);
    if (const auto* text = node.as_string();
        text != nullptr && setting.kind != ValueKind::kBoolean && setting.kind != ValueKind::kCount) {
      auto number = parse_number(setting, text->get());
      if (!number) return tl::unexpected(at_place(at, std::move(number).error()));
      return draft_.set_number(setting, *number, at);
    }
    if (const auto* flag = node.as_boolean(); flag != nullptr && setting.kind == ValueKind::kBoolean) {
      return draft_.set_number(setting, flag->get() ? 1 : 0, at);
    }
    const auto* integer = node.as_integer();
    if (integer == nullptr || setting.kind == ValueKind::kBoolean || setting.kind == ValueKind::kChoice) {
      return wrong_type(setting, node, at);
    }
    if (integer->get() < 0) return error(at, fmt::format("{}: {} is negative", setting.key, integer->get()));
    if (setting.kind == ValueKind::kMilliseconds) {
      return error(at, fmt::format("{}: {} has no unit; write \"{}ms\" or \"{}s\"", setting.key, integer->get(),
                                   integer->get(), integer->get()));
    }
    return draft_.set_number(setting, static_cast<std::uint64_t>(integer->get()), at);
  }

  Status read_list(const Setting& setting, const toml::node& node, std::string_view at) {
    const auto* array = node.as_array();
    if (array == nullptr) return wrong_type(setting, node, at);
    std::vector<std::string> list;
    for (const toml::node& entry : *array) {
      const auto* text = entry.as_string();
      if (text == nullptr) {
        return error(place(entry.source()),
                     fmt::format("{}[{}]: needs a string, not {}", setting.key, list.size(), type_of(entry)));
      }
      list.push_back(text->get());
    }
    return draft_.set_list(setting, std::move(list), at);
  }

  Draft& draft_;
  std::string_view origin_;
};

tl::unexpected<Error> system_error(const std::string& path, std::string_view what, int number) {
  return fail(number == ENOENT || number == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kIo,
              fmt::format("{}: {}: {}", shown(path), what, std::generic_category().message(number)), number);
}

/// The bytes of an open file, at most kMostFileBytes + 1 of them.
Result<std::string> read_all(int fd, const std::string& path) {
  std::string text;
  std::vector<char> chunk(64_KiB);
  while (text.size() <= kMostFileBytes) {
    const ssize_t got = ::read(fd, chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(path, "cannot be read", errno);
    if (got == 0) break;
    text.append(chunk.data(), static_cast<std::size_t>(got));
  }
  return text;
}

}  // namespace

Status read_toml(std::string_view text, std::string_view origin, Draft& draft) {
  const toml::parse_result parsed = toml::parse(text);
  Reader reader(draft, origin);
  if (!parsed) {
    const toml::parse_error& broken = parsed.error();
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{}:{}: {}", origin, broken.source().begin.line, shown(broken.description())));
  }
  return reader.read_table(parsed.table(), "");
}

Status read_config_file(const std::string& path, Draft& draft) {
  // Non-blocking, so that a FIFO without a writer cannot hold the start; on a regular file it means nothing.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return system_error(path, "cannot be opened", errno);
  struct stat status{};
  const bool regular = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
  auto read = regular ? read_all(fd, path)
                      : Result<std::string>(fail(ErrorCode::kInvalidArgument, shown(path) + ": is not a regular file"));
  ::close(fd);
  TIERCEL_TRY_ASSIGN(const std::string text, std::move(read));
  if (text.size() > kMostFileBytes) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("{}: is larger than {}, the most that a configuration may be",
                                                         shown(path), format_bytes(kMostFileBytes)));
  }
  return read_toml(text, path, draft);
}

}  // namespace config

Result<Config> parse_toml(std::string_view text, std::string_view origin, Config base) {
  config::Draft draft(std::move(base));
  TIERCEL_TRY(config::read_toml(text, origin, draft));
  return draft.finish();
}

Result<Config> load_config_file(const std::string& path, Config base) {
  config::Draft draft(std::move(base));
  TIERCEL_TRY(config::read_config_file(path, draft));
  return draft.finish();
}

}  // namespace tiercel
