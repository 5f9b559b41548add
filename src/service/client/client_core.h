// ClientCore: what the sessions of one Client share: the options, the mapped arena, and the thread that keeps their
// lines: it sends what handles give back, connects again, and lets late replies in. Thread-safe.
#pragma once

#include "base/mutex.h"
#include "service/client/line.h"
#include "service/start/starter.h"

#include <tiercel/client.h>

#include <unistd.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace tiercel::detail {

class ClientCore final : public service::Line::Home, public std::enable_shared_from_this<ClientCore> {
 public:
  [[nodiscard]] static Result<std::shared_ptr<ClientCore>> create(const ClientOptions& options);
  ~ClientCore() override;

  [[nodiscard]] Result<Session> open_session(const SessionOptions& options);
  [[nodiscard]] bool sync();

  [[nodiscard]] Result<std::shared_ptr<service::Link>> open_link(const service::Link::Greeting& greeting,
                                                                 std::uint64_t deadline_ns, bool lost,
                                                                 service::Link::Refusal* refusal) override;
  [[nodiscard]] Result<service::Handshake> greet(const service::Link::Greeting& greeting) override;
  [[nodiscard]] bool may_start_after(const Error& error) const noexcept override;
  [[nodiscard]] Result<std::shared_ptr<const Mapping>> map(service::Link& link) override;
  [[nodiscard]] std::shared_ptr<const Mapping> arena() override;
  void wake() noexcept override;
  [[nodiscard]] const ClientOptions& options() const noexcept override { return options_; }

 private:
  struct Keeper;  // with the thread, which may outlive this by a moment
  ClientCore(ClientOptions options, std::shared_ptr<Keeper> keeper);

  const ClientOptions options_;
  const std::optional<service::start::Starter> starter_;
  const pid_t process_ = ::getpid();
  const std::shared_ptr<Keeper> keeper_;
  Mutex mutex_;  // a leaf
  /// Keeps a private service from ending until the first session is open: an engine may load its model meanwhile.
  std::shared_ptr<service::Link> waiting_ TIERCEL_GUARDED_BY(mutex_);
  std::weak_ptr<const Mapping> arena_ TIERCEL_GUARDED_BY(mutex_);
  std::uint64_t arena_of_ TIERCEL_GUARDED_BY(mutex_) = 0;  // Welcome::arena
};

}  // namespace tiercel::detail
