// `tiercel mode`, `drop`, `pin`, `quota`, `log-level` and `reload`: what people do to a running service, over its admin
// socket.
#include "cli/admin_client.h"
#include "cli/admin_text.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "service/server/socket_door.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <map>

namespace tiercel::cli {
namespace {

using Json = nlohmann::json;
using Lines = Result<std::string> (*)(std::string_view json);

constexpr const char* kStatuses =
    " Exit status 0: done, 1: the service refused, 2: it does not answer or may not be operated.";

/// What all of these commands have.
struct Common {
  std::string socket;
  bool json = false;
  bool help = false;

  void add_to(Arguments& arguments) {
    arguments.app().add_option(
        "--socket", socket,
        "path of the service's socket for engines, as service.socket; the admin socket is beside it");
    arguments.app().add_flag("--json", json, "the service's own JSON in place of words");
  }
};

/// Asks, and prints the sentence of what was done, or `lines` of what was asked.
int ask(const Common& common, std::string_view call, const Json& body, Lines lines = nullptr) {
  Config config;
  config.service.socket = common.socket;
  // A name from the command line may be no UTF-8: then it is no engine's either.
  const std::string text = body.dump(-1, ' ', false, Json::error_handler_t::replace);
  const auto reply = ask_admin(service::admin_path(service::socket_path(config)), call, text);
  if (!reply) return complain(reply.error(), 2);
  if (reply->status != 200) {
    const std::string why = sentence_of(reply->body, "error");
    if (common.json) say(reply->body);
    return complain({.message = why.empty() ? fmt::format("the service answers {}", reply->status) : why},
                    reply->status == 403 ? 2 : 1);
  }
  if (common.json) {
    say(reply->body);
    return 0;
  }
  const std::string done = sentence_of(reply->body, "done");
  if (!done.empty()) say(done + "\n");
  if (lines == nullptr || !done.empty()) return 0;
  const auto shown = lines(reply->body);
  if (!shown) return complain(shown.error(), 2);
  say(*shown);
  return 0;
}

/// Parses; empty: go on. Else the exit status.
std::optional<int> begin(Arguments& arguments, std::span<const std::string> words, Common& common) {
  if (Status status = arguments.parse(words, common.help); !status) return complain(status.error(), kUsageStatus);
  if (!common.help) return std::nullopt;
  say(arguments.help());
  return 0;
}

}  // namespace

int run_mode(std::span<const std::string> words) {
  Common common;
  std::string mode;
  std::string engine;
  Arguments arguments("tiercel mode [on|store_only|load_only|off] [--engine NAME] [--socket PATH] [--json]",
                      std::string("What engines may do with the cache, from their next call on: of all of them, or of "
                                  "one; the stricter of the two holds. Without a mode: what holds now. A restart of "
                                  "the service begins with on.") +
                          kStatuses);
  arguments.app().add_option("MODE", mode,
                             "on, store_only (matches find nothing), load_only (nothing is stored) or off");
  arguments.app().add_option("--engine", engine, "one engine, by its name in `tiercel mode`, and not all");
  common.add_to(arguments);
  if (const auto status = begin(arguments, words, common)) return *status;
  Json body = Json::object();
  if (!mode.empty()) body["mode"] = mode;
  if (!engine.empty()) body["engine"] = engine;
  return ask(common, "mode", body, mode_table);
}

int run_drop(std::span<const std::string> words) {
  Common common;
  bool all = false;
  std::string tenant;
  std::string fingerprint;
  std::string block;
  Arguments arguments(
      "tiercel drop [--all | --tenant NAME | --namespace FINGERPRINT | --block HASH] [--socket PATH] [--json]",
      std::string("Deletes blocks in every tier, durably, and says how many. Without a target: which "
                  "namespaces there are.") +
          kStatuses);
  arguments.app().add_flag("--all", all, "everything");
  arguments.app().add_option("--tenant", tenant, "all that is known to be of this tenant");
  arguments.app().add_option("--namespace", fingerprint,
                             "one namespace (a model, a layout, a tenant), by its fingerprint");
  arguments.app().add_option("--block", block, "one block, by its hash, and all that continues it");
  common.add_to(arguments);
  if (const auto status = begin(arguments, words, common)) return *status;
  Json body = Json::object();
  if (all) body["all"] = true;
  if (!tenant.empty()) body["tenant"] = tenant;
  if (!fingerprint.empty()) body["namespace"] = fingerprint;
  if (!block.empty()) body["block"] = block;
  return body.empty() ? ask(common, "namespaces", body, namespace_table) : ask(common, "drop", body);
}

int run_pin(std::span<const std::string> words) {
  Common common;
  std::string block;
  std::string ttl;
  std::uint64_t ended = 0;
  Arguments arguments("tiercel pin [HASH [--ttl TIME] | --end PIN] [--socket PATH] [--json]",
                      std::string("Keeps the run of blocks that ends with this one in host memory, until its time is "
                                  "over. Without a block: which pins are held. Pins of engines are not among them.") +
                          kStatuses);
  arguments.app().add_option("HASH", block, "of the last block of the run");
  arguments.app().add_option("--ttl", ttl, "how long, such as 10min [limits.pin_max_ttl of the service]");
  const auto* end = arguments.app().add_option("--end", ended, "ends this pin");
  common.add_to(arguments);
  if (const auto status = begin(arguments, words, common)) return *status;
  if (end->count() > 0) {
    if (!block.empty() || !ttl.empty()) {
      return complain({.message = "--end: ends a pin; it goes with no block and no --ttl"}, kUsageStatus);
    }
    return ask(common, "unpin", {{"pin", ended}});
  }
  Json body = Json::object();
  if (!block.empty()) body["block"] = block;
  if (!ttl.empty()) body["ttl"] = ttl;
  return body.empty() ? ask(common, "pins", body, pin_table) : ask(common, "pin", body);
}

int run_quota(std::span<const std::string> words) {
  Common common;
  std::string tenant;
  std::map<std::string, std::string> shares{
      {"host_guarantee", ""}, {"host_cap", ""}, {"disk_guarantee", ""}, {"disk_cap", ""}, {"pinned_cap", ""}};
  Arguments arguments(
      "tiercel quota [TENANT [--host-cap SHARE] ...] [--socket PATH] [--json]",
      std::string("What a tenant is promised and allowed from now on: a percentage of the tier, or "
                  "bytes. What is not named stays. Without a share: what it holds and may hold; without "
                  "a tenant: of all. A restart begins with the configuration file.") +
          kStatuses);
  arguments.app().add_option("TENANT", tenant, "\"default\" is the tenant of sessions that name none");
  arguments.app().add_option("--host-guarantee", shares["host_guarantee"], "of host memory, that nobody takes from it");
  arguments.app().add_option("--host-cap", shares["host_cap"], "of host memory, that it may hold");
  arguments.app().add_option("--disk-guarantee", shares["disk_guarantee"], "of the disk tier, that nobody takes");
  arguments.app().add_option("--disk-cap", shares["disk_cap"], "of the disk tier, that it may hold");
  arguments.app().add_option("--pinned-cap", shares["pinned_cap"], "of host memory, that its pins may hold");
  common.add_to(arguments);
  if (const auto status = begin(arguments, words, common)) return *status;
  Json body = Json::object();
  if (!tenant.empty()) body["tenant"] = tenant;
  for (const auto& [name, share] : shares) {
    if (!share.empty()) body[name] = share;
  }
  return ask(common, "quota", body, quota_table);
}

int run_log_level(std::span<const std::string> words) {
  Common common;
  std::string level;
  Arguments arguments("tiercel log-level [debug|info|warn|error] [--socket PATH] [--json]",
                      std::string("The least important lines that the service logs, until it is set again or the "
                                  "service ends. Without a level: which one it is.") +
                          kStatuses);
  arguments.app().add_option("LEVEL", level, "debug, info, warn or error");
  common.add_to(arguments);
  if (const auto status = begin(arguments, words, common)) return *status;
  Json body = Json::object();
  if (!level.empty()) body["level"] = level;
  return ask(common, "log-level", body, level_line);
}

int run_reload(std::span<const std::string> words) {
  Common common;
  Arguments arguments(
      "tiercel reload [--socket PATH] [--json]",
      std::string("The service reads its configuration files again, takes over what may change while it "
                  "runs, and names what needs a restart. A file that is wrong changes nothing. SIGHUP "
                  "does the same.") +
          kStatuses);
  common.add_to(arguments);
  if (const auto status = begin(arguments, words, common)) return *status;
  return ask(common, "reload", Json::object());
}

}  // namespace tiercel::cli
