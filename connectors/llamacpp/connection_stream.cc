#include "connectors/llamacpp/connection_stream.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace tiercel::llamacpp {
namespace {

using std::chrono::steady_clock;

constexpr std::size_t kReadAhead = 16384;

/// Waits for `events`; true if they (or an error, which the next call will tell) came before `until`.
bool wait_for(int socket, short events, steady_clock::time_point until) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - steady_clock::now()).count();
    pollfd poll_socket{.fd = socket, .events = events, .revents = 0};
    const int n = ::poll(&poll_socket, 1, static_cast<int>(std::clamp<long long>(left, 0, 60'000)));
    if (n > 0) return true;
    if (n < 0 && errno != EINTR) return false;
    if (n == 0 && steady_clock::now() >= until) return false;
  }
}

void name_of(const sockaddr_storage& address, std::string& ip, int& port) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.ss_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &address, sizeof v4);
    ::inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
    port = ntohs(v4.sin_port);
  } else if (address.ss_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, &address, sizeof v6);
    ::inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
    port = ntohs(v6.sin6_port);
  }
  ip = text.data();
}

}  // namespace

Connection::~Connection() {
  ::shutdown(socket_, SHUT_RDWR);
  ::close(socket_);
}

bool Connection::readable() const {
  pollfd poll_socket{.fd = socket_, .events = POLLIN, .revents = 0};
  return ::poll(&poll_socket, 1, 0) > 0;
}

bool Connection::gone() const {
  char byte = 0;
  const ssize_t n = ::recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (n > 0) return false;  // the next request of a pipelining client
  return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

ConnectionStream::ConnectionStream(Connection& connection, const Limits& limits)
    : connection_(connection), limits_(limits), read_until_(steady_clock::now() + limits.whole_request) {}

bool ConnectionStream::is_readable() const {
  return connection_.has_bytes() || wait_for(connection_.socket(), POLLIN, read_until_);
}

bool ConnectionStream::is_writable() const {
  return wait_for(connection_.socket(), POLLOUT, steady_clock::now() + limits_.stalled_write) && !connection_.gone();
}

ssize_t ConnectionStream::read(char* data, size_t size) {
  Connection& c = connection_;
  if (!c.has_bytes()) {
    if (!wait_for(c.socket(), POLLIN, read_until_)) return -1;
    c.ahead_.resize(kReadAhead);
    c.begin_ = 0;
    ssize_t n = 0;
    do {
      n = ::recv(c.socket(), c.ahead_.data(), c.ahead_.size(), 0);
    } while (n < 0 && errno == EINTR);
    c.ahead_.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    if (n <= 0) return n;
  }
  const std::size_t n = std::min(size, c.ahead_.size() - c.begin_);
  std::copy_n(c.ahead_.data() + c.begin_, n, data);
  c.begin_ += n;
  return static_cast<ssize_t>(n);
}

ssize_t ConnectionStream::write(const char* data, size_t size) {
  std::size_t sent = 0;
  while (sent < size) {
    if (!wait_for(connection_.socket(), POLLOUT, steady_clock::now() + limits_.stalled_write)) return -1;
    const ssize_t n = ::send(connection_.socket(), data + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK) return -1;
    if (n > 0) sent += static_cast<std::size_t>(n);
  }
  return static_cast<ssize_t>(sent);
}

void ConnectionStream::get_remote_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (::getpeername(connection_.socket(), reinterpret_cast<sockaddr*>(&address), &length) == 0)
    name_of(address, ip, port);
}

void ConnectionStream::get_local_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (::getsockname(connection_.socket(), reinterpret_cast<sockaddr*>(&address), &length) == 0)
    name_of(address, ip, port);
}

}  // namespace tiercel::llamacpp
