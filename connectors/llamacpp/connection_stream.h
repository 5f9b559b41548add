// Connection and ConnectionStream: one client's socket, and the byte stream that httplib reads a request from.
//
// A Connection owns its socket and outlives single requests; bytes that were read ahead (the next request of a
// pipelining client) stay in it. A ConnectionStream is one request on it, with a time limit for reading the request as
// a whole, so that a client that sends a byte a second cannot hold a worker, and one for every write that makes no
// progress. One thread at a time. Errors are httplib's: -1 or 0 bytes.
#pragma once

#include <httplib.h>

#include <chrono>
#include <cstddef>
#include <string>

namespace tiercel::llamacpp {

class Connection {
 public:
  explicit Connection(int socket) : socket_(socket) {}
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  [[nodiscard]] int socket() const noexcept { return socket_; }
  [[nodiscard]] bool has_bytes() const noexcept { return begin_ < ahead_.size(); }
  /// Would a read answer now (with bytes or the end)?
  [[nodiscard]] bool readable() const;
  /// Has the client closed, or reset the connection? A client that only sent its end counts as gone.
  [[nodiscard]] bool gone() const;

  bool close_after_reply = false;

 private:
  friend class ConnectionStream;
  int socket_;
  std::string ahead_;
  std::size_t begin_ = 0;
};

class ConnectionStream final : public httplib::Stream {
 public:
  struct Limits {
    std::chrono::milliseconds whole_request{10'000};
    std::chrono::milliseconds stalled_write{10'000};
  };
  ConnectionStream(Connection& connection, const Limits& limits);

  bool is_readable() const override;
  bool is_writable() const override;
  ssize_t read(char* data, size_t size) override;
  ssize_t write(const char* data, size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return connection_.socket(); }

 private:
  Connection& connection_;
  Limits limits_;
  std::chrono::steady_clock::time_point read_until_;
};

}  // namespace tiercel::llamacpp
