#include "cli/status_text.h"

#include <tiercel/config.h>
#include <tiercel/stats.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <vector>

namespace tiercel::cli {
namespace {

using Json = nlohmann::json;

constexpr const char* kDash = "-";
constexpr std::size_t kBar = 24;

std::string digits(double value) { return fmt::format("{:.{}f}", value, value >= 100 ? 0 : value >= 10 ? 1 : 2); }

std::string scaled(double value, double step, const std::vector<const char*>& units) {
  std::size_t unit = 0;
  while (unit + 1 < units.size() && value >= step) {
    value /= step;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} {}", value, units[0]) : fmt::format("{} {}", digits(value), units[unit]);
}

std::string bytes(const Json& value) {
  return scaled(value.get<double>(), 1024, {"B", "KiB", "MiB", "GiB", "TiB", "PiB"});
}
std::string rate(const Json& value) {
  return value.is_null() ? kDash : scaled(value.get<double>(), 1000, {"B/s", "kB/s", "MB/s", "GB/s", "TB/s"});
}
std::string percent(const Json& value) {
  return value.is_null() ? kDash : fmt::format("{:.1f} %", 100 * value.get<double>());
}
std::string time(const Json& value) {
  if (value.is_null()) return kDash;
  const double s = value.get<double>();
  return s >= 1 ? digits(s) + " s" : s >= 1e-3 ? digits(s * 1e3) + " ms" : digits(s * 1e6) + " us";
}
std::string age(const Json& value) {
  const auto s = static_cast<long long>(value.get<double>());
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {} s", s / 60, s % 60);
  if (s < 86400) return fmt::format("{} h {} min", s / 3600, s % 3600 / 60);
  return fmt::format("{} d {} h", s / 86400, s % 86400 / 3600);
}

std::string bar(double used, double full) {
  const double share = full > 0 ? std::clamp(used / full, 0.0, 1.0) : 0;
  const auto filled = static_cast<std::size_t>(std::lround(share * static_cast<double>(kBar)));
  return "[" + std::string(filled, '#') + std::string(kBar - filled, '.') + "]";
}

/// What comes from outside (a path, an engine's name) may hold anything; a terminal obeys control characters.
std::string plain(std::string text) {
  std::ranges::replace_if(text, [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  return text;
}

using Lines = std::vector<std::string>;

void add_head(const Json& s, Lines& lines) {
  const Json& service = s.at("service");
  lines.push_back(plain(fmt::format("tiercel {}  {}  process {}, up {}", service.at("version").get<std::string>(),
                                    s.at("health").at("state").get<std::string>(),
                                    service.at("pid").get<std::int64_t>(), age(service.at("uptime_seconds")))));
  if (const std::string mode = s.value("mode", "on"); mode != "on") {
    lines.push_back("  ! the mode for all engines is " + plain(mode) + " (`tiercel mode on` ends it)");
  }
  for (const Json& cause : s.at("health").at("causes")) lines.push_back("  ! " + plain(cause.get<std::string>()));
}

void add_engines(const Json& s, Lines& lines) {
  for (const Json& engine : s.at("engines")) {
    const std::string name = plain(engine.at("engine").get<std::string>());
    const std::string mode = engine.at("mode").get<std::string>();
    const std::string suffix = mode == "on" ? "" : "  (" + mode + ")";
    const Json& pool = engine.at("kv_pool");
    if (pool.is_null()) {
      lines.push_back(fmt::format("gpu     {}{}, KV pool not reported", name, suffix));
      continue;
    }
    const double used = pool.at("used_bytes").get<double>();
    const double total = pool.at("total_bytes").get<double>();
    lines.push_back(fmt::format("gpu     {} {:>10} of {:<10} {}{}", bar(used, total), bytes(pool.at("used_bytes")),
                                bytes(pool.at("total_bytes")), name, suffix));
  }
}

void add_tiers(const Json& s, Lines& lines) {
  const Json& now = s.at("now");
  for (const Json& tier : s.at("tiers")) {
    const std::string name = tier.at("name").get<std::string>();
    const double used = tier.at("used_bytes").get<double>();
    const double full = tier.at("capacity_bytes").get<double>();
    lines.push_back(fmt::format("{:<7} {} {:>10} of {:<10} hits {:>7}", name, bar(used, full),
                                bytes(tier.at("used_bytes")), bytes(tier.at("capacity_bytes")),
                                percent(now.at("hit_ratio_" + name))));
    if (name == "host") {
      lines.push_back(fmt::format("        loaded {:<12} stored {:<12} evicted {:.0f} /s",
                                  rate(now.at("load_bytes_per_second")), rate(now.at("store_bytes_per_second")),
                                  now.at("evicted_blocks_per_second_host").is_null()
                                      ? 0.0
                                      : now.at("evicted_blocks_per_second_host").get<double>()));
    } else if (name == "disk") {
      lines.push_back(fmt::format("        promoted {:<10} written {:<11} evicted {:.0f} /s",
                                  rate(now.at("promote_bytes_per_second")), rate(now.at("demote_bytes_per_second")),
                                  now.at("evicted_blocks_per_second_disk").is_null()
                                      ? 0.0
                                      : now.at("evicted_blocks_per_second_disk").get<double>()));
    }
  }
  for (const Json& disk : s.at("disks")) {
    const std::string state = disk.at("state").get<std::string>();
    const std::string cause = disk.at("cause").get<std::string>();
    lines.push_back(plain(fmt::format("        {} {}{}", disk.at("directory").get<std::string>(), state,
                                      cause.empty() ? "" : ": " + cause)));
  }
}

void add_times(const Json& s, Lines& lines) {
  const Json& now = s.at("now");
  lines.push_back(
      fmt::format("found   {}, errors {}", percent(now.at("hit_ratio")), s.at("errors").get<std::uint64_t>()));
  for (const auto& [key, words] : std::vector<std::pair<const char*, const char*>>{
           {"match", "match"}, {"load", "load"}, {"fill", "store"}, {"demotion", "to disk"}}) {
    lines.push_back(fmt::format("{:<7} p50 {:>8}   p99 {:>8}", words, time(now.at(fmt::format("{}_p50_seconds", key))),
                                time(now.at(fmt::format("{}_p99_seconds", key)))));
  }
}

bool starts_character(char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }

/// Cuts before a character that would be beyond the end; each counts as one column.
std::string cut(const std::string& line, std::size_t columns) {
  std::size_t seen = 0;
  std::size_t i = 0;
  for (; i < line.size(); ++i) {
    if (starts_character(line[i]) && ++seen > columns) break;
  }
  return line.substr(0, i);
}

/// With one tenant and no settings there is nothing to compare: that is what the tiers show.
bool worth_showing(const Json& tenants) {
  return std::ranges::any_of(tenants, [](const Json& tenant) {
    const std::string name = tenant.at("tenant").get<std::string>();
    return tenant.at("configured").get<bool>() || (name != "default" && name != kUnnamedTenants);
  });
}

/// What it may hold of a tier; a dash where that is the whole tier, or where several stand in one line.
std::string cap_of(const Json& tier, const Json& tiers) {
  const Json& cap = tier.at("cap_bytes");
  const auto whole =
      std::ranges::find_if(tiers, [&](const Json& other) { return other.at("name") == tier.at("name"); });
  const bool limits = !cap.is_null() && (whole == tiers.end() || cap < whole->at("capacity_bytes"));
  return limits ? bytes(cap) : kDash;
}

/// A line a tenant, three columns a tier, in at most `most` lines with the head; the last says how many are left out.
void add_tenants(const Json& s, std::size_t most, Lines& lines) {
  constexpr std::size_t kName = 18;
  const Json tenants = s.value("tenants", Json::array());
  if (!worth_showing(tenants) || most < 2) return;
  std::string head = fmt::format("{:<{}}", "tenant", kName);
  for (const Json& tier : tenants.front().at("tiers")) {
    head += fmt::format("{:>10}{:>11}{:>10}", tier.at("name").get<std::string>(), "guaranteed", "cap");
  }
  lines.push_back(head);
  const std::size_t shown = tenants.size() < most ? tenants.size() : most - 2;
  for (std::size_t i = 0; i < shown; ++i) {
    std::string line = cut(plain(tenants[i].at("tenant").get<std::string>()), kName - 1);
    line.append(kName - static_cast<std::size_t>(std::ranges::count_if(line, starts_character)), ' ');
    for (const Json& tier : tenants[i].at("tiers")) {
      const Json& guarantee = tier.at("guarantee_bytes");
      line += fmt::format("{:>10}{:>11}{:>10}", bytes(tier.at("used_bytes")), guarantee == 0 ? kDash : bytes(guarantee),
                          cap_of(tier, s.at("tiers")));
    }
    lines.push_back(line);
  }
  if (shown < tenants.size()) lines.push_back(fmt::format("... and {} more", tenants.size() - shown));
}

/// Of at most so many lines, those that come first; tenants come last.
Result<Lines> lines_of(std::string_view json, std::size_t most) {
  Lines lines;
  try {
    const Json status = Json::parse(json);
    add_head(status, lines);
    add_engines(status, lines);
    add_tiers(status, lines);
    add_times(status, lines);
    add_tenants(status, most - std::min(most, lines.size()), lines);
  } catch (const Json::exception&) {
    return fail(ErrorCode::kCorrupt, "what answers there is not a service of this version");
  }
  return lines;
}

}  // namespace

Result<std::string> status_text(std::string_view json, std::size_t columns) {
  auto lines = lines_of(json, SIZE_MAX);
  if (!lines) return tl::unexpected<Error>(lines.error());
  std::string text;
  for (const std::string& line : *lines) text += cut(line, columns) + "\n";
  return text + "(rates, ratios and times: of the last ten seconds)\n";
}

Result<std::string> top_frame(std::string_view json, const TextSize& size, std::string_view note) {
  const std::size_t room = size.rows > 2 ? size.rows - 2 : 1;  // the note, and the line that the cursor stays in
  auto lines = lines_of(json, room);
  if (!lines) return tl::unexpected<Error>(lines.error());
  std::string text;
  for (std::size_t i = 0; i < std::min(room, lines->size()); ++i) text += cut((*lines)[i], size.columns) + "\n";
  return text + cut(std::string(note), size.columns) + "\n";
}

}  // namespace tiercel::cli
