// What the core keeps for the disk tier beside the DiskStore: the directories and their event receivers, blocks on
// their way down (DemotionQueue), blocks on their way up (Promotion), deletes on their way to the log (Burial), and
// what is known only while a restart is being indexed (Recovery).
//
// Everything here but DiskDirectory::tier is guarded by the core's lock.
#pragma once

#include "base/budget.h"
#include "cache/host_store.h"
#include "cache/load_planning.h"
#include "tier/disk/disk_tier.h"

#include <tiercel/session.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace tiercel::detail {

class CacheCore;

/// A block that is being read from disk into a slot of the arena: one read, however many loads wait for it.
struct Promotion {
  enum class State : std::uint8_t { kPending, kReady, kMiss, kCorrupt, kBusy, kDeadline };
  std::atomic<State> state{State::kPending};  // the end (release) pairs with the loads that wait (acquire)
  Fill fill;
  HeldBlock block;
  DiskCopy copy;
  BlockHash fingerprint;
  BlockHash hash;
  std::shared_ptr<LoadPlanning::Reads> reads;  ///< of the load that began it
  CopyPin pin;  ///< of the slot: what is ready stays until every waiting load has its own
};
using Promotions = std::map<BlockId, std::shared_ptr<Promotion>>;

/// A delete until every directory has it in its log.
struct Burial {
  Tombstone tombstone;
  std::vector<DiskPlace> places;     ///< in one directory, with a copy pin each
  std::vector<std::uint32_t> slots;  ///< the same, as the tier takes them
  /// Weights of the whole delete's burials that are to come; the end (release) pairs with drop (acquire).
  std::shared_ptr<std::atomic<std::uint64_t>> pending;
  /// Its blocks; a directory where none was known may still hold some, which counts as one.
  [[nodiscard]] std::uint64_t weight() const noexcept { return std::max<std::uint64_t>(1, places.size()); }
};
/// Lists, so that under the lock whole ones change hands and nothing is copied or allocated.
using Burials = std::list<Burial>;

/// While a directory is being indexed.
struct Recovery {
  // Under the core's lock.
  std::map<BlockHash, std::uint64_t> deleted_blocks;      ///< and all that continues them, up to a generation: what
                                                          ///< was found below one is put in too, as entries come and go
  std::map<BlockHash, std::uint64_t> deleted_namespaces;  ///< up to a generation
  std::map<TenantId, std::uint64_t> deleted_tenants;      ///< likewise
  std::map<BlockHash, std::uint64_t> newest_deletes;      ///< of anything in a namespace: the highest generation
};

class DiskDirectory final : public DiskEvents {
 public:
  struct Parts {
    CacheCore& core;
    std::uint32_t index;
    DiskOptions options;
    FileSystem& files;
    const Clock& clock;
  };
  explicit DiskDirectory(const Parts& parts)
      : core_(parts.core),
        index_(parts.index),
        path_(parts.options.directory),
        tier_(parts.options, parts.files, parts.clock, *this) {}

  void on_opened(const Opened& opened) override;
  void on_found(std::span<const DiskBlock> blocks) override;
  bool go_on() override;
  void on_recovered(const DiskRecovery& recovery) override;
  void on_lost() override;
  void on_state(DiskState state, const std::string& cause) override;

  [[nodiscard]] DiskTier& tier() noexcept { return tier_; }
  [[nodiscard]] const DiskTier& tier() const noexcept { return tier_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  CacheCore& core_;
  const std::uint32_t index_;
  const std::string path_;
  DiskTier tier_;
};

/// Of one directory, under the core's lock.
struct DiskProgress {
  bool opened = false;               ///< there is a file that blocks may come from
  bool recovered = false;            ///< all of them have come
  bool settled = false;              ///< recovered, or known not to come for now
  Burials burials;                   ///< to be given to the tier; bounded, see CacheCore::add_burial
  bool discard = false;              ///< more deletes came than wait: nothing that it holds may come back
  std::uint64_t next_burial_ns = 0;  ///< after a refusal: not before
  DiskRecovery recovery;
  std::uint64_t opened_ns = 0;
  std::uint64_t first_generation = 0;  ///< of this boot of its file: whatever came in it has a lower one
  std::uint64_t indexed_ns = 0;
  std::uint64_t adopted_blocks = 0;
  std::uint64_t adopted_bytes = 0;
  std::string cause;  ///< of its state
};

}  // namespace tiercel::detail
