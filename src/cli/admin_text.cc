#include "cli/admin_text.h"

#include <tiercel/config.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <vector>

namespace tiercel::cli {
namespace {

using Json = nlohmann::json;
using Rows = std::vector<std::vector<std::string>>;

/// An engine's name may hold anything; a terminal obeys control characters.
std::string plain(std::string text) {
  std::ranges::replace_if(text, [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  return text;
}

std::string text_or(const Json& value, const char* otherwise) {
  return value.is_null() ? otherwise : plain(value.get<std::string>());
}

/// Columns as wide as their widest entry; the last one as it is.
std::string table(const Rows& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i + 1 < row.size(); ++i) text += fmt::format("{:<{}}  ", row[i], widths[i]);
    text += row.back() + "\n";
  }
  return text;
}

template <class Make>
Result<std::string> of_json(std::string_view json, const Make& make) {
  try {
    return make(Json::parse(json));
  } catch (const Json::exception&) {
    return fail(ErrorCode::kCorrupt, "what answers there is not a service of this version");
  }
}

}  // namespace

std::string sentence_of(std::string_view json, std::string_view key) {
  const Json parsed = Json::parse(json, nullptr, false);
  if (!parsed.is_object()) return "";
  const auto found = parsed.find(key);
  return found != parsed.end() && found->is_string() ? plain(found->get<std::string>()) : "";
}

Result<std::string> mode_table(std::string_view json) {
  return of_json(json, [](const Json& answer) {
    Rows rows{{"ENGINE", "MODE", "ITS OWN", "PROCESS"}, {"(all)", answer.at("mode").get<std::string>(), "", ""}};
    for (const Json& engine : answer.at("engines")) {
      const Json& pid = engine.at("pid");
      rows.push_back({plain(engine.at("engine").get<std::string>()), engine.at("mode").get<std::string>(),
                      engine.at("own_mode").get<std::string>(),
                      pid.is_null() ? "not connected" : std::to_string(pid.get<std::int64_t>())});
    }
    return table(rows);
  });
}

Result<std::string> namespace_table(std::string_view json) {
  return of_json(json, [](const Json& answer) -> std::string {
    const Json& list = answer.at("namespaces");
    if (list.empty()) return "nothing is in the cache\n";
    Rows rows{{"NAMESPACE", "TENANT", "MODEL"}};
    for (const Json& one : list) {
      rows.push_back({one.at("fingerprint").get<std::string>(), text_or(one.at("tenant"), "?"),
                      text_or(one.at("model"), "? (found on disk, not used since the start)")});
    }
    const auto more = answer.at("more").get<std::uint64_t>();
    return table(rows) + (more > 0 ? fmt::format("and {} more\n", more) : "");
  });
}

Result<std::string> pin_table(std::string_view json) {
  return of_json(json, [](const Json& answer) -> std::string {
    const Json& list = answer.at("pins");
    if (list.empty()) return "no pin is held\n";
    Rows rows{{"PIN", "BLOCKS", "LEFT", "LAST BLOCK"}};
    for (const Json& pin : list) {
      rows.push_back({std::to_string(pin.at("pin").get<std::uint64_t>()),
                      std::to_string(pin.at("blocks").get<std::uint64_t>()), pin.at("left").get<std::string>(),
                      pin.at("block").get<std::string>()});
    }
    return table(rows);
  });
}

Result<std::string> quota_table(std::string_view json) {
  return of_json(json, [](const Json& answer) {
    const auto bytes = [](const Json& of, const char* key) { return format_bytes(of.at(key).get<std::uint64_t>()); };
    Rows rows{{"TENANT", "HOST USED", "GUARANTEE", "CAP", "DISK USED", "GUARANTEE", "CAP", "PINNED"}};
    for (const Json& one : answer.at("tenants")) {
      const Json& host = one.at("host");
      const Json& disk = one.at("disk");
      rows.push_back({plain(one.at("tenant").get<std::string>()), bytes(host, "used_bytes"),
                      bytes(host, "guarantee_bytes"), bytes(host, "cap_bytes"), bytes(disk, "used_bytes"),
                      bytes(disk, "guarantee_bytes"), bytes(disk, "cap_bytes"), bytes(one, "pinned_bytes")});
    }
    return table(rows);
  });
}

Result<std::string> level_line(std::string_view json) {
  return of_json(json, [](const Json& answer) { return answer.at("level").get<std::string>() + "\n"; });
}

}  // namespace tiercel::cli
