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
#include "base/prefault.h"
#include "cache/chain_ref.h"
#include "cache/counters.h"
#include "cache/demotion_queue.h"
#include "cache/disk_side.h"
#include "cache/disk_store.h"
#include "cache/environment.h"
#include "cache/host_store.h"
#include "cache/load_planning.h"
#include "cache/load_times.h"
#include "cache/modes.h"
#include "cache/namespace_names.h"
#include "cache/session_backend.h"
#include "cache/waiting_blocks.h"
#include "memory/arena.h"
#include "model/block_checksum.h"
#include "policy/admission.h"

#include <tiercel/cache.h>

#include <atomic>
#include <functional>
#include <list>
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
    std::shared_ptr<Prefault> prefault;  // none without host.prefault; started by create()
    HostStore store;
  };
  explicit CacheCore(Parts parts);
  ~CacheCore() override;

  /// `mode_engine`: by which name people switch the mode of a session that has no engine id; empty: only that of all.
  [[nodiscard]] Result<std::shared_ptr<LocalSession>> open_session(const SessionOptions& options,
                                                                   const std::string& mode_engine = {});
  /// `engine_id`: of the group that it had joined, else null.
  void forget_session(const LocalSession* session, const std::string* engine_id) noexcept;
  [[nodiscard]] Stats stats();
  [[nodiscard]] Status close(std::chrono::nanoseconds deadline);
  [[nodiscard]] bool closed() const noexcept { return closed_.load(std::memory_order_acquire); }

  // SlotKeeper: copy pins of handles.
  void retain(std::uint32_t slot) noexcept override;
  void release(std::uint32_t slot) noexcept override;

  // For the local session and its handles.
  /// Leading blocks that a load could bring now. Takes no lock while all directories that have blocks answer reads.
  [[nodiscard]] std::size_t match(std::span<const BlockHash> hashes, std::vector<TierSet>& tiers);
  /// Outcomes for the blocks [first, first + outcomes.size()); `fills[i]` is set where outcome i is kYes.
  void begin_fills(const ChainRef& chain, std::size_t first, std::uint64_t slot_bytes, std::span<Reserved> outcomes,
                   std::span<Fill> fills);
  [[nodiscard]] Status commit(const Fill& fill, const BlockIdentity& identity, std::uint32_t length);
  void abort(const Fill& fill);
  void abandon(const Fill& fill);
  struct AcquireRequest {
    std::span<const BlockHash> hashes;
    const Space& space;
    std::uint64_t slot_bytes = 0;
    std::uint64_t deadline_ns = UINT64_MAX;
  };
  struct Acquired {
    HeldBlock block;
    std::shared_ptr<Promotion> promotion;  ///< null: the block is here
  };
  /// Holds leading blocks from hashes[0] on, each with a copy pin, and starts reading those that are on disk alone.
  /// `acquired` has room for all. Fewer than asked for: the answer says why.
  [[nodiscard]] LoadOutcome acquire(const AcquireRequest& request, std::vector<Acquired>& acquired);
  /// Starts reading those of these blocks that are on disk alone, for whoever asks next. Waits for nothing.
  void promote(const AcquireRequest& request) noexcept;
  /// Of loaded blocks, given head first. Without memory for it the touch is shed.
  void touch_later(std::span<const HeldBlock> head_first) noexcept;
  /// Of the blocks of a chain, given head first; the first `used_again` of them were there before.
  void touch_chain_later(std::vector<BlockHash> head_first, std::size_t used_again) noexcept;
  void drop_corrupt(BlockName name);
  [[nodiscard]] Result<std::shared_ptr<PinRecord>> pin(const BlockHash& fingerprint, std::span<const BlockHash> hashes,
                                                       std::uint64_t expires_ns);
  void unpin(PinRecord& record);
  void expire_pins();
  [[nodiscard]] bool has_ended(const PinRecord& record);
  /// Pins that have not ended. For tests.
  [[nodiscard]] std::size_t pin_records();

  // Of people (operating.cc).
  [[nodiscard]] Modes& modes() noexcept { return modes_; }
  /// Takes over the settings that may change while a cache is open.
  void reconfigure(const Config& config);
  [[nodiscard]] std::chrono::milliseconds pin_max_ttl() const noexcept {
    return std::chrono::milliseconds(limits_.pin_max_ttl_ms.load(std::memory_order_relaxed));
  }
  /// The blocks from the root to this one, head first. kNotFound: it is not in the cache. kLimit: more than `most`.
  [[nodiscard]] Result<std::vector<BlockHash>> run_to(const BlockHash& last, std::size_t most);
  /// The fingerprint of a block's namespace; empty: it is not in the cache.
  [[nodiscard]] std::optional<BlockHash> namespace_of(const BlockHash& hash);
  [[nodiscard]] std::vector<NamespaceReport> namespaces();
  [[nodiscard]] NamespaceNames& namespace_names() noexcept { return namespace_names_; }

  /// Of the subtree at `hash`, or of a whole namespace.
  [[nodiscard]] Dropped drop_subtree(const BlockHash& fingerprint, const BlockHash& hash);
  [[nodiscard]] Dropped drop_namespace(const BlockHash& fingerprint);
  /// All namespaces of a tenant, whatever model they are of, those on disk that no session has opened included.
  [[nodiscard]] Dropped drop_tenant(std::string_view name);

  // Tenants (tenants.cc).
  /// From now on. What a tenant has above a lower cap goes in slices, behind this call. kInvalidArgument as for the
  /// settings of a file; kLimit: limits.tenants.
  [[nodiscard]] Status set_tenant(std::string_view name, const TenantConfig& config);
  /// Those with settings first, then by what they hold.
  /// Its settings; the defaults where it has none.
  [[nodiscard]] TenantConfig tenant_config(std::string_view name);
  [[nodiscard]] std::vector<TenantReport> tenants();
  void count_hits(TierId tier, TenantNumber tenant, std::uint64_t blocks, std::uint64_t bytes) noexcept {
    [&]() TIERCEL_NO_THREAD_SAFETY_ANALYSIS { store_.tenants().count_hits(tier, tenant, blocks, bytes); }();
  }

  /// False: closed, or no room in the queue.
  [[nodiscard]] bool submit(Task task) noexcept;
  /// Waits for `ready` (or the cache's end) until the deadline.
  void wait_until(const std::function<bool()>& ready, std::uint64_t deadline_ns);
  void wake() noexcept;
  /// Is called, from any thread, whenever a load may have come further; null ends it. `listener` must be quick, must
  /// not call the core, and is not called any more when this returns.
  void set_progress_listener(std::function<void()> listener);
  [[nodiscard]] const Arena& arena() const noexcept { return *arena_; }

  // Of a core that was made with Environment::arena_later. Until offer_arena() there is no room: reserves and loads of
  // what is on disk say kBusy. fill_arena and offer_arena are one thread's.
  /// Its memory: the memfd of an arena that others still map, whose descriptor is taken over, or (-1) new memory. The
  /// error of a memfd that is not this arena's leaves things as they were.
  Status fill_arena(int memfd);
  /// A slot that somebody may still read or write: `pins` copy pins more, which the caller releases one by one.
  /// kInvalidArgument: there can be no such slot beside what was claimed before.
  struct SlotClaim {
    SlotId slot = kNoSlot;
    std::uint64_t slot_bytes = 0;
    std::uint32_t pins = 0;
  };
  Status claim(const SlotClaim& claim);
  /// From here on slots are handed out.
  void offer_arena();

  /// The slot whose first byte this is; somebody must have a copy pin on it.
  [[nodiscard]] SlotId slot_at(const std::byte* data) const noexcept;
  /// How many slots there can be: their ids lie below it.
  [[nodiscard]] std::uint32_t slot_ids() const noexcept;

  [[nodiscard]] CopyPin adopt_pin(SlotId slot) { return {shared_from_this(), slot}; }
  [[nodiscard]] std::byte* data(SlotId slot) const noexcept;
  [[nodiscard]] const Clock& clock() const noexcept { return environment_.clock; }
  [[nodiscard]] const Config& config() const noexcept { return config_; }
  [[nodiscard]] Counters& counters() noexcept { return counters_; }
  [[nodiscard]] bool paranoid() const noexcept { return config_.integrity.mode == IntegrityMode::kParanoid; }
  [[nodiscard]] LoadTimes& load_times() noexcept { return load_times_; }
  [[nodiscard]] LoadPlanning& planning() noexcept { return planning_; }

  // The disk tier (disk_*.cc).
  [[nodiscard]] std::size_t disks() const noexcept { return disks_.size(); }
  /// One turn of a directory's driver, which is one thread or the simulator; waits at most `wait_ns`. False: it is
  /// closed and nothing is in flight.
  bool step_disk(std::size_t index, std::uint64_t wait_ns);
  /// Nobody will ever call step_disk for the directory: it is off.
  void disk_without_driver(std::size_t index, const std::string& why);
  /// Changes while the directory's device answers; for whoever waits for its end. Any thread.
  [[nodiscard]] std::uint64_t disk_sign_of_life(std::size_t index) const;
  [[nodiscard]] const std::string& disk_path(std::size_t index) const { return disks_[index]->path(); }
  void disk_opened(std::uint32_t index, const DiskEvents::Opened& opened);
  void disk_found(std::uint32_t index, std::span<const DiskBlock> blocks);
  /// Goes on with what has come. True: there is more.
  bool index_disk(std::uint32_t index);
  void disk_recovered(std::uint32_t index, const DiskRecovery& recovery);
  void disk_lost(std::uint32_t index);
  void disk_changed(std::uint32_t index, DiskState state, const std::string& cause);
  /// All directories are indexed, or known not to come for now. For tests and for programs that wait for a warm start.
  [[nodiscard]] bool disks_settled();
  [[nodiscard]] std::vector<DiskReport> disk_reports();
  /// How often a tombstone log was full. For the simulator.
  [[nodiscard]] std::uint64_t disk_full_logs() const;

  /// Aborts on a contradiction. For tests, with nothing in flight.
  void check_consistency();

 private:
  class Delete;
  [[nodiscard]] bool arena_provided() const noexcept;
  [[nodiscard]] std::size_t count_reachable(std::span<const BlockHash> hashes, std::span<const TierSet> tiers);
  void note_reach() TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] BlockId disk_copy_of(const BlockHash& hash) const TIERCEL_REQUIRES(mutex_);
  void add_disk_stats(Stats& stats) TIERCEL_REQUIRES(mutex_);
  void add_disk_counters(Stats& stats) const;
  void cover_waiting(Burials& waiting, std::uint64_t earlier);
  void remember_delete(const Tombstone& tombstone) TIERCEL_REQUIRES(mutex_);
  void cover(const Tombstone& tombstone, std::uint64_t at_least) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Dropped drop_below(FunctionRef<BlockId(const HostStore&)> find_top, const Tombstone& tombstone);
  void begin_delete(Delete& work, FunctionRef<BlockId(const HostStore&)> find_top);
  void drop_pending(Delete& work);
  [[nodiscard]] std::vector<BlockHash> namespaces_of(const TenantId& tenant);

  // tenants.cc
  [[nodiscard]] BlockId claim(const Space& space, std::uint64_t slot_bytes, bool make = false) TIERCEL_REQUIRES(mutex_);
  void kick_charging() noexcept;
  void run_charging() noexcept;
  void kick_trimming() noexcept;
  void run_trimming() noexcept;
  [[nodiscard]] bool trim_slice(std::vector<DiskPlace>& evicted) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] bool goes_on(bool same) TIERCEL_REQUIRES(mutex_);
  void next_to_trim() TIERCEL_REQUIRES(mutex_);

  // disk_promotion.cc
  struct Spare;
  [[nodiscard]] std::optional<LoadOutcome> acquire_one(const AcquireRequest& request, BlockId root,
                                                       HostStore::RoomSearch& room, Spare& spare,
                                                       std::vector<Acquired>& acquired) TIERCEL_REQUIRES(mutex_);
  void start_read(const std::shared_ptr<Promotion>& promotion, std::uint64_t deadline_ns) noexcept;
  void end_read(const std::shared_ptr<Promotion>& promotion, const Status& status) noexcept;
  void verify_promotion(const std::shared_ptr<Promotion>& promotion) noexcept;
  void finish_promotion(const std::shared_ptr<Promotion>& promotion, Promotion::State state) noexcept;
  [[nodiscard]] bool lose_disk_copy(BlockName name) noexcept;

  // disk_demotion.cc
  void consider_demotion(BlockId id) TIERCEL_REQUIRES(mutex_);
  void touch_disk(std::span<const BlockName> used, std::uint64_t now_ns) TIERCEL_REQUIRES(mutex_);
  void reconsider_demotions(std::span<const BlockName> tail_first) noexcept;
  void reconsider_demotions(std::span<const BlockHash> head_first) noexcept;
  void demote_cut_off() noexcept;
  void kick_demotion() noexcept;
  void run_demotion() noexcept;
  struct Demotion;
  void take_demotions(std::vector<Demotion>& work, std::vector<DiskPlace>& evicted, bool& again);
  [[nodiscard]] bool write_demotion(Demotion& work);
  void end_write(const DiskCopy& copy, std::uint64_t started_ns, const Status& status) noexcept;

  // disk_deletes.cc
  void forget_delete(Delete& work) noexcept;
  void bury(Delete& work);
  void add_burial(std::uint32_t index, Burials& burial, Burials& given_up) TIERCEL_REQUIRES(mutex_);
  void end_given_up(std::uint32_t index, const Burials& given_up);
  void release_places(std::span<const DiskPlace> places) noexcept;
  void give_burials(std::uint32_t index);
  void end_burial(std::uint32_t index, const std::shared_ptr<Burial>& burial, const Status& status);

  // disk_recovery.cc
  struct Found {
    enum class Result : std::uint8_t { kAdopted, kWaits, kUnwanted, kGone };
    std::vector<Result> results;         ///< of a slice
    std::vector<DiskPlace> replaced;     ///< older copies that gave way: to be cleared
    std::vector<WaitingPlace> children;  ///< their parent has come
  };
  void adopt_slice(std::uint32_t index, std::span<const DiskBlock> blocks, Found& found)
      TIERCEL_REQUIRES(orphans_mutex_);
  void adopt_children(Found& found) TIERCEL_REQUIRES(orphans_mutex_);
  void clear_replaced(Found& found) TIERCEL_REQUIRES(orphans_mutex_);
  void forget_waiting(std::uint32_t index);
  void wait_for_parent(const BlockHash& parent, WaitingPlace place, Found& found) TIERCEL_REQUIRES(orphans_mutex_);
  [[nodiscard]] std::uint64_t drop_orphans(bool all, const Recovery& ended) TIERCEL_REQUIRES(orphans_mutex_);
  [[nodiscard]] Found::Result adopt_one(std::uint32_t index, const DiskBlock& block, std::uint64_t now_ns,
                                        std::vector<DiskPlace>& replaced) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] bool vouches(BlockId parent, const DiskBlock& block) const TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] bool indexing_ended() const TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] std::uint64_t covered_by_name(const BlockHash& hash) const TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] std::uint64_t covered_with_namespace(const DiskBlock& block) const TIERCEL_REQUIRES(mutex_);
  void settle_disks();
  void clear_places(std::span<const DiskPlace> places);
  void checkpoint_disks(std::uint64_t limit_ns);
  [[nodiscard]] bool checkpoint_disk(std::uint32_t index, std::uint64_t limit_ns);
  void close_disks(std::uint64_t end_ns, std::uint64_t wait_ns);
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

  [[nodiscard]] std::unique_ptr<AdmissionPolicy> make_admission(Admission admission) const;

  const Config config_;  // as it was at the start
  const Environment environment_;
  const std::shared_ptr<Arena> arena_;
  const std::shared_ptr<Prefault> prefault_;
  std::shared_ptr<Prefault> arena_prefault_;  // of an arena that came later; written before arena_filled_ is
  std::atomic<bool> arena_filled_;            // fill_arena (release) pairs with who asks for its pages (acquire)
  Counters counters_;
  Modes modes_;
  NamespaceNames namespace_names_;
  struct {  // what reconfigure() changes; relaxed: each is a number of its own
    std::atomic<std::uint32_t> sessions;
    std::atomic<std::uint32_t> pinned_percent;
    std::atomic<std::uint64_t> pin_max_ttl_ms;
  } limits_;
  std::atomic<std::uint64_t> copy_pins_{0};  // seq_cst with closed_: release() and close() must not miss each other
  LoadTimes load_times_;
  LoadPlanning planning_;
  std::atomic<bool> closed_{false};  // close (release) pairs with closed() (acquire)
  Gate users_;                       // of executor and copy engine; close() waits for it to empty

  Mutex listener_mutex_;  // a leaf
  std::function<void()> listener_ TIERCEL_GUARDED_BY(listener_mutex_);

  Mutex mutex_;
  HostStore store_ TIERCEL_GUARDED_BY(mutex_);
  std::map<const LocalSession*, std::weak_ptr<LocalSession>> sessions_ TIERCEL_GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<EngineGroup>> engines_ TIERCEL_GUARDED_BY(mutex_);
  PinsByEnd pins_ TIERCEL_GUARDED_BY(mutex_);  // what has not ended
  bool handover_active_ TIERCEL_GUARDED_BY(mutex_) = false;

  Mutex tenants_mutex_;  // one change of settings at a time; taken before mutex_
  TenantConfigs tenant_configs_ TIERCEL_GUARDED_BY(tenants_mutex_);
  struct Trimming {
    bool active = false;  // a task is at it
    bool wanted = false;  // and is to begin again
    std::uint32_t tenant = 0;
    std::size_t tier = 0;
    HostStore::RoomSearch room;
  };
  Trimming trimming_ TIERCEL_GUARDED_BY(mutex_);
  struct Charging {
    bool active = false;
    bool wanted = false;
    DiskStore::Cursor at;
  };
  Charging charging_ TIERCEL_GUARDED_BY(mutex_);
  std::atomic<bool> charge_wanted_{false};  // relaxed: set under the lock, which whoever acts on it takes

  std::vector<std::unique_ptr<DiskDirectory>> disks_;                  // made at creation
  std::atomic<DiskStore::Reach> disk_reach_{DiskStore::Reach::kNone};  // relaxed: advice for match
  Budget demoting_bytes_;
  DiskStore disk_store_ TIERCEL_GUARDED_BY(mutex_);
  Promotions promotions_ TIERCEL_GUARDED_BY(mutex_);
  DemotionQueue demotions_ TIERCEL_GUARDED_BY(mutex_);
  bool demoting_ TIERCEL_GUARDED_BY(mutex_) = false;      // a task is at it
  bool demote_again_ TIERCEL_GUARDED_BY(mutex_) = false;  // and is to look again
  std::uint64_t writes_in_flight_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::unique_ptr<AdmissionPolicy> admission_ TIERCEL_GUARDED_BY(mutex_);
  Admission admitting_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<DiskProgress> disk_progress_ TIERCEL_GUARDED_BY(mutex_);
  Recovery recovery_ TIERCEL_GUARDED_BY(mutex_);
  std::list<Tombstone> deletes_under_way_ TIERCEL_GUARDED_BY(mutex_);  // begun, and not among the burials yet
  Mutex orphans_mutex_;                                                // taken before mutex_
  WaitingBlocks orphans_ TIERCEL_GUARDED_BY(orphans_mutex_);
  std::uint64_t orphans_refused_ TIERCEL_GUARDED_BY(orphans_mutex_) = 0;  // more than may wait
  struct Headers {                                                        // as of DiskEvents::Opened
    std::function<bool(std::uint32_t slot, DiskBlock& to)> read;
    std::function<void(std::uint32_t slot)> prefetch;
  };
  std::vector<Headers> headers_ TIERCEL_GUARDED_BY(orphans_mutex_);  // of the directories' files
  std::vector<Found> found_ TIERCEL_GUARDED_BY(orphans_mutex_);      // by the directories' drivers
  std::atomic<std::uint64_t> indexed_slices_{0};  // relaxed: a sign of life of drivers that are at it
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
