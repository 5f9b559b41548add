// Goal: any sequence of allocate, give back, pin, unpin and drain keeps the slot table equal to a small model: live
// slots never overlap, pinned slots are never given out, bytes are counted exactly, in all and by tenant.
#include "base/random.h"
#include "memory/slot_table.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <map>

namespace tiercel {
namespace {

constexpr std::uint64_t kExtentBytes = 64 * 1024;
constexpr std::uint64_t kMinSlotBytes = 4 * 1024;
constexpr std::uint32_t kTenants = 5;

struct ModelSlot {
  std::uint64_t begin;
  std::uint64_t bytes;
  std::uint32_t pins = 0;
  bool quarantined = false;
  TenantNumber tenant = kNoTenant;
};

class World {
 public:
  World(std::uint64_t seed, std::uint32_t extents, bool withheld = false)
      : random_(seed), extents_(extents), table_({extents, kExtentBytes, kMinSlotBytes, kTenants, withheld}) {}

  /// Some claims, of which some end, before anything is handed out; then a part of the offer.
  void withheld_step() {
    RC_ASSERT(!table_.allocate(kMinSlotBytes * (1 + random_.below(16)), 0));
    random_.below(2) == 0 ? claim() : unpin();
    check();
  }
  void offer() {
    while (!table_.offer(static_cast<std::uint32_t>(random_.below(20)))) {
      unpin();
      check();
    }
    RC_ASSERT(!table_.withheld());
    check();
  }

  void step() {
    switch (random_.below(9)) {
      case 0:
      case 1:
      case 2:
        allocate();
        break;
      case 3:
      case 4:
        give_back();
        break;
      case 5:
        pin();
        break;
      case 6:
        unpin();
        break;
      case 7:
        change_tenant();
        break;
      default:
        drain();
        break;
    }
    check();
  }

  void finish() {
    while (!live_.empty()) {
      const SlotId slot = live_.begin()->first;
      while (live_.contains(slot) && live_[slot].pins > 0) unpin(slot);
      if (live_.contains(slot)) give_back(slot);
    }
    for (ExtentId extent = 0; extent < extents_; ++extent) {
      if (table_.slot_bytes(extent) == 0) continue;  // what is cut and empty goes back when a drain ends
      table_.set_draining(extent, true);
      table_.set_draining(extent, false);
    }
    check();
    RC_ASSERT(table_.free_extents() == extents_);
    RC_ASSERT(table_.used_bytes() == 0U);
  }

 private:
  [[nodiscard]] SlotId pick() {
    return std::next(live_.begin(), static_cast<long>(random_.below(live_.size())))->first;
  }

  void claim() {
    const auto slot = static_cast<SlotId>(random_.below(table_.slot_ids()));
    const std::uint64_t bytes = kMinSlotBytes * (1 + random_.below(16));
    const auto pins = static_cast<std::uint32_t>(1 + random_.below(3));
    const ExtentId extent = table_.extent_of(slot);
    const std::uint64_t begin = extent * kExtentBytes + (slot - table_.slot_at(extent, 0)) * bytes;
    bool fits = begin + bytes <= (extent + 1) * kExtentBytes;
    for (const auto& [other, model] : live_) fits &= table_.extent_of(other) != extent || model.bytes == bytes;
    RC_ASSERT(table_.claim(slot, bytes, pins) == (fits ? SlotTable::Claim::kClaimed : SlotTable::Claim::kConflict));
    if (!fits) return;
    RC_ASSERT(table_.offset(slot) == begin);
    const std::uint32_t before = live_.contains(slot) ? live_[slot].pins : 0;
    live_[slot] = {.begin = begin, .bytes = bytes, .pins = before + pins, .quarantined = true};
  }
  void allocate() {
    const std::uint64_t bytes = kMinSlotBytes * (1 + random_.below(16));
    const auto tenant = static_cast<TenantNumber>(random_.below(kTenants));
    const auto slot = table_.allocate(bytes, 0, tenant);
    if (!slot) {
      RC_ASSERT(table_.free_extents() == 0U);
      return;
    }
    const std::uint64_t begin = table_.offset(*slot);
    for (const auto& [other, model] : live_) {
      RC_ASSERT(begin + bytes <= model.begin || model.begin + model.bytes <= begin);
    }
    RC_ASSERT(begin / kExtentBytes == (begin + bytes - 1) / kExtentBytes);
    RC_ASSERT(!table_.draining(table_.extent_of(*slot)));
    live_[*slot] = {.begin = begin, .bytes = bytes, .tenant = tenant};
  }
  void give_back() {
    if (!live_.empty()) give_back(pick());
  }
  void give_back(SlotId slot) {
    ModelSlot& model = live_[slot];
    if (model.quarantined) return;
    const bool freed = table_.give_back(slot);
    RC_ASSERT(freed == (model.pins == 0));
    model.quarantined = true;
    if (freed) live_.erase(slot);
  }
  void change_tenant() {
    if (live_.empty()) return;
    const SlotId slot = pick();
    live_[slot].tenant = static_cast<TenantNumber>(random_.below(kTenants));
    table_.set_tenant(slot, live_[slot].tenant);
  }
  void pin() {
    if (live_.empty()) return;
    const SlotId slot = pick();
    if (live_[slot].quarantined) return;
    table_.retain(slot);
    ++live_[slot].pins;
  }
  void unpin() {
    if (!live_.empty()) unpin(pick());
  }
  void unpin(SlotId slot) {
    ModelSlot& model = live_[slot];
    if (model.pins == 0) return;
    --model.pins;
    const bool last = table_.release(slot);
    RC_ASSERT(last == (model.quarantined && model.pins == 0));
    if (last) {
      table_.collect(slot);
      live_.erase(slot);
    }
  }
  void drain() {
    const auto extent = static_cast<ExtentId>(random_.below(extents_));
    if (table_.slot_bytes(extent) == 0) return;
    if (table_.draining(extent) && table_.used_slots(extent) == 0 && random_.below(2) == 0) {
      table_.hand_over(extent, kMinSlotBytes * (1 + random_.below(16)));
    } else {
      table_.set_draining(extent, random_.below(2) == 0);
    }
  }
  void check() {
    table_.check_consistency();
    std::uint64_t used = 0;
    std::uint64_t quarantined = 0;
    std::array<std::uint64_t, kTenants> charged{};
    for (const auto& [slot, model] : live_) {
      used += model.bytes;
      charged[model.tenant] += model.bytes;
      RC_ASSERT(table_.tenant(slot) == model.tenant);
      quarantined += model.quarantined ? model.bytes : 0;
      RC_ASSERT(table_.copy_pins(slot) == model.pins);
      RC_ASSERT(table_.is_quarantined(slot) == model.quarantined);
    }
    RC_ASSERT(table_.used_bytes() == used);
    for (std::size_t tenant = 0; tenant < kTenants; ++tenant) {
      RC_ASSERT(table_.charged_bytes(static_cast<TenantNumber>(tenant)) == charged[tenant]);
    }
    RC_ASSERT(table_.quarantined_bytes() == quarantined);
  }

  Random random_;
  std::uint32_t extents_;
  SlotTable table_;
  std::map<SlotId, ModelSlot> live_;
};

RC_GTEST_PROP(SlotTableProperty, equals_the_model, ()) {
  World world(*rc::gen::arbitrary<std::uint64_t>(), *rc::gen::inRange<std::uint32_t>(1, 6));
  for (int i = 0; i < 300; ++i) world.step();
  world.finish();
}

RC_GTEST_PROP(SlotTableProperty, what_is_claimed_is_never_handed_out, ()) {
  World world(*rc::gen::arbitrary<std::uint64_t>(), *rc::gen::inRange<std::uint32_t>(1, 6), true);
  for (int i = 0; i < 60; ++i) world.withheld_step();
  world.offer();
  for (int i = 0; i < 200; ++i) world.step();
  world.finish();
}

}  // namespace
}  // namespace tiercel
