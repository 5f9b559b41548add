// Child: a program of a test, with pipes to its stdin and from its stdout. One thread.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace tiercel {

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
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  void signal(int number) { EXPECT_EQ(::kill(pid_, number), 0); }
  void end_input() {
    if (in_ >= 0) ::close(std::exchange(in_, -1));
  }
  void say(const std::string& line) {
    EXPECT_EQ(::write(in_, line.data(), line.size()), static_cast<ssize_t>(line.size()));
  }
  /// The next line, or "" if none comes in time.
  std::string line(std::chrono::milliseconds patience = std::chrono::seconds(20)) {
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
  std::optional<int> ended(std::chrono::milliseconds patience = std::chrono::milliseconds(0)) {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (!status_) {
      int status = 0;
      if (::waitpid(pid_, &status, WNOHANG) == pid_) {
        status_ = status;
      } else if (std::chrono::steady_clock::now() >= end) {
        return std::nullopt;
      } else {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
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

}  // namespace tiercel
