#include "connectors/llamacpp/http_server.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tiercel::llamacpp {
namespace {

using std::chrono::steady_clock;

thread_local Connection* current_connection = nullptr;

}  // namespace

/// The workers: threads that run what is enqueued. httplib owns it while serve() runs.
class HttpServer::Workers final : public httplib::TaskQueue {
 public:
  Workers(std::size_t threads, std::function<void()> before_shutdown) : before_shutdown_(std::move(before_shutdown)) {
    for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
  }

  void enqueue(std::function<void()> job) override {
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back(std::move(job));  // bounded by the number of open connections
    }
    changed_.notify_one();
  }

  void shutdown() override {
    before_shutdown_();
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  void run() {
    for (;;) {
      std::function<void()> job;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stopping_ || !jobs_.empty(); });
        if (jobs_.empty()) return;
        job = std::move(jobs_.front());
        jobs_.pop_front();
      }
      job();
    }
  }

  std::mutex mutex_;  // guards jobs_ and stopping_
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
  std::function<void()> before_shutdown_;
};

/// Connections without a request, in one epoll set watched by one thread.
class HttpServer::Parking {
 public:
  Parking(HttpServer& server, std::chrono::milliseconds idle)
      : server_(server), idle_(idle), epoll_(::epoll_create1(EPOLL_CLOEXEC)), wake_(::eventfd(0, EFD_CLOEXEC)) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = wake_;
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event);
  }
  ~Parking() {
    stop();
    ::close(wake_);
    ::close(epoll_);
  }

  void start(Workers* workers) {
    workers_ = workers;
    const std::lock_guard lock(mutex_);
    open_ = true;
    thread_ = std::thread([this] { run(); });
  }

  /// Closes what is parked; from then on nothing is taken.
  void stop() {
    std::unordered_map<int, Parked> closed;
    {
      const std::lock_guard lock(mutex_);
      open_ = false;
      closed.swap(parked_);
    }
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(wake_, &one, sizeof one);
    if (thread_.joinable()) thread_.join();
    server_.open_.fetch_sub(closed.size(), std::memory_order_acq_rel);
  }

  /// Keeps the connection until bytes arrive. If it cannot be kept, it comes back, to be closed.
  [[nodiscard]] std::unique_ptr<Connection> park(std::unique_ptr<Connection> connection) {
    const int socket = connection->socket();
    const std::lock_guard lock(mutex_);
    if (!open_) return connection;
    epoll_event event{};
    event.events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT;
    event.data.fd = socket;
    if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, socket, &event) != 0) return connection;
    parked_[socket] = {.connection = std::move(connection), .until = steady_clock::now() + idle_};
    return nullptr;
  }

 private:
  struct Parked {
    std::unique_ptr<Connection> connection;
    steady_clock::time_point until;
  };

  void run() {
    std::array<epoll_event, 64> events;
    auto next_sweep = steady_clock::now() + std::chrono::seconds(1);
    for (;;) {
      const int n = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 1000);
      for (int i = 0; i < n; ++i) {
        const int socket = events[static_cast<std::size_t>(i)].data.fd;
        if (socket != wake_) hand_over(take(socket));
      }
      {
        const std::lock_guard lock(mutex_);
        if (!open_) return;
      }
      if (steady_clock::now() >= next_sweep) {
        sweep();
        next_sweep = steady_clock::now() + std::chrono::seconds(1);
      }
    }
  }

  std::unique_ptr<Connection> take(int socket) {
    const std::lock_guard lock(mutex_);
    const auto it = parked_.find(socket);
    if (it == parked_.end()) return nullptr;
    auto connection = std::move(it->second.connection);
    parked_.erase(it);
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, socket, nullptr);
    return connection;
  }

  void hand_over(std::unique_ptr<Connection> connection) {
    if (!connection) return;
    // std::function wants a copyable job; the connection itself has one owner, whoever runs the job.
    auto shared = std::make_shared<std::unique_ptr<Connection>>(std::move(connection));
    workers_->enqueue([this, shared] { server_.work_on(std::move(*shared)); });
  }

  void sweep() {
    std::vector<std::unique_ptr<Connection>> late;
    {
      const std::lock_guard lock(mutex_);
      const auto now = steady_clock::now();
      for (auto it = parked_.begin(); it != parked_.end();) {
        if (it->second.until > now) {
          ++it;
          continue;
        }
        late.push_back(std::move(it->second.connection));
        it = parked_.erase(it);
      }
    }
    server_.open_.fetch_sub(late.size(), std::memory_order_acq_rel);  // closing a socket leaves the epoll set
  }

  HttpServer& server_;
  std::chrono::milliseconds idle_;
  int epoll_;
  int wake_;
  Workers* workers_ = nullptr;
  std::mutex mutex_;  // guards open_ and parked_
  bool open_ = false;
  std::unordered_map<int, Parked> parked_;
  std::thread thread_;
};

HttpServer::HttpServer(const HttpOptions& options)
    : options_(options), parking_(std::make_unique<Parking>(*this, options.idle)) {
  new_task_queue = [this] {
    auto workers = std::make_unique<Workers>(options_.workers, [this] { parking_->stop(); });
    parking_->start(workers.get());
    return workers.release();  // httplib owns it
  };
  set_tcp_nodelay(true);  // a token is a small write
  // httplib's default is SO_REUSEPORT, with which two servers share a port without a word.
  set_socket_options([](socket_t socket) {
    const int on = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  });
}

HttpServer::~HttpServer() {
  // httplib closes the socket when it stops serving; one that never served is left to us.
  const socket_t listening = svr_sock_.exchange(INVALID_SOCKET);
  if (listening != INVALID_SOCKET) ::close(listening);
}

Result<int> HttpServer::bind(const std::string& host, int port) {
  errno = 0;
  const bool bound = port == 0 ? (port = bind_to_any_port(host)) > 0 : bind_to_port(host, port);
  if (!bound) {
    const int error = errno;
    return fail(ErrorCode::kIo,
                fmt::format("cannot listen on {}:{}: {}", host, port < 0 ? 0 : port, std::strerror(error)), error);
  }
  // httplib asks for a backlog of 5, which a burst of clients overflows (they would wait a second for the next try).
  ::listen(svr_sock_.load(), 1024);
  return port;
}

void HttpServer::serve() {
  Phase expected = Phase::kNew;
  if (!phase_.compare_exchange_strong(expected, Phase::kServing, std::memory_order_acq_rel)) return;
  listen_after_bind();
  phase_.store(Phase::kEnded, std::memory_order_release);
}

void HttpServer::end() {
  Phase expected = Phase::kNew;
  if (phase_.compare_exchange_strong(expected, Phase::kEnded, std::memory_order_acq_rel)) return;
  // serve() has begun; stop() works from the moment that httplib calls itself running.
  while (!is_running() && phase_.load(std::memory_order_acquire) == Phase::kServing) std::this_thread::yield();
  stop();
}

bool HttpServer::process_and_close_socket(socket_t socket) {
  auto connection = std::make_unique<Connection>(socket);
  if (open_.fetch_add(1, std::memory_order_acq_rel) >= options_.connections) {
    open_.fetch_sub(1, std::memory_order_acq_rel);
    return false;
  }
  work_on(std::move(connection));
  return true;
}

void HttpServer::work_on(std::unique_ptr<Connection> connection) {
  bool goes_on = true;
  while (goes_on) {
    if (!connection->has_bytes() && !connection->readable()) {
      connection = parking_->park(std::move(connection));
      if (!connection) return;
      break;
    }
    ConnectionStream stream(*connection, options_.limits);
    bool closed = false;
    current_connection = connection.get();
    count_reply(1);
    goes_on = process_request(stream, closing_.load(std::memory_order_acquire), closed, nullptr);
    count_reply(-1);
    current_connection = nullptr;
    goes_on = goes_on && !closed && !connection->close_after_reply && !closing_.load(std::memory_order_acquire);
  }
  connection.reset();
  open_.fetch_sub(1, std::memory_order_acq_rel);
}

void HttpServer::count_reply(int change) {
  {
    const std::lock_guard lock(replies_mutex_);
    replying_ += static_cast<std::size_t>(change);
  }
  replied_.notify_all();
}

void HttpServer::wait_for_replies(std::chrono::milliseconds limit) {
  std::unique_lock lock(replies_mutex_);
  replied_.wait_for(lock, limit, [&] { return replying_ == 0; });
}

bool HttpServer::client_gone() { return current_connection != nullptr && current_connection->gone(); }

void HttpServer::close_this_after_reply() {
  if (current_connection != nullptr) current_connection->close_after_reply = true;
}

}  // namespace tiercel::llamacpp
