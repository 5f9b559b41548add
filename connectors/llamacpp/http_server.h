// HttpServer: cpp-httplib with connections that wait without a worker.
//
// cpp-httplib 0.11 gives every open connection a worker thread until it closes, so that as many idle keep-alive
// connections as there are workers stop the server. Here a connection without a request is parked in one epoll set and
// gets a worker only when bytes arrive; workers are held by requests alone. Routing, parsing and replies stay
// httplib's.
//
// Register handlers first, then bind() and serve() (which blocks), end() from any thread. Handlers run on workers.
#pragma once

#include "connectors/llamacpp/connection_stream.h"

#include <tiercel/result.h>

#include <httplib.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

namespace tiercel::llamacpp {

struct HttpOptions {
  std::size_t workers = 32;                ///< requests at once, those that wait for the engine included
  std::size_t connections = 1024;          ///< open at once; one more is closed at once
  std::chrono::milliseconds idle{60'000};  ///< a parked connection is closed after so long
  ConnectionStream::Limits limits;
};

class HttpServer : public httplib::Server {
 public:
  explicit HttpServer(const HttpOptions& options);
  ~HttpServer() override;

  /// Binds and starts to queue connections; port 0 takes a free one. The port.
  [[nodiscard]] Result<int> bind(const std::string& host, int port);
  /// Answers requests until end(). Replies under way are cut by end(): drain first.
  void serve();
  /// Ends serve(), or keeps it from beginning. (httplib's stop() does nothing if it comes too early.)
  void end();
  /// Replies from now on close their connection.
  void close_after_replies() noexcept { closing_.store(true, std::memory_order_release); }

  /// Returns when no worker has a request, or after `limit`.
  void wait_for_replies(std::chrono::milliseconds limit);

  /// For handlers, on their own thread: has the client of this request gone?
  [[nodiscard]] static bool client_gone();
  /// For handlers: close this connection after the reply (its request was not read to the end).
  static void close_this_after_reply();

  [[nodiscard]] std::size_t open_connections() const noexcept { return open_.load(std::memory_order_acquire); }

 private:
  class Workers;
  class Parking;
  bool process_and_close_socket(socket_t socket) override;
  void count_reply(int change);
  void work_on(std::unique_ptr<Connection> connection);

  HttpOptions options_;
  std::atomic<bool> closing_{false};  // close_after_replies (release), workers (acquire)
  std::atomic<std::size_t> open_{0};  // counted up and down by workers and parking (acq_rel)
  enum class Phase : std::uint8_t { kNew, kServing, kEnded };
  std::atomic<Phase> phase_{Phase::kNew};  // serve and end (acq_rel) agree by it on who came first
  std::mutex replies_mutex_;               // guards replying_
  std::condition_variable replied_;
  std::size_t replying_ = 0;
  std::unique_ptr<Parking> parking_;
};

}  // namespace tiercel::llamacpp
