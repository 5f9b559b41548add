#include "cli/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

namespace tiercel::cli {
namespace {

constexpr int kTurnMs = 100;  // how late a cancellation or the end of the patience is noticed

std::string reason(int error) { return std::system_category().message(error); }

class Pipe {
 public:
  Pipe() : error_(pipe2(ends_.data(), O_CLOEXEC) == 0 ? 0 : errno) {}
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    for (const int end : ends_) {
      if (end >= 0) (void)close(end);
    }
  }
  [[nodiscard]] int error() const noexcept { return error_; }
  [[nodiscard]] int read_end() const noexcept { return ends_[0]; }
  [[nodiscard]] int write_end() const noexcept { return ends_[1]; }
  void close_write_end() noexcept { (void)close(std::exchange(ends_[1], -1)); }

 private:
  std::array<int, 2> ends_{-1, -1};
  int error_;
};

/// A child that is killed and reaped if nobody has waited for it.
class Child {
 public:
  explicit Child(pid_t pid) noexcept : pid_(pid) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ <= 0) return;
    (void)kill(pid_, SIGKILL);
    (void)wait();
  }
  int wait() noexcept {
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_;
};

Result<pid_t> spawn(std::span<const std::string> arguments, const Pipe& output) {
  std::vector<char*> words;
  for (const std::string& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
  words.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output.write_end(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output.write_end(), STDERR_FILENO);
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, words[0], &actions, nullptr, words.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error == 0) return pid;
  return fail(error == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
              fmt::format("{}: {}", arguments[0], reason(error)), error);
}

}  // namespace

Result<ChildOutcome> run_child(std::span<const std::string> arguments, std::chrono::seconds patience,
                               const std::atomic<bool>* cancel) {
  Pipe output;
  if (output.error() != 0) return fail(ErrorCode::kIo, "pipe: " + reason(output.error()), output.error());
  const auto pid = spawn(arguments, output);
  if (!pid) return tl::unexpected<Error>(pid.error());
  Child child(*pid);
  output.close_write_end();
  ChildOutcome outcome;
  const auto end = std::chrono::steady_clock::now() + patience;
  std::array<char, 4096> buffer{};
  for (;;) {
    if (cancel != nullptr && cancel->load()) return fail(ErrorCode::kClosed, "interrupted");
    if (std::chrono::steady_clock::now() > end) {
      return fail(ErrorCode::kTimeout, fmt::format("{} has not ended after {} s", arguments[0], patience.count()));
    }
    struct pollfd wait{.fd = output.read_end(), .events = POLLIN, .revents = 0};
    if (poll(&wait, 1, kTurnMs) <= 0) continue;
    const ssize_t bytes = read(output.read_end(), buffer.data(), buffer.size());
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) break;
    outcome.output.append(buffer.data(), static_cast<std::size_t>(bytes));
  }
  outcome.exit_status = child.wait();
  return outcome;
}

}  // namespace tiercel::cli
