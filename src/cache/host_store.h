// HostStore: the host tier's bookkeeping: index, slots and policy as one state machine, without bytes, threads or time
// of its own.
//
// Owned by the cache core and called under its lock, in slices. Every step that touches a slot's bytes is done by the
// caller, between two calls here: begin_fill / commit, hold / release, a SlotMove's copy. Nothing waits; no room is an
// outcome. The only calls that need no lock are `match` and `retain`.
// Tenants: a block belongs to the tenant of its namespace's root, its slot is charged to it until it is free again, and
// the policy has a list for each slot size and tenant. Whose block goes for whom: cache/victim_choice.h.
#pragma once

#include "cache/demotion_queue.h"
#include "cache/disk_store.h"
#include "cache/tenant_lists.h"
#include "cache/tenant_table.h"
#include "cache/victim_choice.h"
#include "index/block_table.h"
#include "memory/slot_table.h"
#include "policy/eviction.h"

#include <tiercel/result.h>
#include <tiercel/session.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace tiercel {

/// A block that a writer fills: the entry at the time of the reserve, its slot (with one copy pin, the writer's).
struct Fill {
  BlockId id = kNoBlock;
  std::uint64_t generation = 0;
  SlotId slot = kNoSlot;
};

/// A ready block whose slot got a copy pin.
struct HeldBlock {
  BlockId id = kNoBlock;
  std::uint64_t generation = 0;
  SlotId slot = kNoSlot;
  std::uint32_t length = 0;
  std::uint64_t checksum = 0;
  TenantNumber tenant = kNoTenant;
};

/// A copy of one block to another slot, for a hand-over. Both slots have a copy pin until `finish_move`.
struct SlotMove {
  BlockId id = kNoBlock;
  std::uint64_t generation = 0;
  SlotId from = kNoSlot;
  SlotId to = kNoSlot;
  std::uint32_t length = 0;
};

/// Names an entry across slices: valid while the generation agrees.
struct BlockName {
  BlockId id = kNoBlock;
  std::uint64_t generation = 0;
};

struct HostCounters {
  std::uint64_t ready_blocks = 0;
  std::uint64_t stored_blocks = 0;
  std::uint64_t stored_bytes = 0;
  std::uint64_t evicted_blocks = 0;
  std::uint64_t evicted_bytes = 0;
  std::uint64_t aborted_blocks = 0;
  std::uint64_t dropped_blocks = 0;
  std::uint64_t handovers = 0;
  std::uint64_t handovers_failed = 0;
  std::uint64_t handover_pinned_skips = 0;
  std::uint64_t moved_blocks = 0;
  std::uint64_t promoted_blocks = 0;  ///< from a slower tier
  std::uint64_t promoted_bytes = 0;
};

class HostStore {
 public:
  struct Parts {
    BlockTable table;
    SlotTable::Options slots;
    std::unique_ptr<EvictionPolicy> policy;
    std::uint32_t max_namespaces = 4096;
    std::uint64_t max_pinned_bytes = 0;
    std::uint64_t max_filling_bytes = UINT64_MAX;  ///< of blocks that writers fill: the rest is left to loads
    TenantTable tenants = TenantTable({});         ///< as many numbers as `slots` counts
  };
  explicit HostStore(Parts parts);
  /// The disk tier's part of the same index, where there is one, and what waits to go there.
  void attach(DiskStore* disk, DemotionQueue* demotions) noexcept {
    disk_ = disk;
    demotions_ = demotions;
  }
  [[nodiscard]] BlockTable& index() noexcept { return table_; }
  /// Fills from here on get generations above `floor`: of another boot, or found on disk.
  void raise_generation(std::uint64_t floor) noexcept { generation_ = std::max(generation_, floor); }
  [[nodiscard]] std::uint64_t generation() const noexcept { return generation_; }

  // An arena that others may still write into (SlotTable::Options::withheld): there is no room until it is offered.
  [[nodiscard]] SlotTable::Claim claim(SlotId slot, std::uint64_t slot_bytes, std::uint32_t pins) {
    add_slot_size(slot_bytes);
    return slots_.claim(slot, slot_bytes, pins);
  }
  /// True: all of it is offered.
  bool offer(std::uint32_t budget) { return slots_.offer(budget); }

  /// Makes a slot size known: afterwards, no call for it allocates, but for a tenant that is new to it (prepare).
  void add_slot_size(std::uint64_t slot_bytes);
  /// Makes a tenant known to a slot size.
  void prepare(std::uint64_t slot_bytes, TenantNumber tenant) {
    (void)lists_.make(lists_.size_of(slot_bytes), tenant, *policy_);
  }

  // Namespaces.
  /// The root entry of a namespace, made if there is room for another; empty roots of others make room.
  /// `tenant` becomes its owner where it has none yet; an id that is not known leaves it to kNoTenant.
  [[nodiscard]] BlockId root_of(const BlockHash& fingerprint, const TenantTable::Tenant& tenant = {});
  [[nodiscard]] BlockId find_root(const BlockHash& fingerprint) const;
  /// Not known: all zeros.
  [[nodiscard]] TenantId owner_of(const BlockHash& fingerprint) const;
  /// Has a namespace been claimed whose blocks on disk are charged to nobody? Says it once.
  [[nodiscard]] bool take_claimed() noexcept { return std::exchange(claimed_, false); }
  /// Is it nobody's, or a tenant's without a name? Then claim may change that.
  [[nodiscard]] bool is_unclaimed(BlockId root) const noexcept {
    const TenantNumber tenant = table_.tenant(root);
    return tenant == kNoTenant || tenants_.name(tenant).empty();
  }
  [[nodiscard]] std::size_t namespaces() const noexcept { return roots_.size(); }
  /// The next fingerprints behind `after`, in order; answers how many. Fewer than `into` has room for: those are all.
  [[nodiscard]] std::size_t roots_after(const BlockHash& after, std::span<BlockHash> into) const;
  /// One slice of a walk over them, from `after` on: the fingerprints of those of a tenant (or, of an id that is not
  /// known, of those whose tenant nobody knows). False: that was the last. `found` has room for kNamespacesPerSlice.
  static constexpr std::size_t kNamespacesPerSlice = 128;
  [[nodiscard]] bool list_namespaces(const TenantId& tenant, std::optional<BlockHash>& after,
                                     std::vector<BlockHash>& found) const;

  // Tenants.
  [[nodiscard]] TenantTable& tenants() noexcept { return tenants_; }
  [[nodiscard]] const TenantTable& tenants() const noexcept { return tenants_; }
  [[nodiscard]] bool holds_nothing(TenantNumber tenant) const noexcept;
  [[nodiscard]] bool is_above_cap(TenantNumber tenant) const noexcept {
    return slots_.charged_bytes(tenant) > tenants_.cap(TierId::kHost, tenant);
  }

  // Stores.
  struct FillRequest {
    const BlockHash& hash;
    GroupId group;
    BlockId parent;  ///< the entry (or root) of the block before; kNoBlock if it has none
    std::uint64_t slot_bytes;
    std::uint64_t now_ns;
  };
  /// The search for room of one reserve, over all its blocks and slices: bounded a slice, and in all.
  struct RoomSearch {
    std::uint64_t left = 0;     ///< blocks that may still be asked whether they may go; then there is no room
    std::int64_t in_slice = 0;  ///< steps (questions, evictions, entries freed) until the lock should be released
    PolicyList list = 0;        ///< at hand
    std::uint64_t asked = 0;    ///< in that list, without a yes
    int evicted = 0;            ///< for the block at hand
    bool spent = false;         ///< the slice ended before the search did
    // Whose blocks: a tenant is searched to its end before the next.
    TenantNumber victim = kNoTenant;
    bool has_victim = false;
    TenantSet exhausted{};
    // Of the tenant's own, over all slot sizes, from its coldest on.
    std::size_t own_first = 0;
    std::size_t own_done = 0;
    bool own_begun = false;
    std::size_t entry_done = 0;  ///< lists that were searched for an index entry
  };
  [[nodiscard]] static RoomSearch room_search(std::size_t blocks) noexcept {
    return {.left = kQuestionsPerReserve + kQuestionsPerBlock * blocks};
  }
  /// Of every slice: the lock was just taken.
  void begin_slice(RoomSearch& room);
  /// kYes: `fill` is set and the entry is kFilling. For kExists and kInFlight fill.id is the entry. kBusy may have
  /// asked for a hand-over (handover_wanted). Empty: the slice is spent; release the lock and call again in a new one.
  [[nodiscard]] std::optional<Reserved> begin_fill(const FillRequest& request, Fill& fill, RoomSearch& room);
  /// Publishes `length` bytes: ready at once, or kVerifying with `verify`. The writer's copy pin ends in every case
  /// but kIncomplete's (which is the caller's). kDropped, kNoParent: the slot is given back.
  Status commit(const Fill& fill, std::uint32_t length, bool verify, std::uint64_t now_ns);
  /// After the checksum of a kVerifying block was taken. False: it was deleted meanwhile.
  bool finish_verify(BlockName name, std::uint64_t checksum);
  void abort(const Fill& fill);
  /// As abort, while the writer may go on writing: its copy pin stays, the slot waits in quarantine. The caller ends
  /// the pin (release, collect) when the writer is gone.
  void abandon(const Fill& fill);
  /// One slice of evicting what a tenant has above its cap, in a search of its own. False: there is nothing more that
  /// may go.
  [[nodiscard]] bool trim_some(TenantNumber tenant, std::uint64_t now_ns, RoomSearch& room);

  // Promotions: a block that has a ready copy in a slower tier (which the caller holds) gets a slot here.
  /// kYes: the copy is kLoading, `fill` is set and its slot has one copy pin, the promotion's. Else as begin_fill.
  [[nodiscard]] std::optional<Reserved> begin_promotion(BlockId id, std::uint64_t slot_bytes, std::uint64_t now_ns,
                                                        Fill& fill, RoomSearch& room);
  /// True: the block is ready. False: it failed or was deleted meanwhile. The copy pin stays the caller's.
  bool finish_promotion(const Fill& fill, std::uint32_t length, bool loaded, std::uint64_t now_ns);

  // Loads.
  [[nodiscard]] std::optional<HeldBlock> hold(const BlockHash& hash, GroupId group);
  [[nodiscard]] std::optional<HeldBlock> hold(BlockId id);
  void retain(SlotId slot) noexcept { slots_.retain(slot); }
  /// Lock-free half of the end of a copy pin. True: call collect(slot) under the lock.
  [[nodiscard]] bool release(SlotId slot) noexcept { return slots_.release(slot); }
  void collect(SlotId slot) { slots_.collect(slot); }
  /// Both halves, under the lock.
  void release_pin(SlotId slot) { release_and_collect(slot); }
  /// Does the name still stand for the block that it was given for?
  [[nodiscard]] bool knows(BlockName name) const noexcept { return is(name); }
  void set_checksum(BlockName name, std::uint64_t checksum) { table_.set_checksum(name.id, checksum); }
  void touch(std::span<const BlockName> tail_first, std::uint64_t now_ns);
  /// Drops one ready copy whose bytes are not what was committed. Blocks after it stay as they are.
  void drop_corrupt(BlockName name);

  // Logical pins. A pin's bytes count once a block.
  enum class PinOutcome : std::uint8_t { kPinned, kMiss, kLimit, kTenantLimit };
  [[nodiscard]] PinOutcome pin(const BlockHash& hash, GroupId group, BlockName& name);
  void unpin(BlockName name);

  // Deletes: `pending` is a stack that starts with the top of a subtree; each call works on about `limit` entries,
  // ancestors that go with the last of their children included.
  struct DropWork {
    std::vector<BlockName> pending;  ///< has room for `limit` more at each call, and for one at begin_drop
    BlockName children_of{};         ///< its children are being listed, from `after` (its first child if not valid)
    BlockName after{};
    Dropped done;
    std::vector<DiskPlace> places;  ///< on disk, to be buried; has room for `limit` more at each call
  };
  void begin_drop(BlockId top, DropWork& work) const;
  /// True when nothing is left.
  bool drop_some(DropWork& work, int limit);

  // Hand-over of an extent to another slot size.
  [[nodiscard]] bool handover_wanted() const noexcept { return wanted_slot_bytes_ != 0; }
  [[nodiscard]] bool handover_running() const noexcept { return draining_ != kNoExtent; }
  /// step_handover adds at most this many moves: a vector with room for them does not allocate.
  static constexpr std::size_t kMovesPerStep = 16;
  enum class HandoverStep : std::uint8_t { kDone, kFailed, kMoves, kWait };
  /// One slice. kMoves: copy what is in `moves` (maybe nothing), finish_move each, step again. kWait: something in the
  /// extent is being filled or moved; step again later. kDone, kFailed: over.
  [[nodiscard]] HandoverStep step_handover(std::uint64_t now_ns, std::uint64_t deadline_ns,
                                           std::vector<SlotMove>& moves);
  void finish_move(const SlotMove& move, bool copied);
  void give_up_handover();

  // Readers.
  [[nodiscard]] const BlockTable& table() const noexcept { return table_; }
  [[nodiscard]] const SlotTable& slots() const noexcept { return slots_; }
  [[nodiscard]] const HostCounters& counters() const noexcept { return counters_; }
  [[nodiscard]] std::uint64_t pinned_bytes() const noexcept { return pinned_bytes_; }
  void set_max_pinned_bytes(std::uint64_t bytes) noexcept { max_pinned_bytes_ = bytes; }
  [[nodiscard]] std::uint64_t policy_bytes_per_block() const { return policy_->bytes_per_block(); }
  void check_consistency() const;

 private:
  static constexpr int kEvictionsPerFill = 8;
  static constexpr std::int64_t kStepsPerSlice = 64;            // about 0.3 us each where the entries are cold
  static constexpr std::uint64_t kQuestionsPerReserve = 8'192;  // then kBusy; the next reserve goes on from there
  static constexpr std::uint64_t kQuestionsPerBlock = 64;
  static constexpr int kCollectPerSlice = 8;
  static constexpr int kRootsPerSearch = 128;

  [[nodiscard]] bool is(BlockName name) const noexcept {
    return table_[name.id].in_use && table_[name.id].generation == name.generation;
  }
  [[nodiscard]] bool evictable(BlockId id) const noexcept;
  [[nodiscard]] PolicyList list_of(BlockId id) const noexcept;
  struct RoomRequest {
    std::uint64_t slot_bytes;
    TenantNumber tenant;
    std::uint64_t now_ns;
  };
  [[nodiscard]] std::optional<SlotId> take_slot(const RoomRequest& request, RoomSearch& room);
  [[nodiscard]] std::optional<Victim> victim_for(std::size_t size, const RoomRequest& request,
                                                 const TenantSet& exhausted) const;
  [[nodiscard]] bool may_lose(TenantNumber tenant, std::uint64_t bytes) const noexcept;
  [[nodiscard]] bool others_are_colder(const RoomRequest& request) const;
  [[nodiscard]] bool evict_for(std::size_t size, const RoomRequest& request, RoomSearch& room);
  [[nodiscard]] bool evict_own(const RoomRequest& request, RoomSearch& room);
  void list_children(DropWork& work, int& budget) const;
  [[nodiscard]] bool evict_one(PolicyList list, RoomSearch& room);
  [[nodiscard]] bool evict_for_entry(TenantNumber tenant, RoomSearch& room);
  [[nodiscard]] bool erase_empty_root();
  void claim(const BlockHash& fingerprint, const TenantTable::Tenant& tenant);
  [[nodiscard]] TenantNumber number_of(const TenantTable::Tenant& tenant);
  void count_pinned(BlockId id, bool pinned) noexcept;
  int give_up_copy(BlockId id);
  void release_and_collect(SlotId slot);
  void end_pins(BlockId id);
  [[nodiscard]] std::uint64_t slot_bytes_of(BlockId id) const noexcept;

  // hand-over (handover.cc)
  [[nodiscard]] bool search_some(std::uint64_t now_ns);
  [[nodiscard]] bool is_pinned(SlotId slot) const noexcept;
  [[nodiscard]] bool start_handover();
  enum class SlotStep : std::uint8_t { kClear, kMove, kBusy, kStuck, kSpent };
  [[nodiscard]] SlotStep clear_slot(SlotId slot, std::uint64_t now_ns, std::vector<SlotMove>& moves);
  void move_block(BlockId id, SlotId from, SlotId to, std::vector<SlotMove>& moves);

  BlockTable table_;
  SlotTable slots_;
  std::unique_ptr<EvictionPolicy> policy_;
  std::uint32_t max_namespaces_;
  std::uint64_t max_pinned_bytes_;
  struct Root {
    BlockId id = kNoBlock;
    TenantId owner;  ///< not known: all zeros
  };
  std::map<BlockHash, Root> roots_;
  BlockHash next_root_{};  // the search for an empty one goes on here
  TenantTable tenants_;
  TenantLists lists_;
  bool claimed_ = false;
  mutable std::uint32_t victim_turn_ = 0;  // of the choice among many tenants
  std::size_t entry_list_ = 0;             // the list whose blocks go where the index is full
  DiskStore* disk_ = nullptr;
  DemotionQueue* demotions_ = nullptr;
  std::uint64_t max_filling_bytes_;
  std::uint64_t filling_bytes_ = 0;
  std::uint64_t generation_ = 0;
  std::uint64_t pinned_bytes_ = 0;
  HostCounters counters_;

  /// The search for an extent, between two slices.
  struct Search {
    std::uint32_t looked = 0;  ///< extents that are done
    std::uint32_t slot = 0;    ///< of the extent that is being looked at, as the two below
    std::uint32_t sampled = 0;
    double value = 0;
    double least = std::numeric_limits<double>::infinity();
    ExtentId best = kNoExtent;
  };
  Search search_;
  std::uint64_t wanted_slot_bytes_ = 0;
  ExtentId draining_ = kNoExtent;
  std::uint32_t drain_cursor_ = 0;
  RoomSearch drain_room_;
  ExtentId next_candidate_ = 0;
};

}  // namespace tiercel
