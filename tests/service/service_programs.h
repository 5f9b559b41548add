// A service and engines as programs, for the tests that kill them: the fixture that starts and asks them.
#pragma once

#include "tests/service/child.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace tiercel {

using namespace std::chrono_literals;

struct Arguments {
  std::string host;
  std::string engine;
  std::uint64_t kills = 60;
  std::uint64_t host_kills = 3;
  std::uint64_t seed = 1;
};
inline Arguments arguments;  // set by main before any test runs

class ServicePrograms : public ::testing::Test {
 protected:
  ServicePrograms() {
    std::string name = (std::filesystem::temp_directory_path() / "tiercel-service-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    socket_ = name + "/s";
  }
  ~ServicePrograms() override {
    host_.reset();
    std::filesystem::remove_all(directory_);
  }

  /// `more`: the arena's MiB, folders for blocks on disk. `words`: what it is started with.
  void start_host(const std::vector<std::string>& more = {}, std::vector<std::string> words = {}) {
    words.push_back(arguments.host);
    words.push_back(socket_);
    words.insert(words.end(), more.begin(), more.end());
    host_ = std::make_unique<Child>(words);
    ASSERT_EQ(host_->line(), "ready");
  }
  std::unique_ptr<Child> engine(const std::string& mode, std::uint64_t seed) {
    return std::make_unique<Child>(std::vector<std::string>{arguments.engine, socket_, mode, std::to_string(seed)});
  }
  std::string figures(const std::string& command = "?\n") {
    host_->say(command);
    return host_->line();
  }
  /// Waits until the figures have this in them, with its value ended by a blank.
  ::testing::AssertionResult comes(const std::string& part) {
    std::string last;
    for (const auto end = std::chrono::steady_clock::now() + 20s; std::chrono::steady_clock::now() < end;) {
      last = figures();
      if (last.find(part) != std::string::npos) return ::testing::AssertionSuccess();
      std::this_thread::sleep_for(10ms);
    }
    return ::testing::AssertionFailure() << last;
  }

  std::string directory_;
  std::string socket_;
  std::unique_ptr<Child> host_;
};

inline constexpr const char* kNothingHeld = "copy_pins=0 quarantined=0 logical_pins=0 sessions=0 departed=0 ";

inline int run_service_tests(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view flag = argv[i];
    if (flag == "--host") arguments.host = argv[i + 1];
    if (flag == "--engine") arguments.engine = argv[i + 1];
    if (flag == "--kills") arguments.kills = std::strtoull(argv[i + 1], nullptr, 10);
    if (flag == "--host-kills") arguments.host_kills = std::strtoull(argv[i + 1], nullptr, 10);
    if (flag == "--seed") arguments.seed = std::strtoull(argv[i + 1], nullptr, 10);
  }
  return RUN_ALL_TESTS();
}

}  // namespace tiercel
