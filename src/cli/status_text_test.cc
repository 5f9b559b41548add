// Goal: what `tiercel status` and `tiercel top` print of a service is right, fits the terminal, and cannot command it.
#include "cli/status_text.h"
#include "cli/status_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace tiercel::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kStatus = R"({"tick":3,"service":{"version":"1.2","instance":"i","pid":7,"uptime_seconds":3720},
 "health":{"state":"degraded","causes":["/kv is off: reads stall"]},
 "now":{"hit_ratio":0.5,"hit_ratio_host":0.4,"hit_ratio_disk":null,"store_bytes_per_second":2.5e9,
 "load_bytes_per_second":null,"promote_bytes_per_second":0,"demote_bytes_per_second":1e6,
 "evicted_blocks_per_second_host":3,"evicted_blocks_per_second_disk":null,"match_p50_seconds":2e-6,
 "match_p99_seconds":4e-6,"load_p50_seconds":0.0123,"load_p99_seconds":1.5,"fill_p50_seconds":null,
 "fill_p99_seconds":null,"demotion_p50_seconds":null,"demotion_p99_seconds":null},
 "tiers":[{"name":"host","capacity_bytes":1073741824,"used_bytes":536870912},
 {"name":"disk","capacity_bytes":1048576,"used_bytes":0}],
 "disks":[{"directory":"/k\u001bv","state":"off","cause":"reads stall"}],
 "engines":[{"engine":"vllm\u0007","mode":"load_only","kv_pool":{"used_bytes":1024,"free_bytes":0,"total_bytes":2048}},
 {"engine":"bare","mode":"on","kv_pool":null}],"errors":12})";

TEST(StatusText, says_what_the_service_says) {
  const std::string text = status_text(kStatus).value();
  for (const char* part :
       {"tiercel 1.2  degraded  process 7, up 1 h 2 min", "! /kv is off: reads stall", "512 MiB of 1.00 GiB",
        "hits  40.0 %", "stored 2.50 GB/s", "loaded -", "written 1.00 MB/s", "found   50.0 %, errors 12", "12.3 ms",
        "1.50 s", "2.00 us", "1.00 KiB of 2.00 KiB", "(load_only)", "bare, KV pool not reported"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  EXPECT_THAT(text, Not(HasSubstr("the mode for all")));
  std::string off = kStatus;
  off.replace(off.find("\"tick\""), 0, "\"mode\":\"off\",");
  EXPECT_THAT(status_text(off).value(), HasSubstr("! the mode for all engines is off"));
  EXPECT_THAT(text, HasSubstr("[############............]")) << "the host tier is half full";
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(text, Not(HasSubstr("\x07")));
}

TEST(StatusText, a_frame_fits_its_terminal) {
  for (const TextSize size : {TextSize{}, TextSize{.columns = 40, .rows = 5}, TextSize{.columns = 10, .rows = 2}}) {
    const std::string frame = top_frame(kStatus, size, "q ends, and this note is long enough to be cut").value();
    EXPECT_LT(static_cast<std::size_t>(std::ranges::count(frame, '\n')), size.rows + (size.rows == 2 ? 1 : 0));
    std::size_t column = 0;
    for (const char c : frame) {
      column = c == '\n' ? 0 : column + 1;
      EXPECT_LE(column, size.columns);
    }
  }
}

TEST(StatusText, what_is_no_status_is_an_error) {
  for (const char* json : {"", "{}", "[]", "null", R"({"service":{"version":1}})"}) {
    EXPECT_FALSE(status_text(json)) << json;
  }
}

TEST(StatusClient, an_address_that_is_none_and_one_where_nobody_is) {
  for (const char* url : {"", "127.0.0.1:9800", "https://127.0.0.1", "http://", "http://a b:1:2"}) {
    const auto fetched = fetch_status(url);
    ASSERT_FALSE(fetched) << url;
    EXPECT_THAT(fetched.error().message, HasSubstr("http://127.0.0.1:9800"));
  }
  EXPECT_THAT(fetch_status("http://127.0.0.1:1").error().message, HasSubstr("tiercel serve"));
}

}  // namespace
}  // namespace tiercel::cli
