// Listener: one address of the service's HTTP, with threads of its own.
//
// cpp-httplib gives every open connection a thread until it closes. Here that is bounded and grows on demand: up to
// `connections` threads, and one connection more is answered 503 and closed at once, by the thread that accepts.
// Routing, parsing and answers stay httplib's. No body is read unless the payload's
// greatest length is set.
//
// Bind, add routes (Get), start(), stop(). Handlers run on the connections' threads; stop() wakes and joins them, but
// a handler that waits for something else must be woken by its owner before.
#pragma once

#include "config/address.h"
#include "io/file_descriptor.h"
#include "service/http/request_stream.h"

#include <tiercel/result.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <thread>

namespace tiercel::service {

struct ListenerOptions {
  std::string key;  ///< of the setting that the address is from, for errors
  config::Address address;
  std::size_t connections = 256;
  std::chrono::milliseconds idle{30'000};  ///< a connection without a request is closed after so long
  RequestLimits limits = {};
};

class Listener final : public httplib::Server {
 public:
  /// Binds; connections queue in the kernel until start(). kIo: the sentence names the key and what to do.
  [[nodiscard]] static Result<std::unique_ptr<Listener>> bind(const ListenerOptions& options);
  /// On a stream socket that listens already: of whatever family. The address is not looked at.
  [[nodiscard]] static std::unique_ptr<Listener> adopt(const ListenerOptions& options, FileDescriptor listening);
  ~Listener() override;

  void start();
  /// Cuts every connection and joins. Idempotent; from one thread.
  void end();

  /// With the port that was given for 0.
  [[nodiscard]] const config::Address& address() const noexcept { return options_.address; }
  [[nodiscard]] std::size_t open_connections() const noexcept { return open_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t refused_connections() const noexcept { return refused_.load(std::memory_order_relaxed); }

  /// For handlers, on their own thread: close this connection after the answer.
  static void close_after_answer();
  /// The same: the connection's socket.
  [[nodiscard]] static int socket_of_request() noexcept;

 private:
  class Connections;
  explicit Listener(const ListenerOptions& options);
  bool process_and_close_socket(socket_t socket) override;

  ListenerOptions options_;
  std::atomic<std::size_t> open_{0};       // a gauge: pairs with nothing
  std::atomic<std::uint64_t> refused_{0};  // a counter: pairs with nothing
  std::atomic<bool> finished_{false};      // of the accepting thread (release); end() (acquire)
  Connections* connections_ = nullptr;     // httplib's, while it serves
  std::thread accepting_;
};

}  // namespace tiercel::service
