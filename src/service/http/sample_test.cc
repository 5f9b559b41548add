// Goal: what the page plots follows from two snapshots of the counters; what cannot be known is not a zero; health and
// time saved say what was reported and nothing else; a browser's foreign page is refused with the way out.
#include "service/http/sample.h"
#include "service/http/guard.h"
#include "service/http/health.h"
#include "service/http/status_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>

namespace tiercel::service {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

double column(std::string_view name, const Stats& before, const Stats& after, double seconds = 2) {
  for (const Column& each : columns()) {
    if (each.name == name) return each.value(before, after, seconds);
  }
  ADD_FAILURE() << name;
  return 0;
}

TEST(Sample, ratios_are_of_what_was_asked_for_between_the_snapshots) {
  Stats before;
  before.tiers[0].hit_blocks = 100;
  before.missed_blocks = 50;
  Stats after = before;
  after.tiers[0].hit_blocks += 60;
  after.tiers[1].hit_blocks += 15;
  after.missed_blocks += 25;
  EXPECT_DOUBLE_EQ(column("hit_ratio", before, after), 0.75);
  EXPECT_DOUBLE_EQ(column("hit_ratio_host", before, after), 0.6);
  EXPECT_DOUBLE_EQ(column("hit_ratio_disk", before, after), 0.15);
  EXPECT_TRUE(std::isnan(column("hit_ratio", before, before)));
}

TEST(Sample, rates_are_a_second) {
  Stats after;
  after.tiers[0].stored_bytes = 4'000;
  after.tiers[0].hit_bytes = 1'000;
  after.tiers[1].hit_bytes = 500;
  after.promoted_bytes = 300;
  EXPECT_DOUBLE_EQ(column("store_bytes_per_second", {}, after), 2'000);
  EXPECT_DOUBLE_EQ(column("load_bytes_per_second", {}, after), 750);
  EXPECT_DOUBLE_EQ(column("promote_bytes_per_second", {}, after), 150);
  EXPECT_DOUBLE_EQ(column("store_bytes_per_second", after, {}), 0) << "a counter that seems to fall";
}

TEST(Sample, quantiles_are_interpolated_in_their_bucket) {
  LatencyHistogram before;
  before.counts[0] = 1'000;
  LatencyHistogram after = before;
  after.counts[1] = 100;  // from 1 to 4 us
  EXPECT_NEAR(quantile_of(before, after, 0.5), 2.5e-6, 1e-12);
  after.counts[2] = 100;  // to 16 us
  EXPECT_NEAR(quantile_of(before, after, 0.5), 4e-6, 1e-12);
  EXPECT_NEAR(quantile_of(before, after, 0.75), 10e-6, 1e-12);
  EXPECT_TRUE(std::isnan(quantile_of(after, after, 0.5)));
  LatencyHistogram slow;
  slow.counts.back() = 1;
  EXPECT_GT(quantile_of({}, slow, 0.99), 4.0);
}

TEST(Health, names_what_is_off) {
  EXPECT_EQ(health_of(false, {{.directory = "/a", .state = DiskDirectoryState::kOn}, {.directory = "/b"}}).state,
            HealthState::kOk);
  const Health off = health_of(
      false, {{.directory = "/a", .state = DiskDirectoryState::kOff, .cause = "reads stall"}, {.directory = "/b"}});
  EXPECT_EQ(off.state, HealthState::kDegraded);
  EXPECT_THAT(off.causes, ElementsAre("/a is off: reads stall"));
  const Health waiting = health_of(false, {}, {.stage = ArenaStage::kWithheld, .epoch = 2, .waits_for = {12, 13}});
  EXPECT_EQ(waiting.state, HealthState::kDegraded);
  EXPECT_EQ(waiting.causes[0], "the arena of an earlier run is withheld; it waits for process 12, 13");
  EXPECT_EQ(health_of(true, {}).state, HealthState::kClosing);
}

TEST(TimeSaved, comes_from_what_engines_measured_alone) {
  const EngineCounters counters{.loaded_bytes = 10'000, .load_ns = 2'000'000'000};
  EXPECT_FALSE(seconds_saved({}).has_value());
  EXPECT_FALSE(seconds_saved({{.counters = counters}}).has_value());
  EXPECT_FALSE(seconds_saved({{.prefill_bytes_per_second = 1'000}}).has_value());
  EXPECT_FALSE(seconds_saved({{.counters = counters, .prefill_bytes_per_second = 0}}).has_value());
  const EngineReport known{.counters = counters, .prefill_bytes_per_second = 1'000};
  EXPECT_DOUBLE_EQ(seconds_saved({known, known, {}}).value(), 16);
}

TEST(StatusJson, holds_what_the_view_says_and_null_for_what_is_not_known) {
  StatusInput input{.tick = 7,
                    .facts = {.version = "1.2.3", .instance = "i", .config = {{.key = "k", .value = "\xff"}}}};
  input.stats.tiers[0].capacity_bytes = 100;
  input.stats.matches = 5;
  input.now = sample_of({}, {}, 1);
  input.engines = {{.engine_id = "e", .mode = Mode::kLoadOnly, .kv_pool = KvPool{.used_bytes = 3, .total_bytes = 9}}};
  const auto json = nlohmann::json::parse(status_json(input));
  EXPECT_EQ(json["tick"], 7);
  EXPECT_EQ(json["tiers"].size(), 1U) << "tiers that are not there are not shown";
  EXPECT_TRUE(json["now"]["hit_ratio"].is_null());
  EXPECT_EQ(json["counters"]["tiercel_matches_total"], 5);
  EXPECT_EQ(json["engines"][0]["mode"], "load_only");
  EXPECT_EQ(json["engines"][0]["kv_pool"]["used_bytes"], 3);
  EXPECT_TRUE(json["engines"][0]["counters"].is_null());
  EXPECT_TRUE(json["seconds_saved"].is_null());
}

TEST(Guard, lets_addresses_localhost_and_named_hosts_in) {
  const Guard guard({"node17.example"});
  for (const char* host :
       {"127.0.0.1:9800", "[::1]:9800", "10.1.2.3", "localhost:9800", "Node17.Example:1", "node17.example."}) {
    EXPECT_FALSE(guard.refuse(host, "")) << host;
    EXPECT_FALSE(guard.refuse(host, std::string("http://") + host)) << host;
  }
  EXPECT_FALSE(Guard({"*"}).refuse("evil.example", ""));
}

TEST(Guard, refuses_other_names_and_other_origins_with_the_way_out) {
  const Guard guard({"node17.example"});
  for (const char* host :
       {"evil.example", "evil.example:9800", "127.0.0.1.evil.example", "localhost.evil.example", "1234"}) {
    EXPECT_THAT(guard.refuse(host, "").value_or(""), HasSubstr("http.hosts")) << host;
  }
  EXPECT_TRUE(guard.refuse("", ""));
  for (const char* origin : {"http://evil.example", "null", "http://127.0.0.1:3000", "http://localhost:3000", "x"}) {
    EXPECT_THAT(guard.refuse("127.0.0.1:9800", origin).value_or(""), HasSubstr("http.hosts")) << origin;
  }
  EXPECT_FALSE(guard.refuse("127.0.0.1:9800", "http://node17.example"));
}

}  // namespace
}  // namespace tiercel::service
