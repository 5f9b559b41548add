// A service and engines as programs, for the tests that kill them: children with pipes, and the fixture that starts and
// asks them.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
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

/// A program with pipes to its stdin and from its stdout; killed and waited for at the latest by the destructor.
class Child {
 public:
  explicit Child(const std::vector<std::string>& words) {
    int in[2];
    int out[2];
    EXPECT_EQ(::pipe2(in, O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(out, O_CLOEXEC), 0);
    std::vector<char*> argv;
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(in[0], STDIN_FILENO);
      ::dup2(out[1], STDOUT_FILENO);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    ::close(in[0]);
    ::close(out[1]);
    in_ = in[1];
    out_ = out[0];
  }
  ~Child() {
    if (!status_) kill();
    end_input();
    ::close(out_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void kill() {
    (void)::kill(pid_, SIGKILL);
    int status = 0;
    (void)::waitpid(pid_, &status, 0);
    status_ = status;
  }
  [[nodiscard]] pid_t pid() const { return pid_; }
  void signal(int number) { EXPECT_EQ(::kill(pid_, number), 0); }
  void end_input() {
    if (in_ >= 0) ::close(std::exchange(in_, -1));
  }
  void say(const std::string& line) {
    EXPECT_EQ(::write(in_, line.data(), line.size()), static_cast<ssize_t>(line.size()));
  }
  /// The next line, or "" if none comes in time.
  std::string line(std::chrono::milliseconds patience = 20s) {
    const auto end = std::chrono::steady_clock::now() + patience;
    for (;;) {
      if (const std::size_t at = said_.find('\n'); at != std::string::npos) {
        std::string line = said_.substr(0, at);
        said_.erase(0, at + 1);
        return line;
      }
      pollfd readable{.fd = out_, .events = POLLIN, .revents = 0};
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
      if (left.count() <= 0 || ::poll(&readable, 1, static_cast<int>(left.count())) <= 0) return "";
      std::array<char, 4096> buffer{};
      const ssize_t got = ::read(out_, buffer.data(), buffer.size());
      if (got <= 0) return "";
      said_.append(buffer.data(), static_cast<std::size_t>(got));
    }
  }
  /// Its exit status once it has ended by itself.
  std::optional<int> ended(std::chrono::milliseconds patience = 0ms) {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (!status_) {
      int status = 0;
      if (::waitpid(pid_, &status, WNOHANG) == pid_) {
        status_ = status;
      } else if (std::chrono::steady_clock::now() >= end) {
        return std::nullopt;
      } else {
        std::this_thread::sleep_for(1ms);
      }
    }
    return WIFEXITED(*status_) ? WEXITSTATUS(*status_) : 128 + WTERMSIG(*status_);
  }

 private:
  pid_t pid_ = -1;
  int in_ = -1;
  int out_ = -1;
  std::string said_;
  std::optional<int> status_;
};

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

  /// `more`: the arena's MiB, a folder for blocks on disk.
  void start_host(const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{arguments.host, socket_};
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
