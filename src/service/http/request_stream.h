// RequestStream: one client's socket as httplib reads requests from it and writes answers to it.
//
// Bounded where httplib is not: a request has a number of bytes and a time as a whole, so that a client that sends a
// byte a second, or headers without end, is let go; a write that makes no progress has a time. Owns the socket. One
// thread, except end(), which any thread may call while the stream lives. Errors are httplib's: -1 or 0 bytes.
#pragma once

#include <httplib.h>

#include <chrono>
#include <cstddef>
#include <string>

namespace tiercel::service {

struct RequestLimits {
  std::size_t request_bytes = 16384;              ///< request line and headers; bodies are not read
  std::chrono::milliseconds whole_request{5000};  ///< from its first byte
  std::chrono::milliseconds stalled_write{5000};
};

class RequestStream final : public httplib::Stream {
 public:
  RequestStream(int socket, const RequestLimits& limits);
  ~RequestStream() override;
  RequestStream(const RequestStream&) = delete;
  RequestStream& operator=(const RequestStream&) = delete;

  /// Waits for the first byte of the next request. False: the client is gone, or `idle` is over.
  [[nodiscard]] bool wait_for_request(std::chrono::milliseconds idle);
  /// Did the last request end before its end: too long, too slow, or gone? What follows it is no request then.
  [[nodiscard]] bool broken() const noexcept { return broken_; }
  /// Wakes whoever waits on this socket: there is nothing more to read or write.
  void end() noexcept;
  /// Has the client closed its side?
  [[nodiscard]] bool gone() const;

  bool is_readable() const override;
  bool is_writable() const override;
  ssize_t read(char* data, std::size_t size) override;
  ssize_t write(const char* data, std::size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }

 private:
  [[nodiscard]] bool buffered() const noexcept { return begin_ < buffer_.size(); }

  int socket_;
  RequestLimits limits_;
  std::string buffer_;  // read ahead; what follows a request is the next one's
  std::size_t begin_ = 0;
  std::size_t bytes_left_ = 0;
  bool broken_ = false;
  std::chrono::steady_clock::time_point read_until_;
};

}  // namespace tiercel::service
