// What the Python objects Cache, Client and Session share and keep alive.
//
// A Session keeps its Cache or Client, a Load, a Reservation and a Pin keep their Session: what a program still holds
// works, whatever else it has let go of. Bytes of blocks keep only the copy pin of their slot (block_bytes.h). All are
// safe from several threads. Destruction may wait, so it gives the interpreter's lock up (Kept).
#pragma once

#include "errors.h"
#include "without_gil.h"

#include <tiercel/cache.h>
#include <tiercel/client.h>
#include <tiercel/session.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace tiercel::python {

class SessionState;

/// Whoever gives sessions: a Cache or a Client.
class Owner {
 public:
  explicit Owner(const char* name) : name_(name) {}
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;
  virtual ~Owner() = default;

  /// ClosedError after close, and in a process that forked off the one that opened it.
  void check_open() const;
  [[nodiscard]] bool is_closed() const noexcept { return closed_.load(std::memory_order_acquire); }
  [[nodiscard]] bool is_of_this_process() const noexcept { return process_ == process_number(); }
  /// InvalidArgumentError and so on, as Cache::open_session.
  [[nodiscard]] virtual Session open_session(const SessionOptions& options) = 0;

 protected:
  void set_closed() noexcept { closed_.store(true, std::memory_order_release); }

 private:
  const char* name_;
  unsigned process_ = process_number();
  std::atomic<bool> closed_ = false;  // acquire and release: pairs with itself
};

class CacheState final : public Owner {
 public:
  explicit CacheState(Cache cache) : Owner("cache"), cache_(std::make_shared<Cache>(std::move(cache))) {}
  ~CacheState() override;
  /// Stays usable for the caller while another thread closes.
  [[nodiscard]] std::shared_ptr<Cache> get() const;
  [[nodiscard]] Session open_session(const SessionOptions& options) override;
  /// Also gives its files up, so that they can be opened again. A second call does nothing.
  Status close(std::chrono::nanoseconds deadline);
  /// What Cache's destruction does: what was committed just before is kept on disk; nothing else is waited for.
  void farewell();

 private:
  [[nodiscard]] std::shared_ptr<Cache> take();
  mutable std::mutex mutex_;
  std::shared_ptr<Cache> cache_;  // guarded by mutex_; null when closed
};

class ClientState final : public Owner {
 public:
  explicit ClientState(Client client) : Owner("client"), client_(std::make_shared<Client>(std::move(client))) {}
  ~ClientState() override;
  /// Stays usable for the caller while another thread closes.
  [[nodiscard]] std::shared_ptr<Client> get() const;
  [[nodiscard]] Session open_session(const SessionOptions& options) override { return open(options); }
  /// Closes its sessions too.
  void close() noexcept;
  void remember(const std::shared_ptr<SessionState>& session);

 private:
  [[nodiscard]] Session open(const SessionOptions& options);
  mutable std::mutex mutex_;
  std::shared_ptr<Client> client_;                     // guarded by mutex_; null when closed
  std::vector<std::weak_ptr<SessionState>> sessions_;  // guarded by mutex_
};

class SessionState {
 public:
  SessionState(Session session, std::shared_ptr<Owner> owner)
      : session_(std::make_unique<Session>(std::move(session))), owner_(std::move(owner)) {}
  SessionState(const SessionState&) = delete;
  SessionState& operator=(const SessionState&) = delete;
  ~SessionState();

  [[nodiscard]] Session& get() const {
    check_open();
    return *session_;
  }
  void check_open() const;
  void close() noexcept;
  [[nodiscard]] bool is_of_this_process() const noexcept { return owner_->is_of_this_process(); }

 private:
  std::unique_ptr<Session> session_;
  std::shared_ptr<Owner> owner_;
  std::atomic<bool> closed_ = false;  // acquire and release: pairs with itself
};

/// A shared state as a Python object holds it. One that holds Python objects itself (let_go) is owned by these alone,
/// and the last of them is known because it looks with the interpreter's lock held.
template <class State>
class Kept {
 public:
  explicit Kept(std::shared_ptr<State> state) : state_(std::move(state)) {}
  Kept(Kept&&) noexcept = default;
  Kept& operator=(Kept&&) = delete;
  ~Kept() {
    if (!state_) return;
    if constexpr (requires { state_->let_go(); }) {
      if (state_.use_count() > 1) return;
      state_->let_go();
    }
    const WithoutGil without_gil;
    state_.reset();
  }
  State* operator->() const noexcept { return state_.get(); }
  [[nodiscard]] const std::shared_ptr<State>& shared() const noexcept { return state_; }

 private:
  std::shared_ptr<State> state_;
};

using PyCache = Kept<CacheState>;
using PyClient = Kept<ClientState>;
using PySession = Kept<SessionState>;

[[nodiscard]] PyCache keep(Cache cache);
[[nodiscard]] PySession open_session(const std::shared_ptr<Owner>& owner, const SessionOptions& options);
/// At the end of the interpreter: closes every cache that is still open, so that no thread of one outlives it.
void close_all_caches();

}  // namespace tiercel::python
