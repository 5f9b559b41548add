#include "service/client/client_core.h"

#include "base/log.h"
#include "base/try.h"
#include "service/client/remote_session.h"
#include "service/start/place.h"

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <random>
#include <system_error>
#include <thread>
#include <utility>

namespace tiercel {
namespace detail {

/// The lines and the thread that keeps them. Shared by the core and the thread: the core may end on the thread.
struct ClientCore::Keeper {
  FileDescriptor woken;
  std::thread thread;
  std::atomic<bool> stopping{false};  // set (release) before a wake; pairs with the thread's look (acquire)
  Mutex mutex;                        // taken before a line's
  std::vector<std::weak_ptr<service::Line>> lines TIERCEL_GUARDED_BY(mutex);

  void wake() const noexcept {
    const std::uint64_t one = 1;
    (void)!::write(woken.get(), &one, sizeof(one));
  }

  static void run(const std::shared_ptr<Keeper>& keeper) {
    const SteadyClock clock;
    while (!keeper->stopping.load(std::memory_order_acquire)) {
      std::uint64_t next = UINT64_MAX;
      std::vector<pollfd> watched;
      try {
        watched.push_back({.fd = keeper->woken.get(), .events = POLLIN, .revents = 0});
        std::vector<std::weak_ptr<service::Line>> lines;
        {
          const MutexLock lock(keeper->mutex);
          std::erase_if(keeper->lines, [](const auto& line) { return line.expired(); });
          lines = keeper->lines;
        }
        for (const auto& weak : lines) {
          const auto line = weak.lock();
          if (!line) continue;
          next = std::min(next, line->maintain(clock.now_ns()));
          if (const auto watch = line->watch()) {
            const short events =
                static_cast<short>(POLLRDHUP | (watch->replies ? POLLIN : 0) | (watch->unsent ? POLLOUT : 0));
            watched.push_back({.fd = watch->socket, .events = events, .revents = 0});
          }
        }
      } catch (const std::bad_alloc&) {
        next = clock.now_ns() + 100'000'000;
      }
      if (keeper->stopping.load(std::memory_order_acquire)) return;
      const std::uint64_t now = clock.now_ns();
      const int timeout = next == UINT64_MAX ? 1000
                          : next <= now      ? 0
                                        : static_cast<int>(std::min<std::uint64_t>((next - now) / 1'000'000 + 1, 1000));
      const int ready = ::poll(watched.data(), watched.size(), timeout);
      if (ready <= 0 || watched.empty()) continue;
      if ((watched[0].revents & POLLIN) != 0) {
        std::uint64_t drained = 0;
        (void)!::read(keeper->woken.get(), &drained, sizeof(drained));
      }
      keeper->note_broken(watched);
    }
  }

  void note_broken(const std::vector<pollfd>& watched) noexcept {
    std::vector<std::weak_ptr<service::Line>> all;
    try {
      const MutexLock lock(mutex);
      all = lines;
    } catch (const std::bad_alloc&) {
      return;  // seen again the next time
    }
    for (const auto& weak : all) {
      const auto line = weak.lock();
      const auto watch = line ? line->watch() : std::nullopt;
      if (!watch) continue;
      const bool broken = std::ranges::any_of(watched, [&](const pollfd& one) {
        return one.fd == watch->socket && (one.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
      });
      if (broken) line->lost(watch->socket);
    }
  }
};

namespace {

std::optional<service::start::Starter> starter_of(const ClientOptions& options) {
  if (!options.start) return std::nullopt;
  return service::start::Starter(options.socket, *options.start);
}

Status check(const StartOptions& start) {
  if (start.deadline.count() < 100 || start.deadline.count() > 300'000) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("start.deadline: {} ms; valid is 100 to 300000", start.deadline.count()));
  }
  if (start.restarts_an_hour > 60) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("start.restarts_an_hour: {}; valid is 0 to 60", start.restarts_an_hour));
  }
  return {};
}

/// The path, and whether a service is started there.
void choose_socket(ClientOptions& options) {
  if (!options.socket.empty()) return;
  const char* named = std::getenv("TIERCEL_SOCKET");
  if (named != nullptr && *named != '\0') options.start.reset();  // that one is somebody else's to start
  options.socket = options.start ? private_socket_path(*options.start) : default_socket_path();
}

}  // namespace

ClientCore::ClientCore(ClientOptions options, std::shared_ptr<Keeper> keeper)
    : options_(std::move(options)), starter_(starter_of(options_)), keeper_(std::move(keeper)) {}

Result<std::shared_ptr<ClientCore>> ClientCore::create(const ClientOptions& given) {
  ClientOptions options = given;
  choose_socket(options);
  if (options.call_deadline.count() < 1 || options.call_deadline.count() > 60'000) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("call_deadline: {} ms; valid is 1 to 60000", options.call_deadline.count()));
  }
  if (options.reconnect_pause.count() < 1 || options.reconnect_pause.count() > 60'000) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("reconnect_pause: {} ms; valid is 1 to 60000", options.reconnect_pause.count()));
  }
  if (options.start) TIERCEL_TRY(check(*options.start));
  auto keeper = std::make_shared<Keeper>();
  keeper->woken = FileDescriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!keeper->woken) return fail(ErrorCode::kIo, fmt::format("eventfd: {}", strerror(errno)), errno);
  std::shared_ptr<ClientCore> core(new ClientCore(std::move(options), keeper));
  {
    const SteadyClock clock;
    const auto patience = static_cast<std::uint64_t>(std::chrono::nanoseconds(core->options_.call_deadline).count());
    TIERCEL_TRY_ASSIGN(auto link, core->open_link({}, clock.now_ns() + patience, false, nullptr));
    // It keeps the service, and nothing of its arena: else the next service would wait for this very client.
    (void)link->take_arena();
    (void)link->take_life();
    const MutexLock lock(core->mutex_);
    if (core->starter_) core->waiting_ = std::move(link);
  }
  try {
    keeper->thread = std::thread([keeper] {
      (void)pthread_setname_np(pthread_self(), "tiercel-client");
      Keeper::run(keeper);
    });
  } catch (const std::system_error& error) {
    return fail(ErrorCode::kIo, fmt::format("the system gives no more threads: {}", error.what()),
                error.code().value());
  }
  return core;
}

ClientCore::~ClientCore() {
  if (::getpid() != process_) {  // a forked child: the thread was not forked with it
    if (keeper_->thread.joinable()) keeper_->thread.detach();
    return;
  }
  keeper_->stopping.store(true, std::memory_order_release);
  keeper_->wake();
  if (!keeper_->thread.joinable()) return;
  // The last line may end on the thread itself.
  if (keeper_->thread.get_id() == std::this_thread::get_id()) {
    keeper_->thread.detach();
  } else {
    keeper_->thread.join();
  }
}

Result<Session> ClientCore::open_session(const SessionOptions& options) {
  std::random_device entropy;
  auto line = std::make_shared<service::Line>(shared_from_this(), options, entropy());
  TIERCEL_TRY(line->open());
  {
    std::shared_ptr<service::Link> waiting;  // goes without the lock
    const MutexLock lock(mutex_);
    waiting.swap(waiting_);
  }
  try {
    {
      const MutexLock lock(keeper_->mutex);
      keeper_->lines.push_back(line);
    }
    keeper_->wake();  // to watch its socket
    return Session(std::make_shared<service::RemoteSession>(line, options));
  } catch (const std::bad_alloc&) {
    line->close();  // else it holds itself by what it may hold
    throw;
  }
}

bool ClientCore::sync() {
  std::vector<std::weak_ptr<service::Line>> lines;
  {
    const MutexLock lock(keeper_->mutex);
    lines = keeper_->lines;
  }
  bool all = true;
  for (const auto& weak : lines) {
    const auto line = weak.lock();
    if (line && !line->sync()) all = false;
  }
  return all;
}

Result<std::shared_ptr<service::Link>> ClientCore::open_link(const service::Link::Greeting& greeting,
                                                             std::uint64_t deadline_ns, bool lost,
                                                             service::Link::Refusal* refusal) {
  if (!starter_) return service::Link::open_patiently(options_.socket, greeting, deadline_ns, refusal);
  using Occasion = service::start::Starter::Occasion;
  const std::chrono::nanoseconds answer = lost ? options_.call_deadline : options_.start->deadline;
  return starter_->open(greeting, {.occasion = lost ? Occasion::kLost : Occasion::kCall,
                                   .answer_ns = static_cast<std::uint64_t>(answer.count()),
                                   .cancelled = &keeper_->stopping,
                                   .refusal = refusal});
}

Result<service::Handshake> ClientCore::greet(const service::Link::Greeting& greeting) {
  if (starter_) TIERCEL_TRY(service::start::prepare_directory(options_.socket));
  return service::Handshake::begin(options_.socket, greeting);
}

bool ClientCore::may_start_after(const Error& error) const noexcept {
  return starter_ && service::start::Starter::nobody_answers(error);
}

Result<std::shared_ptr<const Mapping>> ClientCore::map(service::Link& link) {
  const MutexLock lock(mutex_);
  FileDescriptor memfd = link.take_arena();
  auto known = arena_.lock();
  if (known && arena_of_ == link.welcome().arena && known->bytes() == link.welcome().arena_bytes) return known;
  TIERCEL_TRY_ASSIGN(auto mapping, Mapping::of_memfd(memfd.release(), link.welcome().arena_bytes));
  auto shared = std::make_shared<const Mapping>(std::move(mapping));
  arena_ = shared;
  arena_of_ = link.welcome().arena;
  return shared;
}

std::shared_ptr<const Mapping> ClientCore::arena() {
  const MutexLock lock(mutex_);
  return arena_.lock();
}

void ClientCore::wake() noexcept { keeper_->wake(); }

}  // namespace detail

std::string default_socket_path() {
  if (const char* named = std::getenv("TIERCEL_SOCKET"); named != nullptr && *named != '\0') return named;
  if (const char* run = std::getenv("XDG_RUNTIME_DIR"); run != nullptr && *run != '\0') {
    return std::string(run) + "/tiercel/tiercel.sock";
  }
  return "/run/tiercel/tiercel.sock";
}

Result<Client> Client::connect(const ClientOptions& options) {
  try {
    TIERCEL_TRY_ASSIGN(auto core, detail::ClientCore::create(options));
    return Client(std::move(core));
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kOutOfMemory, "no memory for a client");
  }
}

Client::Client(std::shared_ptr<detail::ClientCore> core) : core_(std::move(core)) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

const std::string& Client::socket() const {
  static const std::string kNone;
  return core_ ? core_->options().socket : kNone;
}

bool Client::sync() { return core_ && core_->sync(); }

Result<Session> Client::open_session(const SessionOptions& options) {
  if (!core_) return fail(ErrorCode::kClosed, "the client was moved away");
  try {
    return core_->open_session(options);
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kOutOfMemory, "no memory for another session");
  }
}

}  // namespace tiercel
