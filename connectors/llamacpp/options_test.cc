#include "connectors/llamacpp/options.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tiercel::llamacpp {
namespace {

using Arguments = std::vector<std::string>;

std::string error_of(const Arguments& arguments) {
  const auto options = read_options(arguments);
  return options ? "(accepted)" : options.error().message;
}

TEST(Options, ReadsBothKindsOfFlags) {
  const auto options =
      read_options(Arguments{"--model", "dir/m.gguf", "--slots=2", "--host-capacity", "1GiB", "--cache", "off",
                             "--port", "0", "--keep-idle", "off", "--drain-seconds", "5"});
  ASSERT_TRUE(options) << options.error().message;
  EXPECT_EQ(options->engine.model, "dir/m.gguf");
  EXPECT_EQ(options->engine.slots, 2U);
  EXPECT_EQ(options->cache.host.capacity, 1_GiB);
  EXPECT_FALSE(options->cache_on);
  EXPECT_FALSE(options->engine.keep_idle);
  EXPECT_EQ(options->port, 0);
  EXPECT_EQ(options->drain.count(), 5);
  EXPECT_EQ(options->model_name, "m");
  EXPECT_EQ(options->host, "127.0.0.1");
}

TEST(Options, AMisspeltFlagIsToldTheNearestOfBothKinds) {
  EXPECT_NE(error_of({"--model", "m", "--slot", "2"}).find("did you mean --slots?"), std::string::npos);
  EXPECT_NE(error_of({"--model", "m", "--host-capacty", "2"}).find("did you mean --host-capacity?"), std::string::npos);
}

TEST(Options, WrongValuesNameTheirFlag) {
  EXPECT_NE(error_of({"--model", "m", "--slots", "many"}).find("--slots"), std::string::npos);
  EXPECT_NE(error_of({"--model", "m", "--port", "70000"}).find("--port"), std::string::npos);
  EXPECT_NE(error_of({"--model", "m", "--cache", "maybe"}).find("--cache"), std::string::npos);
  EXPECT_NE(error_of({}).find("--model"), std::string::npos);
}

TEST(Options, AServiceHasTheTiersAndTheServerHasNone) {
  const auto options = read_options(Arguments{"--model", "m", "--service", "/run/t.sock", "--slots=2"});
  ASSERT_TRUE(options) << options.error().message;
  EXPECT_EQ(options->service, "/run/t.sock");
  EXPECT_EQ(read_options(Arguments{"--model", "m", "--service", "auto"})->service, kPrivateService);
  const std::string error = error_of({"--model", "m", "--service", "default", "--host-capacity=1GiB"});
  EXPECT_NE(error.find("--service and --host-capacity do not go together"), std::string::npos) << error;
  EXPECT_NE(error_of({"--model", "m", "--service", "default", "--cache", "off"}).find("--cache off"),
            std::string::npos);
}

TEST(Options, HelpNamesEveryFlag) {
  const std::string help = help_text();
  for (const char* flag : {"--model", "--slots", "--context", "--cache", "--drain-seconds", "--host-capacity"}) {
    EXPECT_NE(help.find(flag), std::string::npos) << flag;
  }
}

TEST(Options, Loopback) {
  for (const char* host : {"127.0.0.1", "127.0.0.2", "localhost", "::1"}) EXPECT_TRUE(is_loopback(host)) << host;
  for (const char* host : {"0.0.0.0", "::", "10.0.0.1", "example.org"}) EXPECT_FALSE(is_loopback(host)) << host;
}

}  // namespace
}  // namespace tiercel::llamacpp
