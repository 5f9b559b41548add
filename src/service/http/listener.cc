#include "service/http/listener.h"

#include "base/mutex.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <deque>
#include <functional>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

namespace tiercel::service {
namespace {

constexpr int kBacklog = 512;
constexpr std::size_t kMostRequestsAConnection = 100'000;
constexpr std::string_view kBusy =
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Type: text/plain\r\n"
    "Content-Length: 45\r\n\r\ntoo many open connections (http.connections)\n";

thread_local bool refusing = false;
thread_local bool closes_after_answer = false;
thread_local int request_socket = -1;

}  // namespace

/// The threads of the open connections. httplib makes it when it begins to serve, and owns it.
class Listener::Connections final : public httplib::TaskQueue {
 public:
  explicit Connections(std::size_t most) : most_(most) {}

  void enqueue(std::function<void()> connection) override {
    if (take(connection)) return;
    refusing = true;
    connection();
    refusing = false;
  }

  void shutdown() override {
    std::vector<std::thread> threads;
    {
      const MutexLock lock(mutex_);
      stopping_ = true;
      for (RequestStream* stream : streams_) stream->end();
      threads.swap(threads_);
    }
    changed_.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  /// From here until remove(), shutdown() ends the stream.
  [[nodiscard]] bool add(RequestStream& stream) {
    const MutexLock lock(mutex_);
    if (!stopping_) streams_.insert(&stream);
    return !stopping_;
  }
  void remove(RequestStream& stream) {
    const MutexLock lock(mutex_);
    streams_.erase(&stream);
  }

 private:
  /// The connection has a thread that waits, or a new one. False: there are as many as may be.
  bool take(const std::function<void()>& connection) {
    const MutexLock lock(mutex_);
    if (stopping_) return false;
    if (idle_ <= waiting_.size()) {
      if (threads_.size() >= most_) return false;
      try {
        threads_.emplace_back([this] { run(); });
      } catch (const std::system_error&) {
        return false;  // no more threads for this process
      }
      ++idle_;  // it will be, as soon as it runs
    }
    waiting_.push_back(connection);
    changed_.notify_one();
    return true;
  }

  void run() {
    for (;;) {
      std::function<void()> connection;
      {
        MutexLock lock(mutex_);
        while (!stopping_ && waiting_.empty()) changed_.wait(lock.native());
        if (waiting_.empty()) return;
        connection = std::move(waiting_.front());
        waiting_.pop_front();
        --idle_;
      }
      connection();
      const MutexLock lock(mutex_);
      ++idle_;
    }
  }

  const std::size_t most_;
  Mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> waiting_ TIERCEL_GUARDED_BY(mutex_);  // never more than idle_
  std::set<RequestStream*> streams_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_ TIERCEL_GUARDED_BY(mutex_);
  std::size_t idle_ TIERCEL_GUARDED_BY(mutex_) = 0;
  bool stopping_ TIERCEL_GUARDED_BY(mutex_) = false;
};

Listener::Listener(const ListenerOptions& options) : options_(options) {
  new_task_queue = [this] { return connections_ = new Connections(options_.connections); };
  set_keep_alive_max_count(kMostRequestsAConnection);
  set_keep_alive_timeout(std::chrono::duration_cast<std::chrono::seconds>(options_.idle).count());
  set_tcp_nodelay(true);
  set_payload_max_length(0);
  // httplib's default is SO_REUSEPORT, with which two services would share a port without a word.
  set_socket_options([](socket_t socket) {
    const int on = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  });
}

Result<std::unique_ptr<Listener>> Listener::bind(const ListenerOptions& options) {
  std::unique_ptr<Listener> listener(new Listener(options));
  config::Address& address = listener->options_.address;
  errno = 0;
  const int port = address.port == 0                                    ? listener->bind_to_any_port(address.host)
                   : listener->bind_to_port(address.host, address.port) ? address.port
                                                                        : -1;
  if (port <= 0) {
    const int error = errno;
    const std::string text = config::format_address(address);
    const std::string why =
        error == EADDRINUSE ? "is taken by another program" : std::generic_category().message(error);
    return fail(ErrorCode::kIo,
                fmt::format("{}: {} {}; choose another port, port 0 for any that is free, or \"\" to do without",
                            options.key, text, why),
                error);
  }
  address.port = static_cast<std::uint16_t>(port);
  ::listen(listener->svr_sock_.load(), kBacklog);  // httplib's 5 make clients of a burst wait for a second
  return listener;
}

std::unique_ptr<Listener> Listener::adopt(const ListenerOptions& options, FileDescriptor listening) {
  std::unique_ptr<Listener> listener(new Listener(options));
  const int flags = ::fcntl(listening.get(), F_GETFL);
  (void)::fcntl(listening.get(), F_SETFL,
                flags & ~O_NONBLOCK);  // httplib takes an accept that finds nobody for the end
  listener->svr_sock_ = listening.release();
  return listener;
}

Listener::~Listener() {
  end();
  const socket_t listening = svr_sock_.exchange(INVALID_SOCKET);  // of one that never served
  if (listening != INVALID_SOCKET) ::close(listening);
}

void Listener::start() {
  accepting_ = std::thread([this] {
    listen_after_bind();
    finished_.store(true, std::memory_order_release);
  });
}

void Listener::end() {
  if (!accepting_.joinable()) return;
  // stop() does nothing before httplib calls itself running, which is moments after start().
  while (!is_running() && !finished_.load(std::memory_order_acquire)) std::this_thread::yield();
  stop();
  accepting_.join();
}

void Listener::close_after_answer() { closes_after_answer = true; }
int Listener::socket_of_request() noexcept { return request_socket; }

bool Listener::process_and_close_socket(socket_t socket) {
  RequestStream stream(socket, options_.limits);
  if (refusing) {
    refused_.fetch_add(1, std::memory_order_relaxed);
    // Nothing waits here: this is the thread that accepts.
    (void)::send(socket, kBusy.data(), kBusy.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return false;
  }
  if (!connections_->add(stream)) return false;
  request_socket = socket;
  open_.fetch_add(1, std::memory_order_relaxed);
  bool goes_on = true;
  while (goes_on && stream.wait_for_request(options_.idle)) {
    closes_after_answer = false;
    bool closed = false;
    goes_on = process_request(stream, false, closed, nullptr) && !closed && !closes_after_answer && !stream.broken();
  }
  open_.fetch_sub(1, std::memory_order_relaxed);
  connections_->remove(stream);
  return true;
}

}  // namespace tiercel::service
