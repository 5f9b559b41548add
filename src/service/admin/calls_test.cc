// Goal: each admin call does what it says, answers what it did as JSON with a sentence, leaves a line in the log with
// who called, and refuses what is wrong with a sentence; by the functions alone, without HTTP.
#include "service/admin/calls.h"

#include "base/log.h"
#include "transfer/host_copy_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <memory>
#include <string>
#include <vector>

namespace tiercel::service {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using namespace std::chrono_literals;

constexpr std::uint64_t kBlockBytes = 64_KiB;

class Calls : public ::testing::Test {
 protected:
  Calls()
      : core_(*detail::CacheCore::create(
            {.host = {.capacity = 4_MiB, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = kBlockBytes},
             .limits = {.pin_max_ttl = 10min}},
            {.clock = clock_, .executor = executor_, .copies = copies_, .seed = 7})),
        cache_(core_, nullptr),
        calls_(std::make_unique<AdminCalls>(AdminCalls::Parts{.cache = cache_,
                                                              .engines = [this] { return connected_; },
                                                              .reload = [this]() -> Result<ReloadReport> {
                                                                if (!reload_error_.empty())
                                                                  return fail(ErrorCode::kInvalidArgument,
                                                                              reload_error_);
                                                                return report_;
                                                              }})),
        session_(*cache_.open_session({.model = {.name = "qwen", .kv_dtype = "f16"},
                                       .block_tokens = 1,
                                       .layout = Layout::blob(kBlockBytes),
                                       .group = {.engine_id = "vllm-0"}})) {
    connected_ = {{.engine_id = "vllm-0", .pid = 77}};
    set_log_sink([this](LogLevel, std::string_view text) { lines_.emplace_back(text); });
  }
  ~Calls() override {
    set_log_sink({});
    calls_.reset();
    (void)cache_.close(0ns);
  }

  json ask(const std::string& name, const std::string& body, int status = 200) {
    const AdminAnswer answer = calls_->call(name, body, "user 0, process 1");
    EXPECT_EQ(answer.status, status) << answer.json;
    return json::parse(answer.json);
  }
  std::string error_of(const std::string& name, const std::string& body, int status = 400) {
    return ask(name, body, status).at("error");
  }
  BlockChain store(std::size_t blocks, TokenId seed, std::string_view tenant = {}) {
    const Space space = session_.space(tenant);
    core_->namespace_names().note(space.fingerprint(), "qwen", space.tenant());
    BlockChain chain = hash_blocks(space, std::vector<TokenId>(blocks, seed));
    Reservation room = session_.reserve(chain, 0);
    EXPECT_TRUE(room.commit_all()->failures.empty());
    room = {};
    executor_.run_all();
    return chain;
  }

  ManualClock clock_;
  ManualExecutor executor_{clock_};
  HostCopyEngine copies_{executor_};
  std::shared_ptr<detail::CacheCore> core_;
  Cache cache_;
  std::vector<EngineReport> connected_;
  ReloadReport report_;
  std::string reload_error_;
  std::unique_ptr<AdminCalls> calls_;
  Session session_;
  std::vector<std::string> lines_;
};

TEST_F(Calls, mode_of_all_of_one_and_the_table) {
  const BlockChain chain = store(3, 1);
  lines_.clear();
  EXPECT_EQ(ask("mode", R"({"mode":"store-only"})").at("done"), "all engines: store_only (was on)");
  EXPECT_EQ(session_.match(chain).blocks(), 0U);
  EXPECT_EQ(ask("mode", R"({"mode":"off","engine":"vllm-0"})").at("done"), "engine vllm-0: off (was on)");
  EXPECT_EQ(ask("mode", R"({"mode":"on"})").at("mode"), "on");
  const json table = ask("mode", "");
  EXPECT_EQ(table.at("engines"), json::parse(R"([{"engine":"vllm-0","mode":"off","own_mode":"off","pid":77}])"));
  EXPECT_FALSE(table.contains("done"));
  (void)ask("mode", R"({"mode":"load_only"})");
  EXPECT_THAT(ask("mode", R"({"mode":"on","engine":"vllm-0"})").at("done").get<std::string>(),
              HasSubstr("what holds is load_only, because all engines are load_only"));
  EXPECT_EQ(session_.match(chain).blocks(), 3U);
  EXPECT_THAT(lines_, ::testing::Contains("admin: mode: all engines: store_only (was on) (by user 0, process 1)"));
  EXPECT_EQ(lines_.size(), 5U) << "the table is no change, and not logged";
  connected_.clear();
  EXPECT_EQ(ask("mode", "").at("engines").at(0).at("pid"), nullptr) << "known, and not connected";
}

TEST_F(Calls, mode_refuses_with_what_is_valid) {
  EXPECT_THAT(error_of("mode", R"({"mode":"slow"})"), HasSubstr("valid are on, store_only, load_only and off"));
  EXPECT_THAT(error_of("mode", R"({"mode":"off","engine":"vlm-0"})", 404), HasSubstr("did you mean vllm-0?"));
  EXPECT_THAT(error_of("mode", R"({"engine":"vllm-0"})"), HasSubstr("mode: is missing"));
  EXPECT_THAT(error_of("mod", "", 404), HasSubstr("did you mean mode?"));
  EXPECT_THAT(error_of("mode", R"({"mod":"on"})"), HasSubstr("unknown field \"mod\""));
  EXPECT_EQ(cache_.mode(), Mode::kOn);
  EXPECT_THAT(lines_, ::testing::Each(HasSubstr("refused: ")));
}

TEST_F(Calls, drop_a_prefix_a_namespace_a_tenant_and_everything) {
  const BlockChain chain = store(5, 1);
  const BlockChain search = store(4, 1, "search");
  const BlockChain other = store(2, 3, "other");
  EXPECT_THAT(error_of("drop", "{}"), HasSubstr("0 targets; needs exactly one"));
  EXPECT_THAT(error_of("drop", R"({"all":true,"tenant":"search"})"), HasSubstr("2 targets"));
  EXPECT_THAT(error_of("drop", R"({"all":false})"), HasSubstr("0 targets"));
  EXPECT_THAT(error_of("drop", R"({"tenant":"nobody"})", 404), HasSubstr("nothing of \"nobody\" is known"));
  EXPECT_EQ(ask("namespaces", "").at("namespaces").size(), 3U);

  const json part = ask("drop", R"({"block":")" + to_hex(chain[3]) + R"("})");
  EXPECT_EQ(part.at("done"), "dropped 2 blocks (128.0 KiB) of the run from " + to_hex(chain[3]) + " on");
  EXPECT_EQ(part.at("bytes"), 2 * kBlockBytes);
  EXPECT_EQ(session_.match(chain).blocks(), 3U);
  EXPECT_THAT(error_of("drop", R"({"block":")" + to_hex(chain[3]) + R"("})", 404), HasSubstr("not in the cache"));

  EXPECT_EQ(ask("drop", R"({"tenant":"search"})").at("blocks"), 4U);
  EXPECT_EQ(session_.match(search).blocks(), 0U);
  EXPECT_EQ(session_.match(other).blocks(), 2U);
  EXPECT_EQ(ask("drop", R"({"namespace":")" + to_hex(other.space().fingerprint()) + R"("})").at("blocks"), 2U);
  const json rest = ask("drop", R"({"all":true})");
  EXPECT_EQ(rest.at("blocks"), 3U);
  EXPECT_EQ(rest.at("left"), 0U);
  EXPECT_EQ(cache_.stats().tiers[0].blocks, 0U);
  core_->check_consistency();
}

TEST_F(Calls, quotas_of_tenants_are_shown_and_changed) {
  (void)store(4, 1, "search");
  const auto of_search = [](const json& answer) {
    for (const json& tenant : answer.at("tenants")) {
      if (tenant.at("tenant") == "search") return tenant;
    }
    return json();
  };
  const json before = of_search(ask("quota", "{}"));
  EXPECT_EQ(before.at("host").at("used_bytes"), 4 * kBlockBytes);
  const std::uint64_t all = before.at("host").at("cap_bytes").get<std::uint64_t>();

  const json set = ask("quota", R"({"tenant":"search","host_cap":"50%","host_guarantee":"25%"})");
  EXPECT_EQ(set.at("done"), "tenant search: host_guarantee 25% (was 0), host_cap 50% (was 100%)");
  EXPECT_EQ(of_search(set).at("host").at("cap_bytes"), all / 2);
  EXPECT_EQ(ask("quota", R"({"tenant":"search","host_guarantee":"10%"})").at("done"),
            "tenant search: host_guarantee 10% (was 25%)");
  EXPECT_EQ(of_search(ask("quota", R"({"tenant":"search"})")).at("host").at("cap_bytes"), all / 2);

  EXPECT_THAT(error_of("quota", R"({"tenant":"search","host_guarantee":"60%"})"), HasSubstr("tenants.search.host_cap"));
  EXPECT_THAT(error_of("quota", R"({"tenant":"search","host_cap":"much"})"), HasSubstr("host_cap"));
  EXPECT_THAT(error_of("quota", R"({"host_cap":"50%"})"), HasSubstr("tenant: is missing"));
  EXPECT_THAT(error_of("quota", R"({"tenant":"nobody"})", 404), HasSubstr("nothing of \"nobody\" is known"));
  EXPECT_EQ(of_search(ask("quota", "")).at("host").at("cap_bytes"), all / 2);
}

TEST_F(Calls, what_is_still_read_is_pending) {
  const BlockChain chain = store(3, 1);
  Load load = session_.load(chain, 2, 1s);
  ASSERT_EQ(load.wait().size(), 2U);
  const json dropped = ask("drop", R"({"all":true})");
  EXPECT_EQ(dropped.at("pending"), 2U);
  EXPECT_THAT(dropped.at("done").get<std::string>(),
              HasSubstr("dropped 3 blocks (192.0 KiB) of everything, 2 pending: still being read"));
}

TEST_F(Calls, a_pin_holds_a_run_until_it_is_ended_or_its_time_is_over) {
  const BlockChain chain = store(5, 1);
  const std::string last = to_hex(chain[4]);
  const json pinned = ask("pin", R"({"block":")" + last + R"(","ttl":"1min"})");
  EXPECT_EQ(pinned.at("done"), "pinned 5 blocks for 1min: pin 1");
  EXPECT_EQ(cache_.stats().logical_pins, 5U);
  EXPECT_EQ(ask("pins", "").at("pins"),
            json::parse(R"([{"pin":1,"block":")" + last + R"(","blocks":5,"left":"1min"}])"));
  EXPECT_EQ(ask("unpin", R"({"pin":1})").at("done"), "ended pin 1 (5 blocks)");
  EXPECT_EQ(cache_.stats().logical_pins, 0U);
  EXPECT_THAT(error_of("unpin", R"({"pin":1})", 404), HasSubstr("no pin 1"));

  EXPECT_EQ(ask("pin", R"({"block":")" + last + R"("})").at("pin"), 2U);
  clock_.advance(600'000'000'000);
  EXPECT_THAT(ask("pins", "").at("pins"), IsEmpty()) << "limits.pin_max_ttl is what a pin without a ttl gets";
  EXPECT_EQ(cache_.stats().logical_pins, 0U);

  for (const char* ttl : {"11min", "5", "0s", "soon"}) {
    EXPECT_THAT(error_of("pin", R"({"block":")" + last + R"(","ttl":")" + ttl + R"("})"), HasSubstr("up to 10min"));
  }
  EXPECT_THAT(error_of("pin", R"({"block":"ab"})"), HasSubstr("64 hexadecimal digits"));
  EXPECT_THAT(error_of("pin", R"({"block":")" + std::string(64, 'a') + R"("})", 404), HasSubstr("not in the cache"));
}

TEST_F(Calls, pins_of_people_are_bounded_and_end_with_the_service) {
  const BlockChain chain = store(1, 1);
  const std::string body = R"({"block":")" + to_hex(chain[0]) + R"("})";
  for (std::size_t i = 0; i < AdminCalls::kMostPins; ++i) (void)ask("pin", body);
  EXPECT_THAT(error_of("pin", body, 409), HasSubstr("1024 pins"));
  calls_.reset();
  EXPECT_EQ(cache_.stats().logical_pins, 0U);
}

TEST_F(Calls, the_log_level_is_shown_and_set) {
  const LogLevel before = log_level();
  EXPECT_THAT(error_of("log-level", R"({"level":"loud"})"), HasSubstr("valid are debug, info, warn and error"));
  EXPECT_EQ(ask("log-level", R"({"level":"error"})").at("level"), "error");
  EXPECT_EQ(log_level(), LogLevel::kError);
  EXPECT_EQ(ask("log-level", "").at("level"), "error");
  set_log_level(before);
}

TEST_F(Calls, reload_says_what_it_applied_and_what_needs_a_restart) {
  EXPECT_EQ(ask("reload", "").at("done"), "nothing has changed in the configuration");
  report_ = {.applied = {{.key = "limits.sessions", .before = "256", .after = "300"}},
             .restart = {{.key = "host.capacity", .before = "1GiB", .after = "2GiB"}}};
  const json done = ask("reload", "");
  EXPECT_EQ(done.at("done"),
            "applied: limits.sessions (256 before, now 300); needs a restart: host.capacity (1GiB before, now 2GiB)");
  EXPECT_EQ(done.at("restart").at(0).at("key"), "host.capacity");
  reload_error_ = "/etc/tiercel.toml:3: limits.sessions: 0 is wrong";
  EXPECT_EQ(error_of("reload", ""), reload_error_);
}

}  // namespace
}  // namespace tiercel::service
