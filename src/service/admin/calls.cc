#include "service/admin/calls.h"

#include "base/log.h"
#include "base/try.h"
#include "cache/cache_access.h"
#include "config/setting_value.h"
#include "service/admin/quota.h"
#include "service/admin/words.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <new>
#include <utility>

namespace tiercel::service {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMostListed = 1000;

std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);  // a name may hold any bytes
}

int status_of(const Error& error) {
  switch (error.code) {
    case ErrorCode::kNotFound:
      return 404;
    case ErrorCode::kLimit:
      return 409;
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kUnknownKey:
    case ErrorCode::kUnsupported:
      return 400;
    case ErrorCode::kClosed:
      return 503;
    default:
      return 500;
  }
}

AdminAnswer refusal(int status, const std::string& sentence) {
  return {.status = status, .json = text_of({{"error", sentence}})};
}

std::string age(std::uint64_t ns) { return config::format_milliseconds((ns + 999'999'999) / 1'000'000'000 * 1000); }

/// "store-only" is what people type.
Result<Mode> mode_of(std::string text) {
  std::ranges::replace(text, '-', '_');
  for (std::size_t i = 0; i < kModes; ++i) {
    if (text == mode_name(static_cast<Mode>(i))) return static_cast<Mode>(i);
  }
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("mode: \"{}\" is none; valid are on, store_only, load_only and off", config::shown(text)));
}

Json json_of(const detail::NamespaceReport& report) {
  return {{"fingerprint", to_hex(report.fingerprint)},
          {"model", report.model.empty() ? Json(nullptr) : Json(report.model)},
          {"tenant", report.tenant.empty() ? Json(nullptr) : Json(report.tenant)}};
}

Json json_of(const std::vector<ReloadReport::Change>& changes) {
  Json json = Json::array();
  for (const auto& change : changes) {
    json.push_back({{"key", change.key}, {"before", change.before}, {"after", change.after}});
  }
  return json;
}

std::string list_of(const std::vector<ReloadReport::Change>& changes) {
  std::string list;
  for (const auto& change : changes) {
    list += fmt::format("{}{} ({} before, now {})", list.empty() ? "" : ", ", change.key,
                        change.before.empty() ? "empty" : change.before, change.after.empty() ? "empty" : change.after);
  }
  return list;
}

}  // namespace

std::string words_of(const ReloadReport& report) {
  if (report.applied.empty() && report.restart.empty()) return "nothing has changed in the configuration";
  std::string words;
  if (!report.applied.empty()) words = "applied: " + list_of(report.applied);
  if (!report.restart.empty()) {
    words += fmt::format("{}needs a restart: {}", words.empty() ? "" : "; ", list_of(report.restart));
  }
  return words;
}

struct AdminCalls::Answer {
  Json json = Json::object();
  std::string log = {};  ///< empty: nothing was changed, and nothing is logged
};

struct AdminCalls::Call {
  std::string_view name;
  Result<Answer> (AdminCalls::*run)(const Fields&);
  std::vector<Field> fields;
};

const std::vector<AdminCalls::Call>& AdminCalls::table() {
  static const std::vector<Call> kTable = {
      {"mode", &AdminCalls::mode, {{.name = "engine"}, {.name = "mode"}}},
      {"drop",
       &AdminCalls::drop,
       {{.name = "all", .kind = FieldKind::kTruth}, {.name = "block"}, {.name = "namespace"}, {.name = "tenant"}}},
      {"namespaces", &AdminCalls::namespaces, {}},
      {"pin", &AdminCalls::pin, {{.name = "block"}, {.name = "ttl"}}},
      {"pins", &AdminCalls::pins, {}},
      {"unpin", &AdminCalls::unpin, {{.name = "pin", .kind = FieldKind::kNumber}}},
      {"quota",
       &AdminCalls::quota,
       {{.name = "disk_cap"},
        {.name = "disk_guarantee"},
        {.name = "host_cap"},
        {.name = "host_guarantee"},
        {.name = "pinned_cap"},
        {.name = "tenant"}}},
      {"log-level", &AdminCalls::set_level, {{.name = "level"}}},
      {"reload", &AdminCalls::reload, {}},
  };
  return kTable;
}

AdminCalls::AdminCalls(Parts parts) : parts_(std::move(parts)), core_(detail::CacheAccess::core(parts_.cache)) {}

AdminCalls::~AdminCalls() {
  const MutexLock lock(mutex_);
  for (auto& [_, held] : pins_) core_->unpin(*held.record);
}

AdminAnswer AdminCalls::call(std::string_view name, std::string_view body, std::string_view who) {
  try {
    const auto& calls = table();
    const auto found = std::ranges::find(calls, name, &Call::name);
    if (found == calls.end()) {
      std::vector<std::string> names;
      for (const Call& call : calls) names.emplace_back(call.name);
      return refusal(404,
                     fmt::format("there is no admin call \"{}\"{}", config::shown(name), did_you_mean(name, names)));
    }
    if (core_->closed()) return refusal(503, "the service is ending");
    auto fields = Fields::parse(body, found->fields);
    auto answer = fields ? (this->*found->run)(*fields) : Result<Answer>(tl::unexpected<Error>(fields.error()));
    std::string log = answer ? answer->log : "refused: " + answer.error().message;
    if (!log.empty()) {
      const std::string line = fmt::format("admin: {}: {} (by {})", found->name, log, who);
      log_line(answer ? LogLevel::kInfo : LogLevel::kWarn, line, line);  // a cause of its own
    }
    if (!answer) return refusal(status_of(answer.error()), answer.error().message);
    return {.json = text_of(answer->json)};
  } catch (const std::bad_alloc&) {
    return {.status = 500, .json = R"({"error":"no memory for this call"})"};
  }
}

// ---- modes

AdminCalls::Answer AdminCalls::modes() const {
  const Mode all = parts_.cache.mode();
  const std::vector<EngineReport> connected = parts_.engines();
  Json engines = Json::array();
  const auto add = [&](const std::string& engine, Mode own, Json pid) {
    engines.push_back({{"engine", engine},
                       {"mode", mode_name(stricter(own, all))},
                       {"own_mode", mode_name(own)},
                       {"pid", std::move(pid)}});
  };
  for (const EngineReport& engine : connected) {
    if (engines.size() < kMostListed) add(engine.engine_id, parts_.cache.mode(engine.engine_id), engine.pid);
  }
  for (const detail::Modes::Engine& engine : core_->modes().engines()) {  // away, or in this process
    if (engines.size() >= kMostListed ||
        std::ranges::find(connected, engine.name, &EngineReport::engine_id) != connected.end())
      continue;
    add(engine.name, engine.mode, nullptr);
  }
  Answer answer;
  answer.json["mode"] = mode_name(all);
  answer.json["engines"] = std::move(engines);
  return answer;
}

Result<AdminCalls::Answer> AdminCalls::mode(const Fields& fields) {
  const auto engine = fields.text("engine");
  const auto text = fields.text("mode");
  if (!text && engine) return fail(ErrorCode::kInvalidArgument, "mode: is missing; it says what the engine may do");
  if (!text) return modes();
  TIERCEL_TRY_ASSIGN(const Mode mode, mode_of(*text));
  Mode before = parts_.cache.mode();
  std::string of = "all engines";
  if (engine) {
    before = parts_.cache.mode(*engine);
    of = "engine " + config::shown(*engine);
    TIERCEL_TRY(parts_.cache.set_mode(*engine, mode));
  } else {
    parts_.cache.set_mode(mode);
  }
  std::string done = fmt::format("{}: {} (was {})", of, mode_name(mode), mode_name(before));
  if (engine && stricter(mode, parts_.cache.mode()) != mode) {
    done += fmt::format("; what holds is {}, because all engines are {}",
                        mode_name(stricter(mode, parts_.cache.mode())), mode_name(parts_.cache.mode()));
  }
  Answer answer = modes();
  Json with_words = {{"done", done}};
  with_words.update(answer.json);
  return Answer{.json = std::move(with_words), .log = done};
}

// ---- deletes

Result<AdminCalls::Answer> AdminCalls::namespaces(const Fields&) {
  const auto all = core_->namespaces();
  Answer answer;
  Json& list = answer.json["namespaces"] = Json::array();
  for (const detail::NamespaceReport& report : all) {
    if (list.size() < kMostListed) list.push_back(json_of(report));
  }
  answer.json["more"] = all.size() - std::min(all.size(), kMostListed);
  return answer;
}

namespace {

Json json_of(const Dropped& dropped, std::string done) {
  return {
      {"done", std::move(done)}, {"blocks", dropped.blocks}, {"bytes", dropped.bytes}, {"pending", dropped.pending}};
}

/// `of`: what was dropped.
std::string words_of(const Dropped& dropped, const std::string& of) {
  std::string words =
      fmt::format("dropped {} ({}) of {}", counted(dropped.blocks, "block", "blocks"), about_bytes(dropped.bytes), of);
  if (dropped.pending > 0) {
    words += fmt::format(", {} pending: still being read or written, or on a disk that has not answered yet",
                         grouped(dropped.pending));
  }
  return words;
}

}  // namespace

/// What is not said to be gone: namespaces that only an unindexed directory knows. Empty: there is none.
std::string AdminCalls::not_indexed() const {
  std::string unknown;
  for (const DiskReport& disk : parts_.cache.disks()) {
    if (!disk.indexed) unknown += fmt::format("{}{}", unknown.empty() ? "" : ", ", disk.directory);
  }
  return unknown;
}

/// Of whatever model, on disk also what no session has used since the start; a directory that is indexed later drops
/// what the delete covers.
Result<AdminCalls::Answer> AdminCalls::drop_tenant(const std::string& tenant) {
  const auto accounts = parts_.cache.tenants();
  const bool known = std::ranges::find(accounts, tenant, &TenantReport::name) != accounts.end();
  TIERCEL_TRY_ASSIGN(const Dropped dropped, parts_.cache.drop_tenant(tenant));
  const std::string beside =
      dropped.unnamed_namespaces == 0
          ? ""
          : fmt::format("; {} on disk, of an earlier version and not used since the start, name no tenant and stay",
                        counted(dropped.unnamed_namespaces, "namespace", "namespaces"));
  if (!known && dropped.blocks == 0 && dropped.pending == 0) {
    return fail(ErrorCode::kNotFound,
                fmt::format("tenant: nothing of \"{}\" is known{}", config::shown(tenant), beside));
  }
  const std::string words = words_of(dropped, "tenant " + config::shown(tenant)) + beside;
  Answer answer{.json = json_of(dropped, words), .log = words};
  answer.json["unnamed_namespaces"] = dropped.unnamed_namespaces;
  return answer;
}

/// Each delete waits for the logs of the directories; all of them together at most about twice disk.io_deadline.
AdminCalls::Answer AdminCalls::drop_namespaces(const std::vector<detail::NamespaceReport>& which,
                                               const std::string& of) {
  const std::uint64_t patience_ns =
      static_cast<std::uint64_t>(std::chrono::nanoseconds(core_->config().disk.io_deadline).count());
  const std::uint64_t end_ns = deadline_after(core_->clock().now_ns(), patience_ns);
  Dropped sum;
  std::size_t done = 0;
  for (; done < which.size() && core_->clock().now_ns() < end_ns; ++done) {
    const Dropped dropped = core_->drop_namespace(which[done].fingerprint);
    sum.blocks += dropped.blocks;
    sum.pending += dropped.pending;
    sum.bytes += dropped.bytes;
  }
  std::string words = words_of(sum, of);
  if (done < which.size()) {
    words += fmt::format("; {} are left, because the disks are slow: ask again",
                         counted(which.size() - done, "namespace", "namespaces"));
  }
  if (const std::string unknown = not_indexed(); !unknown.empty()) {
    words += fmt::format("; not yet indexed: {} (namespaces that are only there are not known, and stay)", unknown);
  }
  Answer answer{.json = json_of(sum, words), .log = words};
  answer.json["namespaces"] = done;
  answer.json["left"] = which.size() - done;
  return answer;
}

Result<AdminCalls::Answer> AdminCalls::drop(const Fields& fields) {
  const int targets = static_cast<int>(fields.truth("all")) + static_cast<int>(fields.has("block")) +
                      static_cast<int>(fields.has("namespace")) + static_cast<int>(fields.has("tenant"));
  if (targets != 1) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("drop: {} targets; needs exactly one of \"all\": true, \"tenant\", \"namespace\" (a "
                            "fingerprint) and \"block\" (a hash, with all that continues it)",
                            targets));
  }
  if (fields.has("block")) {
    TIERCEL_TRY_ASSIGN(const BlockHash block, fields.hash("block"));
    const auto space = core_->namespace_of(block);
    if (!space) return fail(ErrorCode::kNotFound, fmt::format("block: {} is not in the cache", to_hex(block)));
    const Dropped dropped = core_->drop_subtree(*space, block);
    const std::string words = words_of(dropped, "the run from " + to_hex(block) + " on");
    return Answer{.json = json_of(dropped, words), .log = words};
  }
  auto known = core_->namespaces();
  if (fields.has("namespace")) {
    TIERCEL_TRY_ASSIGN(const BlockHash fingerprint, fields.hash("namespace"));
    std::erase_if(known, [&](const auto& report) { return report.fingerprint != fingerprint; });
    if (known.empty()) {
      return fail(ErrorCode::kNotFound,
                  fmt::format("namespace: {} is not in the cache (`namespaces` lists what is)", to_hex(fingerprint)));
    }
    return drop_namespaces(known, "namespace " + to_hex(fingerprint));
  }
  if (const auto tenant = fields.text("tenant")) return drop_tenant(*tenant);
  return drop_namespaces(known, "everything");
}

// ---- pins

void AdminCalls::forget_ended_pins() {
  core_->expire_pins();
  std::erase_if(pins_, [this](const auto& entry) { return core_->has_ended(*entry.second.record); });
}

Result<AdminCalls::Answer> AdminCalls::pin(const Fields& fields) {
  TIERCEL_TRY_ASSIGN(const BlockHash block, fields.hash("block"));
  const std::chrono::milliseconds most = core_->pin_max_ttl();
  const std::string text =
      fields.text("ttl").value_or(config::format_milliseconds(static_cast<std::uint64_t>(most.count())));
  const auto ttl = config::parse_milliseconds(text);
  if (!ttl || *ttl == 0 || *ttl > static_cast<std::uint64_t>(most.count())) {
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("ttl: \"{}\"; valid is a time with its unit, such as \"10min\", up to {} "
                    "(limits.pin_max_ttl)",
                    config::shown(text), config::format_milliseconds(static_cast<std::uint64_t>(most.count()))));
  }
  const MutexLock lock(mutex_);
  forget_ended_pins();
  if (pins_.size() >= kMostPins) {
    return fail(ErrorCode::kLimit, fmt::format("pin: {} pins of this kind are held, which is the limit", pins_.size()));
  }
  const auto space = core_->namespace_of(block);
  if (!space) return fail(ErrorCode::kNotFound, fmt::format("block: {} is not in the cache", to_hex(block)));
  TIERCEL_TRY_ASSIGN(const auto run, core_->run_to(block, kMostBlocksOfAPin));
  const std::uint64_t expires_ns = deadline_after(core_->clock().now_ns(), *ttl * 1'000'000);
  TIERCEL_TRY_ASSIGN(auto record, core_->pin(*space, run, expires_ns));
  const std::size_t blocks = record->blocks;
  if (blocks == 0) {
    core_->unpin(*record);
    return fail(ErrorCode::kNotFound,
                "block: the first block of its run is not in host memory; only what is there is "
                "pinned");
  }
  const std::uint64_t number = next_pin_++;
  try {
    pins_.emplace(number, Held{.block = block, .record = record, .expires_ns = expires_ns});
  } catch (const std::bad_alloc&) {
    core_->unpin(*record);
    throw;
  }
  std::string done = fmt::format("pinned {} for {}: pin {}", counted(blocks, "block", "blocks"), text, number);
  if (blocks < run.size()) {
    done += fmt::format("; the other {} of its run are not in host memory", grouped(run.size() - blocks));
  }
  Answer answer{.log = fmt::format("{}, up to {}", done, to_hex(block))};
  answer.json = {{"done", done}, {"pin", number}, {"blocks", blocks}, {"run", run.size()}};
  return answer;
}

Result<AdminCalls::Answer> AdminCalls::pins(const Fields&) {
  Answer answer;
  Json& list = answer.json["pins"] = Json::array();
  const MutexLock lock(mutex_);
  forget_ended_pins();
  const std::uint64_t now = core_->clock().now_ns();
  for (const auto& [number, held] : pins_) {
    list.push_back({{"pin", number},
                    {"block", to_hex(held.block)},
                    {"blocks", held.record->blocks},
                    {"left", age(held.expires_ns - std::min(now, held.expires_ns))}});
  }
  return answer;
}

Result<AdminCalls::Answer> AdminCalls::unpin(const Fields& fields) {
  const auto number = fields.number("pin");
  if (!number)
    return fail(ErrorCode::kInvalidArgument, "pin: is missing; needs the number of a pin, as `pins` lists it");
  const MutexLock lock(mutex_);
  forget_ended_pins();
  const auto found = pins_.find(*number);
  if (found == pins_.end()) {
    return fail(ErrorCode::kNotFound, fmt::format("pin: there is no pin {}; it may have ended by its time", *number));
  }
  core_->unpin(*found->second.record);
  const std::string done =
      fmt::format("ended pin {} ({})", *number, counted(found->second.record->blocks, "block", "blocks"));
  pins_.erase(found);
  Answer answer{.log = done};
  answer.json = {{"done", done}};
  return answer;
}

// ---- quotas

namespace {

Json json_of(const TenantReport& tenant) {
  const auto tier = [&](TierId id) {
    const TenantTierReport& report = tenant.tiers[static_cast<std::size_t>(id)];
    return Json{{"used_bytes", report.used_bytes},
                {"guarantee_bytes", report.guarantee_bytes},
                {"cap_bytes", report.cap_bytes}};
  };
  return {{"tenant", tenant.name},
          {"configured", tenant.configured},
          {"host", tier(TierId::kHost)},
          {"disk", tier(TierId::kDisk)},
          {"pinned_bytes", tenant.pinned_bytes},
          {"pinned_cap_bytes", tenant.pinned_cap_bytes}};
}

}  // namespace

Result<AdminCalls::Answer> AdminCalls::quota(const Fields& fields) {
  TIERCEL_TRY_ASSIGN(const Quotas quotas, take_quota(parts_.cache, *core_, fields));
  Answer answer{.log = quotas.done};
  if (!quotas.done.empty()) answer.json["done"] = quotas.done;
  Json& list = answer.json["tenants"] = Json::array();
  for (const TenantReport& tenant : quotas.tenants) {
    if (list.size() < kMostListed) list.push_back(json_of(tenant));
  }
  return answer;
}

// ---- log level and configuration

Result<AdminCalls::Answer> AdminCalls::set_level(const Fields& fields) {
  Answer answer;
  const LogLevel before = log_level();
  if (const auto text = fields.text("level")) {
    std::size_t level = 0;
    while (level < kLogLevels && *text != log_level_name(static_cast<LogLevel>(level))) ++level;
    if (level == kLogLevels) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("level: \"{}\" is none; valid are debug, info, warn and error", config::shown(*text)));
    }
    set_log_level(static_cast<LogLevel>(level));
    answer.log = fmt::format("log level {} (was {})", *text, log_level_name(before));
    answer.json["done"] = answer.log;
  }
  answer.json["level"] = log_level_name(log_level());
  return answer;
}

Result<AdminCalls::Answer> AdminCalls::reload(const Fields&) {
  TIERCEL_TRY_ASSIGN(const ReloadReport report, parts_.reload());
  Answer answer{.log = service::words_of(report)};
  answer.json = {{"done", answer.log}, {"applied", json_of(report.applied)}, {"restart", json_of(report.restart)}};
  return answer;
}

}  // namespace tiercel::service
