#include "owners.h"

#include "left_alone.h"

#include <algorithm>
#include <chrono>
#include <string>

namespace tiercel::python {
namespace {

constexpr std::chrono::seconds kFarewell{2};

std::mutex caches_mutex;
std::vector<std::weak_ptr<CacheState>>& caches() {  // guarded by caches_mutex; never destroyed: caches may outlive it
  static auto* const kAll = new std::vector<std::weak_ptr<CacheState>>();
  return *kAll;
}

template <class T>
void forget_dead(std::vector<std::weak_ptr<T>>& all) {
  std::erase_if(all, [](const std::weak_ptr<T>& one) { return one.expired(); });
}

}  // namespace

void Owner::check_open() const {
  if (!is_of_this_process())
    raise(ErrorCode::kClosed, std::string("the ") + name_ + " belongs to the process that this one was forked from");
  if (is_closed()) raise(ErrorCode::kClosed, std::string("the ") + name_ + " is closed");
}

CacheState::~CacheState() {
  if (!is_of_this_process()) leave_alone(std::move(cache_));
}

std::shared_ptr<Cache> CacheState::get() const {
  check_open();
  const std::lock_guard lock(mutex_);
  if (!cache_) raise(ErrorCode::kClosed, "the cache is closed");
  return cache_;
}

Session CacheState::open_session(const SessionOptions& options) { return value_or_raise(get()->open_session(options)); }

std::shared_ptr<Cache> CacheState::take() {
  if (!is_of_this_process()) return nullptr;
  set_closed();
  const std::lock_guard lock(mutex_);
  return std::exchange(cache_, nullptr);
}

Status CacheState::close(std::chrono::nanoseconds deadline) {
  const std::shared_ptr<Cache> cache = take();
  return cache ? cache->close(deadline) : Status{};
}

void CacheState::farewell() {
  const std::shared_ptr<Cache> cache = take();
  if (!cache) return;
  (void)cache->close(cache->disks().empty() ? std::chrono::nanoseconds(0) : kFarewell);  // the rest ends by itself
}

ClientState::~ClientState() {
  if (!is_of_this_process()) leave_alone(std::move(client_));
}

std::shared_ptr<Client> ClientState::get() const {
  check_open();
  const std::lock_guard lock(mutex_);
  if (!client_) raise(ErrorCode::kClosed, "the client is closed");
  return client_;
}

Session ClientState::open(const SessionOptions& options) { return value_or_raise(get()->open_session(options)); }

void ClientState::remember(const std::shared_ptr<SessionState>& session) {
  const std::lock_guard lock(mutex_);
  forget_dead(sessions_);
  sessions_.push_back(session);
}

void ClientState::close() noexcept {
  if (!is_of_this_process()) return;
  set_closed();
  std::shared_ptr<Client> client;
  std::vector<std::weak_ptr<SessionState>> sessions;
  {
    const std::lock_guard lock(mutex_);
    client.swap(client_);
    sessions.swap(sessions_);
  }
  for (const auto& one : sessions)
    if (const auto session = one.lock()) session->close();
}

SessionState::~SessionState() {
  if (!is_of_this_process()) leave_alone(std::move(session_));
}

void SessionState::check_open() const {
  owner_->check_open();
  if (closed_.load(std::memory_order_acquire)) raise(ErrorCode::kClosed, "the session is closed");
}

void SessionState::close() noexcept {
  if (!is_of_this_process() || closed_.exchange(true, std::memory_order_acq_rel)) return;
  session_->close();
}

PyCache keep(Cache cache) {
  auto state = std::make_shared<CacheState>(std::move(cache));
  const std::lock_guard lock(caches_mutex);
  forget_dead(caches());
  caches().push_back(state);
  return PyCache(std::move(state));
}

PySession open_session(const std::shared_ptr<Owner>& owner, const SessionOptions& options) {
  const WithoutGil without_gil;
  owner->check_open();
  auto state = std::make_shared<SessionState>(owner->open_session(options), owner);
  if (auto* const client = dynamic_cast<ClientState*>(owner.get())) client->remember(state);
  return PySession(std::move(state));
}

void close_all_caches() {
  const WithoutGil without_gil;
  std::vector<std::weak_ptr<CacheState>> open;
  {
    const std::lock_guard lock(caches_mutex);
    open.swap(caches());
  }
  for (const auto& one : open)
    if (const auto cache = one.lock()) cache->farewell();
}

}  // namespace tiercel::python
