#include "service/http/request_stream.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace tiercel::service {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kReadAhead = 4096;

/// True if the socket has `events`, or an error that the next call will tell, before `until`.
bool wait_for(int socket, short events, steady_clock::time_point until) {
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now()).count();
    pollfd polled{.fd = socket, .events = events, .revents = 0};
    const int n = ::poll(&polled, 1, static_cast<int>(std::clamp<long long>(left, 0, 60'000)));
    if (n > 0) return true;
    if (n < 0 && errno != EINTR) return false;
    if (n == 0 && left <= 0) return false;
  }
}

}  // namespace

RequestStream::RequestStream(int socket, const RequestLimits& limits) : socket_(socket), limits_(limits) {}

RequestStream::~RequestStream() {
  ::shutdown(socket_, SHUT_RDWR);
  ::close(socket_);
}

bool RequestStream::wait_for_request(milliseconds idle) {
  if (!buffered() && !wait_for(socket_, POLLIN, steady_clock::now() + idle)) return false;
  if (!buffered() && gone()) return false;
  bytes_left_ = limits_.request_bytes;
  read_until_ = steady_clock::now() + limits_.whole_request;
  return true;
}

void RequestStream::end() noexcept { ::shutdown(socket_, SHUT_RDWR); }

bool RequestStream::gone() const {
  char byte = 0;
  const ssize_t n = ::recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (n > 0) return false;
  return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

bool RequestStream::is_readable() const { return buffered() || wait_for(socket_, POLLIN, read_until_); }

bool RequestStream::is_writable() const {
  return wait_for(socket_, POLLOUT, steady_clock::now() + limits_.stalled_write) && !gone();
}

ssize_t RequestStream::read(char* data, std::size_t size) {
  broken_ = broken_ || bytes_left_ == 0 || (!buffered() && !wait_for(socket_, POLLIN, read_until_));
  if (broken_) return -1;
  if (!buffered()) {
    buffer_.resize(kReadAhead);
    begin_ = 0;
    ssize_t n = 0;
    do {
      n = ::recv(socket_, buffer_.data(), buffer_.size(), 0);
    } while (n < 0 && errno == EINTR);
    buffer_.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    broken_ = n <= 0;
    if (broken_) return n;
  }
  const std::size_t n = std::min({size, buffer_.size() - begin_, bytes_left_});
  std::copy_n(buffer_.data() + begin_, n, data);
  begin_ += n;
  bytes_left_ -= n;
  return static_cast<ssize_t>(n);
}

ssize_t RequestStream::write(const char* data, std::size_t size) {
  std::size_t sent = 0;
  while (sent < size) {
    if (!wait_for(socket_, POLLOUT, steady_clock::now() + limits_.stalled_write)) return -1;
    const ssize_t n = ::send(socket_, data + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK) return -1;
    if (n > 0) sent += static_cast<std::size_t>(n);
  }
  return static_cast<ssize_t>(sent);
}

// Who asks is not looked at: what may be asked is decided by where the listener is bound.
void RequestStream::get_remote_ip_and_port(std::string& ip, int& port) const {
  ip.clear();
  port = 0;
}

void RequestStream::get_local_ip_and_port(std::string& ip, int& port) const {
  ip.clear();
  port = 0;
}

}  // namespace tiercel::service
