#include "service/start/starter.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/try.h"
#include "service/start/failure.h"
#include "service/start/launch.h"
#include "service/start/place.h"
#include "service/start/program.h"
#include "service/start/report.h"
#include "service/start/restarts.h"
#include "service/wire/unix_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <utility>

namespace tiercel::service::start {
namespace {

constexpr int kTurnMs = 10;
constexpr std::size_t kQuoted = 500;  // bytes of a log

std::uint64_t now_ns() {
  static const SteadyClock kClock;
  return kClock.now_ns();
}

/// Counts on while the machine sleeps, and is the same for all processes.
std::uint64_t boot_ms() {
  timespec now{};
  (void)::clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000 + static_cast<std::uint64_t>(now.tv_nsec) / 1'000'000;
}

enum class Presence : std::uint8_t { kThere, kNobody, kCrowded };

/// What a failed attempt to connect says about the other end.
Presence presence(const Error& error) noexcept {
  const int os = error.os_error;
  const bool cut = os == EPIPE || os == ECONNRESET || os == ENOTCONN;
  if (error.code == ErrorCode::kNotFound || error.code == ErrorCode::kClosed) return Presence::kNobody;
  if (error.code == ErrorCode::kIo && cut) return Presence::kNobody;
  if (error.code == ErrorCode::kLimit && os == EAGAIN) return Presence::kCrowded;  // so many connect at this moment
  return Presence::kThere;
}

bool is_cancelled(const Starter::Attempt& attempt) {
  return attempt.cancelled != nullptr && attempt.cancelled->load(std::memory_order_acquire);
}

/// What stands in the log since `from`: its end, as one line.
std::string end_of_log(int log, off_t from) {
  const off_t size = ::lseek(log, 0, SEEK_END);
  if (size <= from) return {};
  std::array<char, kQuoted> text{};
  const off_t at = std::max(from, size - static_cast<off_t>(text.size()));
  const ssize_t got = ::pread(log, text.data(), text.size(), at);
  std::string line(text.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
  while (!line.empty() && line.back() == '\n') line.pop_back();
  std::ranges::replace(line, '\n', ' ');
  return line;
}

}  // namespace

/// One call of open(), while it has the lock or waits for it.
struct Starter::Turn {
  explicit Turn(const std::string& socket) : lock(socket) {}
  StartLock lock;
  Link::Greeting greeting;
  Attempt attempt;
  std::uint64_t until_ns = 0;
  std::string earlier_failure;
};

bool Starter::nobody_answers(const Error& error) noexcept { return presence(error) == Presence::kNobody; }

/// Who waits for it is let wait; of the others somebody calls again.
Result<std::shared_ptr<Link>> Starter::connect(const Link::Greeting& greeting, const Attempt& attempt,
                                               std::uint64_t deadline_ns) const {
  const auto open = attempt.occasion == Occasion::kCall ? Link::open_patiently : Link::open;
  return open(socket_, greeting, deadline_ns, attempt.refusal);
}

Result<std::shared_ptr<Link>> Starter::open(const Link::Greeting& greeting, const Attempt& attempt) const {
  TIERCEL_TRY(prepare_directory(socket_));  // before anything that lies in it is believed
  const auto try_link = [&] { return connect(greeting, attempt, deadline_after(now_ns(), attempt.answer_ns)); };
  const auto patience = static_cast<std::uint64_t>(std::chrono::nanoseconds(options_.deadline).count());
  Turn turn(socket_);
  turn.greeting = greeting;
  turn.attempt = attempt;
  turn.until_ns = deadline_after(now_ns(), patience);
  const auto earlier = last_failure(socket_);
  if (earlier) turn.earlier_failure = earlier->number;
  auto link = try_link();
  if (link || presence(link.error()) == Presence::kThere) return link;
  for (;;) {
    // The lock first: what is then seen of the path stays so while it is ours.
    TIERCEL_TRY_ASSIGN(const bool ours, turn.lock.try_take());
    link = try_link();
    if (link || presence(link.error()) == Presence::kThere) return link;
    // One that somebody ends by a signal may have gone from the path before it has gone.
    if (ours && presence(link.error()) == Presence::kNobody && !wire::is_taken(socket_)) return start(turn);
    if (is_cancelled(attempt)) return fail(ErrorCode::kClosed, "the client is closed");
    if (now_ns() >= turn.until_ns) {
      return fail(
          ErrorCode::kTimeout,
          fmt::format("{}: {} has not done so within {} ms; its log is {}", socket_,
                      ours ? "a service that is ending there"
                           : fmt::format("process {}, which starts or ends a service there,", turn.lock.holder()),
                      options_.deadline.count(), log_path(socket_)));
    }
    (void)::poll(nullptr, 0, kTurnMs);
  }
}

/// The lock is ours, and nobody answers.
Result<std::shared_ptr<Link>> Starter::start(Turn& turn) const {
  if (auto failure = last_failure(socket_); failure && failure->number != turn.earlier_failure) {
    return tl::unexpected<Error>(std::move(failure->error));
  }
  if (turn.attempt.occasion == Occasion::kLost) TIERCEL_TRY(count_restart(turn.lock));
  pid_t pid = 0;
  const auto said = start_and_wait(turn, pid);
  if (!said) {
    if (!is_cancelled(turn.attempt)) note_failure(socket_, said.error());
    return tl::unexpected<Error>(said.error());
  }
  forget_failure(socket_);
  log_line(LogLevel::kInfo, "service_started",
           fmt::format("started a private service (process {}): {}; socket {}, log {}", pid, *said, socket_,
                       log_path(socket_)));
  const std::uint64_t until = std::max(turn.until_ns, deadline_after(now_ns(), turn.attempt.answer_ns));
  return connect(turn.greeting, turn.attempt, until);
}

Result<std::string> Starter::start_and_wait(Turn& turn, pid_t& pid) const {
  TIERCEL_TRY_ASSIGN(const Command command, command_of(options_, socket_));
  const std::string log_name = log_path(socket_);
  const FileDescriptor log(::open(log_name.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!log) return fail(ErrorCode::kIo, fmt::format("{}: {}", log_name, strerror(errno)), errno);
  const off_t log_from = ::lseek(log.get(), 0, SEEK_END);
  const FileDescriptor null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  std::array<int, 2> pair{-1, -1};
  if (!null || ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0) {
    return fail(ErrorCode::kIo, fmt::format("starting {}: {}", command.program, strerror(errno)), errno);
  }
  const FileDescriptor ours(pair[0]);
  FileDescriptor theirs(pair[1]);
  static_assert(kReadyDescriptor == 3 && kLockDescriptor == 4);
  TIERCEL_TRY_ASSIGN(const Launched service,
                     launch(command, {null.get(), log.get(), log.get(), theirs.get(), turn.lock.descriptor()}));
  pid = service.pid;
  theirs = FileDescriptor();

  for (;;) {
    // A fork of the engine in another thread may hold the service's end open: so its process is watched as well.
    std::array<pollfd, 2> watched{pollfd{.fd = ours.get(), .events = POLLIN, .revents = 0},
                                  pollfd{.fd = service.process.get(), .events = POLLIN, .revents = 0}};
    const int ready = ::poll(watched.data(), watched.size(), kTurnMs);
    if (ready > 0) {
      TIERCEL_TRY_ASSIGN(auto said, receive_report(ours.get()));
      if (said) return std::move(*said);
      const std::string last = end_of_log(log.get(), log_from);
      return fail(ErrorCode::kIo,
                  fmt::format("{} ended before it was ready{}; its log is {}", command.program,
                              last.empty() ? " and said nothing" : ", and last said: " + last, log_name));
    }
    if (is_cancelled(turn.attempt)) {
      turn.lock.leave();  // it goes on alone, and ends where nobody comes
      return fail(ErrorCode::kClosed, "the client is closed");
    }
    if (now_ns() >= turn.until_ns) {
      (void)::syscall(SYS_pidfd_send_signal, service.process.get(), SIGKILL, nullptr, 0);
      pollfd gone{.fd = service.process.get(), .events = POLLIN, .revents = 0};
      (void)::poll(&gone, 1, 1'000);
      return fail(ErrorCode::kTimeout, fmt::format("{} was not ready within {} ms, and was killed; its log is {}",
                                                   command.program, options_.deadline.count(), log_name));
    }
  }
}

Status Starter::count_restart(StartLock& lock) const {
  const std::uint64_t now = boot_ms();
  auto times = within_the_hour(lock.restarts(), now);
  const std::uint64_t next = next_restart_ms(times, now, options_.restarts_an_hour);
  if (next > now) {
    return fail(
        ErrorCode::kLimit,
        fmt::format("the private service on {} was lost {} times within the hour; {}; its log is {}", socket_,
                    times.size() + 1,
                    next == UINT64_MAX ? std::string("it is not started again")
                                       : fmt::format("it may be started again in {} s", (next - now) / 1'000 + 1),
                    log_path(socket_)));
  }
  times.push_back(now);
  lock.note_restarts(times);
  return {};
}

}  // namespace tiercel::service::start
