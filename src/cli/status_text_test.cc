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

/// With these tenants, as /status has them.
std::string with_tenants(const std::string& tenants) {
  std::string status = kStatus;
  return status.replace(status.find("\"tick\""), 0, "\"tenants\":[" + tenants + "],");
}

std::string tenant(const std::string& name, bool configured = false, const std::string& host_cap = "1073741824") {
  return R"({"tenant":")" + name + R"(","configured":)" + (configured ? "true" : "false") +
         R"(,"tiers":[{"name":"host","used_bytes":268435456,"guarantee_bytes":134217728,"cap_bytes":)" + host_cap +
         R"(},{"name":"disk","used_bytes":1024,"guarantee_bytes":0,"cap_bytes":1048576}]})";
}

TEST(StatusText, tenants_are_shown_where_there_are_several_or_settings) {
  for (const std::string& tenants : {std::string(), tenant("default"), tenant("default") + "," + tenant("(unnamed)")}) {
    EXPECT_THAT(status_text(with_tenants(tenants)).value(), Not(HasSubstr("guaranteed")));
  }
  EXPECT_THAT(status_text(with_tenants(tenant("default", true))).value(), HasSubstr("\ndefault "));
  const std::string text = status_text(with_tenants(tenant("search", true, "536870912") + "," + tenant("default") +
                                                    "," + tenant("(other)", false, "null")))
                               .value();
  EXPECT_THAT(text, HasSubstr("\n"
                              "tenant                  host guaranteed       cap      disk guaranteed       cap\n"
                              "search               256 MiB    128 MiB   512 MiB  1.00 KiB          -         -\n"
                              "default              256 MiB    128 MiB         -  1.00 KiB          -         -\n"
                              "(other)              256 MiB    128 MiB         -  1.00 KiB          -         -\n"));
}

TEST(StatusText, names_of_tenants_neither_command_the_terminal_nor_break_the_columns) {
  const std::string text =
      status_text(with_tenants(tenant(R"(a\u001b[31m)") + "," + tenant("ein-längerer-Name-als-die-Spalte"))).value();
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(text, HasSubstr("\nein-längerer-Name    256 MiB"));
}

TEST(StatusText, a_frame_says_how_many_tenants_it_leaves_out) {
  std::string many = tenant("t0");
  for (int i = 1; i < 20; ++i) many += "," + tenant("t" + std::to_string(i));
  const std::string status = with_tenants(many);
  EXPECT_THAT(status_text(status).value(), HasSubstr("\nt19 "));
  const auto lines = [](const std::string& text) { return static_cast<std::size_t>(std::ranges::count(text, '\n')); };
  const std::size_t others = lines(top_frame(kStatus, {.rows = 100}, "").value());
  const std::string all = top_frame(status, {.rows = others + 22}, "").value();
  EXPECT_EQ(lines(all), others + 21);
  EXPECT_THAT(all, HasSubstr("\nt19 "));
  EXPECT_THAT(all, Not(HasSubstr("more")));
  const std::string some = top_frame(status, {.rows = others + 6}, "note").value();
  EXPECT_EQ(lines(some), others + 5);
  EXPECT_THAT(some, HasSubstr("\nt2 "));
  EXPECT_THAT(some, HasSubstr("\n... and 17 more\nnote\n"));
  EXPECT_THAT(top_frame(status, {.rows = others + 1}, "").value(), Not(HasSubstr("tenant")));
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
