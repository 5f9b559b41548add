#include "service/start/report.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace tiercel::service::start {
namespace {

constexpr std::size_t kLongest = 4096;  // of a message

bool is_kind(int descriptor, mode_t kind) {
  struct stat about{};
  return ::fstat(descriptor, &about) == 0 && (about.st_mode & S_IFMT) == kind;
}

}  // namespace

Result<Report> Report::of_the_starter() {
  if (!is_kind(kReadyDescriptor, S_IFSOCK) || !is_kind(kLockDescriptor, S_IFREG)) {
    return fail(ErrorCode::kInvalidArgument, "--started is for programs that start a private service; leave it out");
  }
  Report report;
  report.ready_ = FileDescriptor(kReadyDescriptor);
  report.lock_ = FileDescriptor(kLockDescriptor);
  (void)::fcntl(kReadyDescriptor, F_SETFD, FD_CLOEXEC);
  (void)::fcntl(kLockDescriptor, F_SETFD, FD_CLOEXEC);
  return report;
}

void Report::ready(const std::string& sentence) noexcept { say(0, sentence); }

void Report::failed(const Error& error) noexcept { say(static_cast<char>(error.code), error.message); }

void Report::say(char code, const std::string& sentence) noexcept {
  lock_ = FileDescriptor();  // closed, not unlocked: the starter has it until it is connected
  if (!ready_) return;
  std::array<char, kLongest> message{};
  message[0] = code;
  const std::size_t length = std::min(sentence.size(), message.size() - 1);
  std::copy_n(sentence.begin(), length, message.begin() + 1);
  // Whoever started it may be gone: no signal then, and it serves all the same.
  (void)::send(ready_.get(), message.data(), length + 1, MSG_NOSIGNAL);
  ready_ = FileDescriptor();
}

Result<std::optional<std::string>> receive_report(int socket) {
  std::array<char, kLongest> message{};
  ssize_t got = 0;
  do {
    got = ::recv(socket, message.data(), message.size(), MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got <= 0) return std::nullopt;
  std::string sentence(message.data() + 1, static_cast<std::size_t>(got) - 1);
  const auto code = static_cast<unsigned char>(message[0]);
  if (code == 0) return sentence;
  const bool known = code <= static_cast<unsigned>(ErrorCode::kIncomplete);
  return fail(known ? static_cast<ErrorCode>(code) : ErrorCode::kIo, std::move(sentence));
}

}  // namespace tiercel::service::start
