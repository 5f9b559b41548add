#include "service/wire/unix_socket.h"

#include "base/try.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <utility>

namespace tiercel::wire {
namespace {

constexpr std::size_t kMostDescriptors = 4;
constexpr int kBacklog = 128;

tl::unexpected<Error> failed(const std::string& what, int error) {
  return fail(ErrorCode::kIo, fmt::format("{}: {}", what, strerror(error)), error);
}

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("service.socket: \"{}\" has {} bytes; a socket's path has 1 to {}", path, path.size(),
                            sizeof(address.sun_path) - 1));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Result<std::optional<gid_t>> group_id(const std::string& name) {
  if (name.empty()) return std::nullopt;
  std::array<char, 4096> text{};
  group entry{};
  group* found = nullptr;
  if (getgrnam_r(name.c_str(), &entry, text.data(), text.size(), &found) != 0 || found == nullptr) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("service.group: there is no group \"{}\" on this system", name));
  }
  return entry.gr_gid;
}

/// Only a directory that is missing is made, and only the last one of the path.
Status make_directory_of(const std::string& path, std::optional<gid_t> group) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos || slash == 0) return {};
  const std::string directory = path.substr(0, slash);
  if (mkdir(directory.c_str(), group ? 0750 : 0700) != 0) {
    const int error = errno;
    if (error == EEXIST) return {};
    return failed(fmt::format("service.socket: making the directory {}", directory), error);
  }
  if (group && chown(directory.c_str(), static_cast<uid_t>(-1), *group) != 0) {
    return failed(fmt::format("service.group: giving {} to the group", directory), errno);
  }
  return {};
}

/// The process id in a lock file: 0 where there is none.
pid_t holder_of(const std::string& name) {
  std::string text;
  std::getline(std::ifstream(name), text);
  return static_cast<pid_t>(std::strtol(text.c_str(), nullptr, 10));
}

bool has_ended(pid_t pid) { return kill(pid, 0) != 0 && errno == ESRCH; }

/// A process that was killed keeps the lock until its disks have ended what it asked of them (io/system_file_system.h):
/// so long they may still write into its arena. Waited for, within bounds.
Result<FileDescriptor> take_lock(const std::string& path) {
  constexpr int kLookMs = 10;
  constexpr int kMostLooks = 1000;
  const std::string name = path + ".lock";
  FileDescriptor lock(open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (lock.get() < 0) return failed(fmt::format("service.socket: {}", name), errno);
  for (int look = 0; flock(lock.get(), LOCK_EX | LOCK_NB) != 0; ++look) {
    const int error = errno;
    if (error == EINTR) continue;
    if (error != EWOULDBLOCK) return failed(fmt::format("service.socket: {}", name), error);
    const pid_t holder = holder_of(name);
    if (holder <= 0 || !has_ended(holder)) {
      return fail(ErrorCode::kLimit,
                  fmt::format("service.socket: another service listens on {} (process {}); stop it, or choose another "
                              "path",
                              path, holder <= 0 ? "unknown" : fmt::format("{}", holder)));
    }
    if (look >= kMostLooks) {
      return fail(ErrorCode::kTimeout,
                  fmt::format("service.socket: the service of {} has ended (process {}), but not what it asked of its "
                              "disks; try again when they answer",
                              path, holder));
    }
    (void)poll(nullptr, 0, kLookMs);
  }
  const std::string pid = fmt::format("{}\n", getpid());
  if (ftruncate(lock.get(), 0) != 0 || pwrite(lock.get(), pid.data(), pid.size(), 0) < 0) {
    return failed(fmt::format("service.socket: writing {}", name), errno);
  }
  return lock;
}

/// The lock is ours: a socket at the path belongs to nobody who lives.
Status remove_stale(const std::string& path) {
  struct stat about{};
  if (lstat(path.c_str(), &about) != 0) {
    if (errno == ENOENT) return {};
    return failed(fmt::format("service.socket: {}", path), errno);
  }
  if (!S_ISSOCK(about.st_mode)) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("service.socket: {} is no socket; it was left alone. Choose another path", path));
  }
  if (unlink(path.c_str()) != 0) return failed(fmt::format("service.socket: removing the old {}", path), errno);
  return {};
}

}  // namespace

Result<Listening> listen_at(const ListenOptions& options) {
  TIERCEL_TRY_ASSIGN(FileDescriptor lock, take_path(options));
  return listen_at(options, std::move(lock));
}

Result<FileDescriptor> take_path(const ListenOptions& options) {
  TIERCEL_TRY(address_of(options.path));
  TIERCEL_TRY_ASSIGN(const auto group, group_id(options.group));
  TIERCEL_TRY(make_directory_of(options.path, group));
  return take_lock(options.path);
}

Result<Listening> listen_at(const ListenOptions& options, FileDescriptor lock) {
  TIERCEL_TRY_ASSIGN(const sockaddr_un address, address_of(options.path));
  TIERCEL_TRY_ASSIGN(const auto group, group_id(options.group));
  Listening listening{.socket = {}, .lock = std::move(lock)};
  TIERCEL_TRY(remove_stale(options.path));
  listening.socket = FileDescriptor(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (listening.socket.get() < 0) return failed("service.socket: a Unix socket", errno);
  // The mode must be right from the first moment: the inode takes it from the socket's own (Linux), less the umask.
  const bool shared = group && !options.owner_only;
  const mode_t mode = shared ? 0660 : 0600;
  if (fchmod(listening.socket.get(), mode) != 0 ||
      bind(listening.socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return failed(fmt::format("service.socket: {}", options.path), errno);
  }
  if (shared && chown(options.path.c_str(), static_cast<uid_t>(-1), *group) != 0) {
    return failed(fmt::format("service.group: giving {} to the group", options.path), errno);
  }
  if (chmod(options.path.c_str(), mode) != 0 || listen(listening.socket.get(), kBacklog) != 0) {
    return failed(fmt::format("service.socket: {}", options.path), errno);
  }
  return listening;
}

bool is_taken(const std::string& path) {
  const std::string name = path + ".lock";
  const FileDescriptor lock(open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  return lock && flock(lock.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

Result<FileDescriptor> connect_to(const std::string& path) {
  TIERCEL_TRY_ASSIGN(const sockaddr_un address, address_of(path));
  FileDescriptor made(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (made.get() < 0) return failed("a Unix socket", errno);
  if (connect(made.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return made;
  const int error = errno;
  if (error == ENOENT || error == ECONNREFUSED) {
    return fail(ErrorCode::kNotFound, fmt::format("no service listens on {}", path), error);
  }
  if (error == EAGAIN)
    return fail(ErrorCode::kLimit, fmt::format("the service on {} has too many callers", path), error);
  return failed(path, error);
}

Status send_with_descriptors(int socket, std::span<const std::byte> bytes, std::span<const int> descriptors) {
  if (descriptors.size() > kMostDescriptors) return fail(ErrorCode::kInvalidArgument, "too many descriptors");
  iovec part{.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMostDescriptors * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(head), descriptors.data(), descriptors.size_bytes());
  }
  ssize_t sent = -1;
  do {
    sent = sendmsg(socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return failed("sending to the other end", errno);
  if (static_cast<std::size_t>(sent) != bytes.size()) {
    return fail(ErrorCode::kIo, "sending to the other end: its buffer is too small for a first message");
  }
  return {};
}

Result<std::optional<Received>> receive_with_descriptors(int socket, std::span<std::byte> into) {
  iovec part{.iov_base = into.data(), .iov_len = into.size()};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMostDescriptors * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = -1;
  do {
    got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return std::nullopt;
  if (got < 0) return failed("receiving from the other end", errno);
  Received received{.bytes = static_cast<std::size_t>(got), .descriptors = {}};
  for (cmsghdr* head = CMSG_FIRSTHDR(&message); head != nullptr; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    std::array<int, kMostDescriptors> numbers{};
    std::memcpy(numbers.data(), CMSG_DATA(head), std::min(count, kMostDescriptors) * sizeof(int));
    for (std::size_t i = 0; i < std::min(count, kMostDescriptors); ++i) received.descriptors.emplace_back(numbers[i]);
  }
  return received;
}

Result<Peer> peer_of(int socket) {
  ucred who{};
  socklen_t size = sizeof(who);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) return failed("who is at the other end", errno);
  return Peer{.pid = who.pid, .uid = who.uid, .gid = who.gid};
}

Result<FileDescriptor> own_pidfd() {
  const auto fd = static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0));
  if (fd < 0) return failed("pidfd_open (Linux 5.3 or later, not forbidden by a seccomp filter)", errno);
  return FileDescriptor(fd);
}

std::optional<pid_t> process_of(int pidfd) {
  std::ifstream about(fmt::format("/proc/self/fdinfo/{}", pidfd));
  std::string line;
  while (std::getline(about, line)) {
    if (line.starts_with("Pid:")) return static_cast<pid_t>(std::strtol(line.c_str() + 4, nullptr, 10));
  }
  return std::nullopt;
}

}  // namespace tiercel::wire
