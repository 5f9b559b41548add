#include "service/start/start_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

namespace tiercel::service::start {
namespace {

/// Does the path still name the file that is open?
bool is_file_of_path(int file, const std::string& path) {
  struct stat opened{};
  struct stat named{};
  return ::fstat(file, &opened) == 0 && ::lstat(path.c_str(), &named) == 0 && opened.st_dev == named.st_dev &&
         opened.st_ino == named.st_ino;
}

int flock_now(int file) {
  int result = 0;
  do {
    result = ::flock(file, LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : errno;
}

}  // namespace

StartLock::~StartLock() { give_back(); }

Result<bool> StartLock::try_take() {
  if (taken_) return true;
  for (;;) {  // each further turn: somebody has put another file there
    if (!file_) file_ = FileDescriptor(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file_) {
      const int error = errno;
      return fail(ErrorCode::kIo, fmt::format("{}: {}", path_, strerror(error)), error);
    }
    const int error = flock_now(file_.get());
    if (error != 0 && error != EWOULDBLOCK)
      return fail(ErrorCode::kIo, fmt::format("{}: {}", path_, strerror(error)), error);
    const bool right = is_file_of_path(file_.get(), path_);
    if (right && error == EWOULDBLOCK) return false;
    if (right) break;
    file_ = FileDescriptor();
  }
  taken_ = true;
  write(restarts());
  return true;
}

void StartLock::give_back() noexcept {
  if (std::exchange(taken_, false)) (void)::flock(file_.get(), LOCK_UN);
  file_ = FileDescriptor();
}

void StartLock::leave() noexcept {
  taken_ = false;
  file_ = FileDescriptor();
}

std::vector<std::uint64_t> StartLock::numbers() const {
  std::ifstream file(path_);
  std::vector<std::uint64_t> found;
  for (std::uint64_t number = 0; found.size() < 128 && file >> number;) found.push_back(number);
  return found;
}

pid_t StartLock::holder() const {
  const auto found = numbers();
  return found.empty() ? 0 : static_cast<pid_t>(found.front());
}

std::vector<std::uint64_t> StartLock::restarts() const {
  auto found = numbers();
  if (!found.empty()) found.erase(found.begin());
  return found;
}

void StartLock::note_restarts(const std::vector<std::uint64_t>& times_ms) { write(times_ms); }

/// Best effort: on a full disk a start is not counted.
void StartLock::write(const std::vector<std::uint64_t>& restarts) {
  std::string text = fmt::format("{}\n", ::getpid());
  for (const std::uint64_t time : restarts) text += fmt::format("{}\n", time);
  // In this order somebody who reads meanwhile finds a process in any case.
  if (::pwrite(file_.get(), text.data(), text.size(), 0) == std::ssize(text)) {
    (void)!::ftruncate(file_.get(), std::ssize(text));
  }
}

}  // namespace tiercel::service::start
