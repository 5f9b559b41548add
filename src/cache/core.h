// CacheCore: what a Cache is behind its handle: the arena's bytes, the host store under one lock, counters, and the
// asynchronous steps (touches, checksums, hand-overs) as tasks of an executor that it is given.
//
// Lock: `mutex_` guards the host store, pins and sessions; it is held for slices of at most kSlice blocks (in a search
// for room also of HostStore's steps) and never across a copy, a checksum, a log line or a callback. `match` and the
// retain half of copy pins take no lock.
// Lifetime: shared by handles, sessions and tasks; so the arena stays mapped until the last copy pin is gone. After
// close() it uses neither executor nor copy engine, and every call answers kClosed.
#pragma once

#include "base/function_ref.h"
#include "base/gate.h"
#include "base/mutex.h"
#include "cache/counters.h"
#include "cache/environment.h"
#include "cache/host_store.h"
#include "cache/session_backend.h"
#include "memory/arena.h"
#include "model/block_checksum.h"

#include <tiercel/cache.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tiercel::detail {

class LocalSession;
class EngineGroup;
struct PinRecord;
using PinsByEnd = std::multimap<std::uint64_t, std::shared_ptr<PinRecord>>;

class CacheCore final : public SlotKeeper, public std::enable_shared_from_this<CacheCore> {
 public:
  static constexpr std::size_t kSlice = 32;  // blocks a lock hold: about 1 us each

  [[nodiscard]] static Result<std::shared_ptr<CacheCore>> create(const Config& config, const Environment& environment);

  struct Parts {
    Config config;
    Environment environment;
    std::shared_ptr<Arena> arena;
    HostStore store;
  };
  explicit CacheCore(Parts parts);
  ~CacheCore() override;

  [[nodiscard]] Result<std::shared_ptr<LocalSession>> open_session(const SessionOptions& options);
  /// `engine_id`: of the group that it had joined, else null.
  void forget_session(const LocalSession* session, const std::string* engine_id) noexcept;
  [[nodiscard]] Stats stats();
  [[nodiscard]] Status close(std::chrono::nanoseconds deadline);
  [[nodiscard]] bool closed() const noexcept { return closed_.load(std::memory_order_acquire); }

  // SlotKeeper: copy pins of handles.
  void retain(std::uint32_t slot) noexcept override;
  void release(std::uint32_t slot) noexcept override;

  // For the local session and its handles.
  [[nodiscard]] std::size_t match(std::span<const BlockHash> hashes, std::vector<TierSet>& tiers) const;
  /// Outcomes for the blocks [first, first + outcomes.size()); `fills[i]` is set where outcome i is kYes.
  void begin_fills(const BlockChain& chain, std::size_t first, std::uint64_t slot_bytes, std::span<Reserved> outcomes,
                   std::span<Fill> fills);
  [[nodiscard]] Status commit(const Fill& fill, const BlockIdentity& identity, std::uint32_t length);
  void abort(const Fill& fill);
  void abandon(const Fill& fill);
  /// Holds leading blocks from hashes[0] on; fewer than asked for: the next is missing.
  void hold(std::span<const BlockHash> hashes, std::vector<HeldBlock>& held);
  /// Of loaded blocks, given head first. Without memory for it the touch is shed.
  void touch_later(std::span<const HeldBlock> head_first) noexcept;
  /// Of the blocks of a chain, given head first.
  void touch_chain_later(std::vector<BlockHash> head_first) noexcept;
  void drop_corrupt(BlockName name);
  [[nodiscard]] Result<std::shared_ptr<PinRecord>> pin(std::span<const BlockHash> hashes, std::uint64_t expires_ns);
  void unpin(PinRecord& record);
  void expire_pins();
  [[nodiscard]] bool has_ended(const PinRecord& record);
  /// Pins that have not ended. For tests.
  [[nodiscard]] std::size_t pin_records();
  /// Of the subtree at `hash`, or of a whole namespace.
  [[nodiscard]] Dropped drop_subtree(const BlockHash& hash);
  [[nodiscard]] Dropped drop_namespace(const BlockHash& fingerprint);

  /// False: closed, or no room in the queue.
  [[nodiscard]] bool submit(Task task) noexcept;
  /// Waits for `ready` (or the cache's end) until the deadline.
  void wait_until(const std::function<bool()>& ready, std::uint64_t deadline_ns);
  void wake() noexcept;

  [[nodiscard]] CopyPin adopt_pin(SlotId slot) { return {shared_from_this(), slot}; }
  [[nodiscard]] std::byte* data(SlotId slot) const noexcept;
  [[nodiscard]] const Clock& clock() const noexcept { return environment_.clock; }
  [[nodiscard]] const Config& config() const noexcept { return config_; }
  [[nodiscard]] Counters& counters() noexcept { return counters_; }
  [[nodiscard]] bool paranoid() const noexcept { return config_.integrity.mode == IntegrityMode::kParanoid; }
  /// Loads measured so far, as nanoseconds a block; 0 before the first.
  [[nodiscard]] std::uint64_t load_ns_per_block() const noexcept;
  void record_load(std::uint64_t ns, std::size_t blocks) noexcept;

  /// Aborts on a contradiction. For tests, with nothing in flight.
  void check_consistency();

 private:
  [[nodiscard]] Dropped drop_below(FunctionRef<BlockId(const HostStore&)> find_top);
  void kick_handover() noexcept;
  void run_handover() noexcept;
  void give_up_handover() noexcept;
  void park_handover() noexcept;
  void start_moves(const std::vector<SlotMove>& moves);
  void finish_move(const SlotMove& move, bool copied) noexcept;
  struct Verification {
    Fill fill;
    BlockHash fingerprint;
    BlockHash hash;
    std::uint32_t length = 0;
  };
  void verify_later(const Verification& work) noexcept;
  void verify(const Verification& work) noexcept;

  const Config config_;
  const Environment environment_;
  const std::shared_ptr<Arena> arena_;
  Counters counters_;
  std::atomic<std::uint64_t> copy_pins_{0};  // seq_cst with closed_: release() and close() must not miss each other
  std::atomic<std::uint64_t> load_ns_per_block_{0};  // relaxed: a statistic
  std::atomic<bool> closed_{false};                  // close (release) pairs with closed() (acquire)
  Gate users_;                                       // of executor and copy engine; close() waits for it to empty

  Mutex mutex_;
  HostStore store_ TIERCEL_GUARDED_BY(mutex_);
  std::map<const LocalSession*, std::weak_ptr<LocalSession>> sessions_ TIERCEL_GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<EngineGroup>> engines_ TIERCEL_GUARDED_BY(mutex_);
  PinsByEnd pins_ TIERCEL_GUARDED_BY(mutex_);  // what has not ended
  bool handover_active_ TIERCEL_GUARDED_BY(mutex_) = false;
  std::uint64_t handover_deadline_ns_ TIERCEL_GUARDED_BY(mutex_) = 0;
};

/// The blocks of one logical pin. Guarded by the core's lock.
struct PinRecord {
  std::vector<BlockName> names;
  std::size_t blocks = 0;  ///< pinned at first; written before the record is shared
  std::uint64_t expires_ns = 0;
  bool ended = false;
  std::optional<PinsByEnd::iterator> place;  ///< in the core's list, until it ends
};

}  // namespace tiercel::detail
