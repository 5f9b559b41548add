// LocalSession: the Session of a cache in the same process, with its handles. Safe from several threads.
#pragma once

#include "cache/core.h"
#include "cache/session_backend.h"

#include <atomic>
#include <map>
#include <memory>
#include <string>

namespace tiercel::detail {

class LocalReservation;

/// The sessions of one engine: who is there, and the scheduler member's open reservations. Safe from several threads;
/// its mutex is a leaf: nothing else is locked under it.
class EngineGroup {
 public:
  explicit EngineGroup(std::uint32_t members) : members_(members) {}

  [[nodiscard]] std::uint32_t members() const noexcept { return members_; }
  [[nodiscard]] Status join(const SessionGroup& group);
  /// True: that was the last member.
  [[nodiscard]] bool leave() noexcept;
  /// How many members have left so far. A reservation asks before it begins.
  [[nodiscard]] std::uint64_t departures() const noexcept;
  /// False: a member is gone, or one has left since `departures` was asked: its part may never come.
  [[nodiscard]] bool add(std::uint64_t id, const std::shared_ptr<LocalReservation>& reservation,
                         std::uint64_t departures);
  void remove(std::uint64_t id) noexcept;
  [[nodiscard]] Result<std::shared_ptr<LocalReservation>> find(std::uint64_t id) const;
  /// A member goes: its part of what is open will never come, its number is free again.
  void depart(std::uint32_t member) noexcept;

 private:
  const std::uint32_t members_;
  mutable Mutex mutex_;
  std::uint64_t present_ TIERCEL_GUARDED_BY(mutex_) = 0;  // a bit a member
  std::uint64_t gone_ TIERCEL_GUARDED_BY(mutex_) = 0;     // a bit a member that was here and has not come back
  std::uint64_t departures_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint32_t joined_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::map<std::uint64_t, std::weak_ptr<LocalReservation>> open_ TIERCEL_GUARDED_BY(mutex_);
};

class LocalSession final : public SessionBackend, public std::enable_shared_from_this<LocalSession> {
 public:
  [[nodiscard]] static Result<std::shared_ptr<LocalSession>> make(std::shared_ptr<CacheCore> core,
                                                                  const SessionOptions& options);
  struct Shape {
    std::uint64_t block_bytes = 0;
    std::uint64_t slot_bytes = 0;
  };
  LocalSession(std::shared_ptr<CacheCore> core, const SessionOptions& options, Shape shape);
  ~LocalSession() override;

  [[nodiscard]] Space space(std::string_view tenant) const override;
  [[nodiscard]] Match match(const ChainRef& chain) const override;
  [[nodiscard]] std::unique_ptr<LoadBackend> load(const LoadCall& call) override;
  [[nodiscard]] std::shared_ptr<ReservationBackend> reserve(const ChainRef& chain, std::size_t first,
                                                            std::size_t count) override;
  [[nodiscard]] Result<std::vector<BlockPart>> parts(std::uint64_t reservation_id,
                                                     std::span<const std::size_t> blocks) override;
  [[nodiscard]] Status report(std::uint64_t reservation_id, std::span<const std::size_t> blocks) override;
  [[nodiscard]] Result<std::unique_ptr<PinBackend>> pin(const ChainRef& chain, std::size_t blocks,
                                                        std::chrono::nanoseconds ttl) override;
  [[nodiscard]] Result<Dropped> drop(const ChainRef& chain, std::size_t first) override;
  [[nodiscard]] Result<Dropped> drop(const Space& space) override;
  void report_pool(const KvPool&) override {}  // who shares the process sees its pool anyway
  void report_prefill(double) override {}      // and knows its speed
  void report_prefill(const PrefillTime& prefill) override { core_->planning().add_prefill(*pace_, prefill); }
  [[nodiscard]] std::uint64_t block_bytes() const noexcept override { return shape_.block_bytes; }
  [[nodiscard]] const SessionOptions& options() const noexcept override { return options_; }
  [[nodiscard]] std::shared_ptr<const Mapping> arena() const override { return core_->arena().shared_mapping(); }
  void close() noexcept override;

  [[nodiscard]] std::uint64_t slot_bytes() const noexcept { return shape_.slot_bytes; }
  void set_engine(std::shared_ptr<EngineGroup> engine) { engine_ = std::move(engine); }
  /// Of the engine by which people switch this session's mode; empty: there is none. Once, before it is shared.
  void join_mode(const std::string& engine);

 private:
  [[nodiscard]] bool closed() const noexcept { return closed_.load(std::memory_order_acquire) || core_->closed(); }
  [[nodiscard]] bool owns(const Space& space) const noexcept { return space.family() == family_; }
  [[nodiscard]] Mode mode() const noexcept;
  [[nodiscard]] std::unique_ptr<LoadPlan> plan(const LoadCall& call) const;
  [[nodiscard]] Status check(const Space& space) const;
  [[nodiscard]] Result<std::shared_ptr<LocalReservation>> of_group(std::uint64_t reservation_id) const;

  const std::shared_ptr<CacheCore> core_;
  const SessionOptions options_;
  const Shape shape_;
  const BlockHash family_;
  const std::shared_ptr<EnginePace> pace_ = std::make_shared<EnginePace>();
  std::shared_ptr<EngineGroup> engine_;  // set before the session is shared
  std::string mode_engine_;              // and so are these two
  std::shared_ptr<const Modes::Switch> mode_;
  std::atomic<bool> closed_{false};  // close (acq_rel) pairs with closed() (acquire)

  Mutex mutex_;
  std::map<std::uint64_t, std::weak_ptr<LocalReservation>> open_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<PinRecord>> pins_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel::detail
