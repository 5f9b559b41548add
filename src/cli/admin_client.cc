#include "cli/admin_client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>

namespace tiercel::cli {
namespace {

using std::chrono::steady_clock;

// A delete waits for the logs of slow disks: twice the longest disk.io_deadline of a usual configuration.
constexpr std::chrono::seconds kPatience(60);
constexpr std::size_t kMostBytes = std::size_t{4} << 20U;

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) (void)::close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  [[nodiscard]] int get() const noexcept { return fd_; }

 private:
  int fd_;
};

bool wait_for(int fd, short events, steady_clock::time_point until) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - steady_clock::now()).count();
    pollfd one{.fd = fd, .events = events, .revents = 0};
    const int n = ::poll(&one, 1, static_cast<int>(left > 0 ? left : 0));
    if (n > 0) return true;
    if (n == 0 || errno != EINTR) return false;
  }
}

tl::unexpected<Error> system_error(const std::string& path, int error) {
  if (error == ENOENT || error == ECONNREFUSED) {
    return fail(ErrorCode::kNotFound,
                fmt::format("no service is operated at {}; is `tiercel serve` running, and is this its service.socket "
                            "with .admin behind it (--socket names another)?",
                            path),
                error);
  }
  if (error == EACCES || error == EPERM) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{}: only the service's own user and root may operate it", path), error);
  }
  return fail(ErrorCode::kIo, fmt::format("{}: {}", path, strerror(error)), error);
}

}  // namespace

Result<AdminReply> read_reply(std::string_view text) {
  constexpr std::string_view kVersion = "HTTP/1.1 ";
  const std::size_t head = text.find("\r\n\r\n");
  AdminReply reply;
  const std::string_view code = text.starts_with(kVersion) ? text.substr(kVersion.size()) : std::string_view();
  const auto [_, error] = std::from_chars(code.data(), code.data() + code.size(), reply.status);
  if (head == std::string_view::npos || error != std::errc()) {
    return fail(ErrorCode::kCorrupt, "what answers there is not a service of this version");
  }
  reply.body = text.substr(head + 4);
  return reply;
}

Result<AdminReply> ask_admin(const std::string& path, std::string_view call, std::string_view body) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("--socket: {} is too long for a socket's path", path));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const Socket socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket.get() < 0 || ::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return system_error(path, errno);
  }
  const auto until = steady_clock::now() + kPatience;
  const std::string request = fmt::format(
      "POST /admin/{} HTTP/1.1\r\nHost: tiercel\r\nContent-Type: application/json\r\nContent-Length: {}\r\n"
      "Connection: close\r\n\r\n{}",
      call, body.size(), body);
  for (std::size_t sent = 0; sent < request.size();) {
    if (!wait_for(socket.get(), POLLOUT, until)) break;
    const ssize_t n = ::send(socket.get(), request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) break;  // it may have answered before it read all
    if (n > 0) sent += static_cast<std::size_t>(n);
  }
  std::string text;
  std::array<char, 16'384> some{};
  for (;;) {
    if (!wait_for(socket.get(), POLLIN, until)) {
      return fail(ErrorCode::kTimeout, fmt::format("{}: the service has not answered in time", path));
    }
    const ssize_t n = ::recv(socket.get(), some.data(), some.size(), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (n <= 0 && !text.empty()) return read_reply(text);
    if (n <= 0) return fail(ErrorCode::kIo, fmt::format("{}: the service closed the connection", path));
    text.append(some.data(), static_cast<std::size_t>(n));
    if (text.size() > kMostBytes) return fail(ErrorCode::kCorrupt, fmt::format("{}: the answer has no end", path));
  }
}

}  // namespace tiercel::cli
