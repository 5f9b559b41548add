// DiskStore: the disk tier's bookkeeping: which block lies in which slot of which directory, what goes when room is
// needed, what a restart brings back. Without bytes, threads, IO or time of its own.
//
// Owned by the cache core and called under its lock, in slices. Works on the same BlockTable as HostStore; a block has
// one copy on disk, whole in one directory. Numbers of slots in the table count over all directories; DiskPlace names
// one of a directory. Slots under IO have a copy pin: what is given up meanwhile waits in quarantine until release().
// Parents first: a block is written only if the block before it is on disk or on its way there.
// Tenants share the tier by the host's rules (host_store.h), over all directories together; whose block goes is
// decided within the directory that needs room. What recovery finds is charged to the tenant that the file names, and
// to nobody where it names none, until a session does: then charge_claimed_some moves it.
#pragma once

#include "cache/tenant_lists.h"
#include "cache/tenant_table.h"
#include "cache/victim_choice.h"
#include "index/block_table.h"
#include "memory/slot_table.h"
#include "policy/eviction.h"
#include "tier/disk/disk_block.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace tiercel {

struct DiskPlace {
  std::uint32_t directory = 0;
  SlotId slot = kNoSlot;
  std::uint32_t incarnation = 0;  ///< of the directory: it may be lost and opened again meanwhile
};

/// A copy on its way to disk, or being read; its slot has one copy pin until finish_write or release.
struct DiskCopy {
  BlockId id = kNoBlock;
  std::uint64_t generation = 0;
  DiskPlace place;
  std::uint64_t slot_bytes = 0;
  std::uint32_t length = 0;
  std::uint64_t checksum = 0;
};

struct DiskStoreCounters {
  std::uint64_t ready_blocks = 0;
  std::uint64_t stored_blocks = 0;
  std::uint64_t stored_bytes = 0;
  std::uint64_t evicted_blocks = 0;
  std::uint64_t evicted_bytes = 0;
  std::uint64_t dropped_blocks = 0;   ///< deleted by a caller
  std::uint64_t lost_blocks = 0;      ///< corrupt, unreadable, or gone with their file
  std::uint64_t adopted_blocks = 0;   ///< found by recovery
  std::uint64_t orphaned_blocks = 0;  ///< found by recovery without the block before them, and dropped
};

class DiskStore {
 public:
  DiskStore(BlockTable& table, TenantTable& tenants, std::uint32_t directories);

  // Directories. Everything that allocates is made before the lock is taken: Shape.
  struct Shape {
    std::unique_ptr<SlotTable> slots;
    std::unique_ptr<EvictionPolicy> policy;
    std::vector<bool> waiting;
  };
  struct Geometry {
    std::uint32_t extents = 0;
    std::uint64_t extent_bytes = 0;
    std::uint64_t min_slot_bytes = 0;
    std::span<const std::uint64_t> slot_bytes;  ///< of each extent; 0: free
    std::uint32_t tenants = kFirstTenant;       ///< numbers, as many as the tenants' table has
  };
  [[nodiscard]] static Shape shape_of(const Geometry& geometry);
  /// The directory's file is open: blocks may be adopted; nothing is written until end_recovery. What `shape` has
  /// afterwards is to be freed without the lock.
  void open(std::uint32_t directory, Shape& shape);
  /// One slice of freeing the slots that recovery found no block for, `cursor` from 0. False: done, writes may begin.
  [[nodiscard]] bool end_recovery_some(std::uint32_t directory, std::uint32_t& cursor);
  /// One slice of giving up every copy of a directory, `cursor` from 0. False: done, the directory is closed, and what
  /// it had is in `gone`, to be freed without the lock (tables of millions of slots take milliseconds).
  [[nodiscard]] bool lose_some(std::uint32_t directory, std::uint32_t& cursor, Shape& gone);
  /// Tables that waited for IO and do not any more: to be freed without the lock.
  [[nodiscard]] std::vector<std::unique_ptr<SlotTable>> take_spent() noexcept { return std::exchange(spent_, {}); }
  void set_serving(std::uint32_t directory, bool reads, bool writes) noexcept;
  /// Is there a directory that blocks can be written to now?
  [[nodiscard]] bool takes_writes() const noexcept;
  [[nodiscard]] bool is_recovering(std::uint32_t directory) const noexcept {
    return directories_[directory].slots && directories_[directory].recovering;
  }
  /// Which of the directories that have copies answer reads.
  enum class Reach : std::uint8_t { kNone, kSome, kAll };
  [[nodiscard]] Reach reach() const noexcept;
  /// Could a read of this copy be answered now?
  [[nodiscard]] bool serves(BlockId id) const noexcept;
  /// Does the place lie in the file that its directory has open now?
  [[nodiscard]] bool is_current(const DiskPlace& place) const noexcept {
    const Directory& directory = directories_[place.directory];
    return directory.slots && directory.incarnation == place.incarnation;
  }
  [[nodiscard]] bool is_open(std::uint32_t directory) const noexcept {
    return directories_[directory].slots != nullptr;
  }

  // Recovery.
  enum class Adopted : std::uint8_t { kYes, kKnown, kNoRoom };
  /// A block that a header names, under `parent`. kKnown: the cache has this block in a newer or equal generation;
  /// kNoRoom: the index is full. In both cases the header is to be cleared. An older copy on disk that gives way to
  /// this one is put into `replaced`.
  [[nodiscard]] Adopted adopt(std::uint32_t directory, const DiskBlock& block, BlockId parent, std::uint64_t now_ns,
                              std::optional<DiskPlace>& replaced);

  /// The slot's block will be adopted soon.
  void prefetch(std::uint32_t directory, SlotId slot) const noexcept { directories_[directory].slots->prefetch(slot); }
  /// A block that a header names waits for the block before it: its slot stays taken, until there is no other room.
  void begin_waiting(std::uint32_t directory, SlotId slot);
  /// It waits no longer: adopt follows. False: its slot was needed for another block, or its file is gone.
  [[nodiscard]] bool end_waiting(std::uint32_t directory, SlotId slot);
  /// It waits no longer, and nobody wants it: the place is to be cleared, then released. Empty: as end_waiting's false.
  [[nodiscard]] std::optional<DiskPlace> drop_waiting(std::uint32_t directory, SlotId slot);

  // Writes.
  enum class Begun : std::uint8_t { kYes, kThere, kNoParent, kNoRoom, kAgain };
  /// A slot for the copy of a block whose host slot the caller has pinned. kThere: it has one, or it is no block of the
  /// host tier any more. kAgain: making room goes on in the next call (a slice is used up). What was evicted for it is
  /// put into `evicted`: to be cleared before the copy is written.
  [[nodiscard]] Begun begin_write(BlockId id, std::uint64_t slot_bytes, std::uint64_t now_ns, DiskCopy& copy,
                                  std::vector<DiskPlace>& evicted);
  /// True: the copy is ready. False: it failed or was given up meanwhile. Ends its copy pin.
  bool finish_write(const DiskCopy& copy, bool written, std::uint64_t now_ns);

  // Reads.
  /// A ready copy with one more copy pin on its slot.
  [[nodiscard]] std::optional<DiskCopy> hold(BlockId id);
  void release(DiskPlace place);
  void touch(BlockId id, std::uint64_t now_ns);
  /// By slot, where it holds a ready block. For a restart.
  void touch_slot(std::uint32_t directory, SlotId slot, std::uint64_t now_ns);

  /// Was its copy found or stored in a directory that is still being indexed?
  [[nodiscard]] bool is_in_recovering(BlockId id) const noexcept;

  /// Takes a ready copy out of the index; its slot gets a copy pin, for whoever clears its header and then calls
  /// release. Empty: there is none (or it is being written: then finish_write answers false).
  [[nodiscard]] std::optional<DiskPlace> give_up(BlockId id);
  /// The same for a delete: also a copy that is being written. The place is to be buried, then released.
  [[nodiscard]] std::optional<DiskPlace> drop(BlockId id);
  // Tenants.
  [[nodiscard]] std::uint64_t charged_bytes(TenantNumber tenant) const noexcept;
  [[nodiscard]] bool is_above_cap(TenantNumber tenant) const noexcept {
    return charged_bytes(tenant) > tenants_.cap(TierId::kDisk, tenant);
  }
  /// One slice of evicting what a tenant has above its cap. False: there is nothing more that may go. `evicted`: to be
  /// cleared, then released; unlike begin_write's, they have a copy pin, for the slots of writes are taken meanwhile.
  [[nodiscard]] bool trim_some(TenantNumber tenant, std::uint64_t now_ns, std::vector<DiskPlace>& evicted);
  /// One slice of charging what is nobody's to tenants that are known by now, from `cursor` on. False: that was the
  /// last.
  struct Cursor {
    std::uint32_t directory = 0;
    SlotId slot = 0;
  };
  [[nodiscard]] bool charge_claimed_some(Cursor& cursor, std::uint64_t now_ns);

  void count_lost() noexcept { ++counters_.lost_blocks; }
  void count_orphans(std::uint64_t blocks) noexcept { counters_.orphaned_blocks += blocks; }

  /// One slice of the slots that hold a ready block, with what the policy thinks each is worth, from `cursor` on.
  /// False: that was the last.
  static constexpr std::uint32_t kWorthPerSlice = 256;  ///< `worth` has room for as many more
  struct Worth {
    SlotId slot = kNoSlot;
    double value = 0;
  };
  [[nodiscard]] bool list_worth_some(std::uint32_t directory, std::uint32_t& cursor, std::uint64_t now_ns,
                                     std::vector<Worth>& worth) const;

  [[nodiscard]] const DiskStoreCounters& counters() const noexcept { return counters_; }
  [[nodiscard]] std::uint32_t directories() const noexcept { return static_cast<std::uint32_t>(directories_.size()); }
  [[nodiscard]] const SlotTable* slots(std::uint32_t directory) const noexcept {
    return directories_[directory].slots.get();
  }
  void check_consistency() const;

 private:
  static constexpr std::uint32_t kSlice = 32;

  /// For a block that may go, between two slices: whose list, how many were asked without a yes.
  struct Search {
    TenantLists::Pair asked_for;  ///< for whom, and which slot size
    std::optional<TenantNumber> victim;
    std::uint64_t asked = 0;
    TenantSet exhausted;
  };
  struct Directory {
    std::unique_ptr<SlotTable> slots;
    std::unique_ptr<EvictionPolicy> policy;  // its blocks are slot ids
    std::uint32_t base = 0;                  // of its slots among all
    std::uint32_t span = 0;                  // slots it may number
    std::uint32_t incarnation = 0;
    std::vector<bool> waiting;                  // slots, by id: used, without an owner
    std::vector<std::uint32_t> waiting_counts;  // by slot size, as in `lists`
    std::uint64_t waiting_bytes = 0;
    SlotId waiting_cursor = 0;  // the search for one that gives way goes on here
    bool recovering = false;
    bool reads = false;
    bool writes = false;
    Search search;
    ExtentId draining = kNoExtent;  // being emptied for another slot size
    std::uint64_t draining_for = 0;
    TenantNumber draining_as = kNoTenant;
    TenantLists lists;
  };
  /// Of whom, how much, for the search for room.
  struct RoomRequest {
    std::uint64_t slot_bytes = 0;
    TenantNumber tenant = kNoTenant;
    std::uint64_t now_ns = 0;
  };

  [[nodiscard]] std::uint32_t number_of(DiskPlace place) const noexcept {
    return directories_[place.directory].base + place.slot;
  }
  [[nodiscard]] DiskPlace place_of(BlockId id) const noexcept;
  std::size_t size_of(Directory& directory, std::uint64_t slot_bytes);
  PolicyList list_of(Directory& directory, std::uint64_t slot_bytes, TenantNumber tenant);
  [[nodiscard]] bool may_lose(TenantNumber tenant, std::uint64_t bytes) const noexcept;
  [[nodiscard]] bool has_room_below_cap(const RoomRequest& request) const noexcept {
    return charged_bytes(request.tenant) + request.slot_bytes <= tenants_.cap(TierId::kDisk, request.tenant);
  }
  [[nodiscard]] bool evictable(const Directory& directory, SlotId slot) const noexcept;
  [[nodiscard]] std::uint32_t choose_directory(std::uint64_t slot_bytes, std::uint64_t without) const noexcept;
  [[nodiscard]] bool parent_allows(BlockId id) const noexcept;
  [[nodiscard]] std::optional<SlotId> take_slot(std::uint32_t directory, const RoomRequest& request, bool& again,
                                                std::vector<DiskPlace>& evicted);
  enum class Evicted : std::uint8_t { kOne, kNone, kAgain };
  [[nodiscard]] Evicted evict_for(std::uint32_t directory, const RoomRequest& request, std::vector<DiskPlace>& evicted);
  [[nodiscard]] Evicted evict_own(std::uint32_t directory, const RoomRequest& request, std::vector<DiskPlace>& evicted,
                                  bool pinned = false);
  void evict(std::uint32_t directory, SlotId slot, std::vector<DiskPlace>& evicted, bool pinned = false);
  void count_waiting(Directory& directory, SlotId slot, bool waits);
  void evict_waiting(std::uint32_t directory, std::uint64_t slot_bytes, bool& again, std::vector<DiskPlace>& evicted);
  void evict_one_waiting(std::uint32_t directory, SlotId slot, std::vector<DiskPlace>& evicted);
  [[nodiscard]] bool drain_some(std::uint32_t directory, std::vector<DiskPlace>& evicted);
  void choose_extent_to_drain(Directory& directory, const RoomRequest& request);
  [[nodiscard]] std::optional<Victim> victim_for(const Directory& directory, std::size_t size,
                                                 const RoomRequest& request, const TenantSet& exhausted) const;
  /// Takes the copy out of entry and policy; the slot stays used.
  void detach(BlockId id);

  /// Slots of a lost directory that were under IO then.
  struct Old {
    std::uint32_t incarnation = 0;
    std::unique_ptr<SlotTable> slots;
  };

  /// The search of a tenant at its cap, over directories and slot sizes; each list to its end.
  struct OwnSearch {
    std::optional<TenantNumber> tenant;
    std::uint32_t first = 0;
    std::uint32_t directories_done = 0;
    std::size_t sizes_done = 0;
    std::uint64_t asked = 0;
  };

  BlockTable& table_;
  TenantTable& tenants_;
  OwnSearch own_;
  mutable std::uint32_t victim_turn_ = 0;  // of the choice among many tenants
  std::vector<Directory> directories_;
  std::vector<Old> old_;
  std::vector<std::unique_ptr<SlotTable>> spent_;  // waited in old_, and nothing lies in them now
  std::uint32_t incarnations_ = 0;
  std::uint32_t next_base_ = 0;
  mutable std::uint32_t turn_ = 0;  // of the directory that is looked at first
  DiskStoreCounters counters_;
};

}  // namespace tiercel
