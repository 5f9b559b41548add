// Goal: whatever is written, cleared, buried and cut anew, with operations held back, failing, and kills at any point:
// every job is answered once, what was acknowledged and not touched since is found with its bytes, what was buried is
// never found again, and nothing is found that was not written.
#include "base/random.h"
#include "tier/disk/testing/disk_rig.h"

#include <rapidcheck/gtest.h>

#include <cerrno>
#include <set>

namespace tiercel::disk::testing {
namespace {

constexpr std::uint64_t kMs = 1'000'000;
constexpr std::uint32_t kExtents = 4;

/// What may be found in a slot.
struct ModelSlot {
  std::optional<DiskBlock> sure;  // acknowledged, and nothing came after it
  std::vector<DiskBlock> maybe;   // what a kill may leave there
  std::uint64_t latest = 0;       // generation of the write that came last, 0: a clear or a burial did
};

class World {
 public:
  explicit World(std::uint64_t seed) : random_(seed) { rig_.start(); }

  void run(int operations) {
    for (int i = 0; i < operations; ++i) {
      step();
      rig_.run(random_.below(4));
    }
    settle();
    check_reads();
    kill();
  }

 private:
  struct Written {
    DiskBlock block;
    Answer answer;
  };
  struct Buried {
    std::vector<DiskBlock> blocks;
    Answer answer;
  };

  void step() {
    switch (random_.below(16)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
      case 5:
        write();
        break;
      case 6:
      case 7:
        read();
        break;
      case 8:
        clear(any_slot());
        break;
      case 9:
        bury();
        break;
      case 10:
        cut_anew();
        break;
      case 11:
        rig_.gate->hold(random_.below(2) == 0 ? IoKind::kWrite : IoKind::kRead);
        break;
      case 12:
        rig_.gate->release(random_.below(5));
        break;
      case 13:
        rig_.gate->release_all();
        break;
      case 14:
        fault();
        break;
      default:
        if (random_.below(8) == 0) {
          kill();
        } else {
          rig_.pass(random_.below(4) == 0 ? 1500 * kMs : random_.below(50 * kMs));
        }
        break;
    }
    collect();
  }

  std::uint32_t any_slot() {
    const auto extent = static_cast<std::uint32_t>(random_.below(kExtents));
    return extent * kSlotsPerExtent + static_cast<std::uint32_t>(random_.below(kExtentBytes / slot_bytes_[extent]));
  }

  void write() {
    const std::uint32_t slot = any_slot();
    ModelSlot& model = slots_[slot];
    const DiskBlock block = rig_.block(++number_, slot, slot_bytes_[slot / kSlotsPerExtent]);
    const Answer answer = rig_.write(block);
    if (rig_.submitted != DiskSubmit::kTaken) return;
    unsure(model);
    model.maybe.push_back(block);
    model.latest = block.generation;
    writes_.push_back({block, answer});
  }

  void read() {
    for (const auto& [slot, model] : slots_) {
      if (!model.sure || random_.below(4) != 0) continue;
      reads_.push_back({*model.sure, rig_.read(*model.sure, rig_.clock.now_ns() + random_.below(20 * kMs))});
      if (rig_.submitted != DiskSubmit::kTaken) reads_.pop_back();
      return;
    }
  }

  void clear(std::uint32_t slot) {
    rig_.tier->clear(slot);
    ModelSlot& model = slots_[slot];
    unsure(model);
    model.latest = 0;
  }

  void bury() {
    std::vector<DiskBlock> blocks;
    for (const auto& [slot, model] : slots_) {
      if (model.sure && random_.below(6) == 0) blocks.push_back(*model.sure);
    }
    if (blocks.empty()) return;
    const Answer answer = rig_.bury(blocks);
    if (rig_.submitted != DiskSubmit::kTaken) return;
    for (const DiskBlock& block : blocks) {
      unsure(slots_[block.slot]);
      slots_[block.slot].latest = 0;
    }
    burials_.push_back({blocks, answer});
  }

  /// The owner's discipline: an extent is cut anew when none of its slots is used.
  void cut_anew() {
    const auto extent = static_cast<std::uint32_t>(random_.below(kExtents));
    const auto slots = static_cast<std::uint32_t>(kExtentBytes / slot_bytes_[extent]);
    for (const Buried& burial : burials_) {  // a slot that is being buried is used
      for (const DiskBlock& block : burial.blocks) {
        if (block.slot / kSlotsPerExtent == extent) return;
      }
    }
    for (std::uint32_t i = 0; i < slots; ++i) clear(extent * kSlotsPerExtent + i);
    slot_bytes_[extent] = slot_bytes_[extent] == kSlotBytes ? 4 * kSlotBytes : kSlotBytes;
  }

  void fault() {
    const std::uint64_t number = rig_.plan->started() + random_.below(6);
    rig_.plan->add(number, {.kind = random_.below(2) == 0 ? IoFault::Kind::kFail : IoFault::Kind::kFailAfter,
                            .error = random_.below(2) == 0 ? EIO : ENOSPC});
  }

  static void unsure(ModelSlot& model) {
    if (model.sure) model.maybe.push_back(*model.sure);
    model.sure.reset();
  }

  /// Takes in the answers that have come.
  void collect() {
    std::erase_if(writes_, [&](const Written& written) {
      if (!written.answer->has_value()) return false;
      ModelSlot& model = slots_[written.block.slot];
      if (ok(written.answer) && model.latest == written.block.generation) {
        model.sure = written.block;
        model.maybe.clear();
      }
      return true;
    });
    std::erase_if(burials_, [&](const Buried& burial) {
      if (!burial.answer->has_value()) return false;
      for (const DiskBlock& block : burial.blocks) {
        if (ok(burial.answer)) gone_.insert(block.generation);
      }
      return true;
    });
    std::erase_if(reads_, [&](const auto& read) {
      if (read.second.ok()) {
        RC_ASSERT(holds(read.second.memory.get(), read.first.length, read.first.checksum) || was_touched(read.first));
      }
      return read.second.answer->has_value();
    });
  }
  [[nodiscard]] bool was_touched(const DiskBlock& block) { return slots_[block.slot].sure != block; }

  void settle() {
    rig_.gate->release_all();
    rig_.pass(1500 * kMs);
    collect();
    RC_ASSERT(rig_.tier->state() == DiskState::kOn);
    RC_ASSERT(writes_.empty());
    RC_ASSERT(burials_.empty());
    RC_ASSERT(reads_.empty());
    RC_ASSERT(rig_.tier->idle());
    RC_ASSERT(rig_.tier->counters().quarantined_bytes == 0U);
  }

  void check_reads() {
    for (const auto& [slot, model] : slots_) {
      if (model.sure) RC_ASSERT(rig_.reads_back(*model.sure));
    }
  }

  /// What is held back is lost, as unsynced writes are. Then another process finds what is there.
  void kill() {
    collect();
    rig_.crash();
    rig_.gate->release_all();
    collect();  // everything is answered
    RC_ASSERT(writes_.empty());
    RC_ASSERT(burials_.empty());
    RC_ASSERT(reads_.empty());
    reopen();
    std::map<std::uint32_t, DiskBlock> found;
    for (const DiskBlock& block : rig_.found) {
      RC_ASSERT(!gone_.contains(block.generation));
      RC_ASSERT(found.emplace(block.slot, block).second);
    }
    for (auto& [slot, model] : slots_) {
      const auto at = found.find(slot);
      if (model.sure) {
        RC_ASSERT(at != found.end());
        RC_ASSERT(at->second == *model.sure);
        continue;
      }
      const bool known = at == found.end() || std::ranges::find(model.maybe, at->second) != model.maybe.end();
      RC_ASSERT(known);
      // What is found beside an unfinished write may have lost its bytes: its owner drops it.
      if (at != found.end()) rig_.tier->clear(slot);
    }
    for (const auto& [slot, block] : found) RC_ASSERT(slots_.contains(slot));
    for (std::uint32_t extent = 0; extent < kExtents; ++extent) adopt_cut(extent);
    check_reads();
  }

  void reopen() {
    rig_.make_tier();
    for (int i = 0; i < 20 && rig_.tier->state() != DiskState::kOn; ++i) rig_.pass(500 * kMs);
    RC_ASSERT(rig_.tier->state() == DiskState::kOn);
  }

  /// The owner goes on with the cut that the file has where blocks are in it.
  void adopt_cut(std::uint32_t extent) {
    for (const auto& [slot, model] : slots_) {
      if (slot / kSlotsPerExtent == extent && model.sure) slot_bytes_[extent] = model.sure->slot_bytes;
    }
  }

  Random random_;
  DiskRig rig_;
  std::uint64_t number_ = 0;
  std::map<std::uint32_t, ModelSlot> slots_;
  std::array<std::uint64_t, kExtents> slot_bytes_{kSlotBytes, kSlotBytes, 4 * kSlotBytes, 4 * kSlotBytes};
  std::vector<Written> writes_;
  std::vector<Buried> burials_;
  std::vector<std::pair<DiskBlock, DiskRig::Read>> reads_;
  std::set<std::uint64_t> gone_;  // generations
};

RC_GTEST_PROP(DiskTierProperty, FindsWhatItAcknowledgedAndNothingElse, (std::uint64_t seed)) {
  World world(seed);
  world.run(150);
}

}  // namespace
}  // namespace tiercel::disk::testing
