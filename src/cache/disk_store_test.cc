// Goal: DiskStore agrees with a plain model of which block lies where, after any sequence of writes, reads, deletes,
// losses, restarts and changes of slot size; slots under IO are not used again, and blocks go leaf first. Method:
// rapidcheck drives a store of two directories and a list of what it promised; it checks itself after every step.
#include "cache/disk_store.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <vector>

namespace tiercel {
namespace {

constexpr TierId kHost = TierId::kHost;
constexpr TierId kDisk = TierId::kDisk;
constexpr std::uint32_t kDirectories = 2;
constexpr std::uint32_t kExtents = 3;
constexpr std::uint64_t kExtentBytes = 64 * 1024;
constexpr std::uint64_t kMinSlot = 4096;
constexpr std::array<std::uint64_t, 3> kSizes = {4096, 12288, 16384};

/// Choices of a run, from one random number.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(seed * 2 + 1) {}
  std::uint64_t below(std::uint64_t n) {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return (state_ >> 33U) % n;
  }

 private:
  std::uint64_t state_;
};

BlockHash name(std::uint64_t number) {
  BlockHash hash;
  for (std::size_t i = 0; i < 32; ++i)
    hash.bytes[i] = static_cast<std::byte>((number * 2654435761U >> (i % 24)) + i * number);
  std::memcpy(hash.bytes.data(), &number, sizeof number);
  return hash;
}

class Trial {
 public:
  explicit Trial(std::uint64_t seed)
      : dice_(seed),
        table_(*BlockTable::create({.capacity = 4096, .seed = seed, .huge_pages = HugePages::kOff})),
        store_(table_, tenants_, kDirectories) {
    root_ = table_.insert_root(name(1));
    for (std::uint32_t i = 0; i < kDirectories; ++i) open(i);
  }

  void step() {
    ++now_;
    switch (dice_.below(16)) {
      case 0:
      case 1:
      case 2:
      case 3:
        commit();
        break;
      case 4:
      case 5:
      case 6:
      case 7:
        begin();
        break;
      case 8:
      case 9:
      case 10:
        finish();
        break;
      case 11:
        read();
        break;
      case 12:
        end_read();
        break;
      case 13:
        give_up_or_drop();
        break;
      case 14:
        drop_host();
        break;
      default:
        if (dice_.below(6) == 0) lose(static_cast<std::uint32_t>(dice_.below(kDirectories)));
        break;
    }
    check();
  }
  void end() {
    while (!writing_.empty()) finish();
    while (!reading_.empty()) end_read();
    for (const DiskPlace& place : burying_) store_.release(place);
    burying_.clear();
    check();
    for (std::uint32_t i = 0; i < kDirectories; ++i) {
      RC_ASSERT(store_.slots(i)->quarantined_slots() == 0U);
      for (SlotId slot = 0; slot < store_.slots(i)->slot_ids(); ++slot)
        RC_ASSERT(store_.slots(i)->copy_pins(slot) == 0U);
    }
  }
  [[nodiscard]] std::uint64_t evicted() const { return store_.counters().evicted_blocks; }

 private:
  struct Ready {
    DiskPlace place;
    std::uint32_t length = 0;
    std::uint64_t generation = 0;
  };
  using Key = std::tuple<std::uint32_t, std::uint32_t, SlotId>;  // directory, incarnation, slot
  static Key key(const DiskPlace& place) { return {place.directory, place.incarnation, place.slot}; }

  void open(std::uint32_t index) {
    const std::vector<std::uint64_t> free(kExtents, 0);
    DiskStore::Shape shape = DiskStore::shape_of(
        {.extents = kExtents, .extent_bytes = kExtentBytes, .min_slot_bytes = kMinSlot, .slot_bytes = free});
    store_.open(index, shape);
    std::uint32_t cursor = 0;
    while (store_.end_recovery_some(index, cursor)) {
    }
    store_.set_serving(index, true, true);
  }
  BlockId some_block() {
    std::vector<BlockId> ids;
    for (const auto& [_, id] : blocks()) ids.push_back(id);
    return ids.empty() ? kNoBlock : ids[dice_.below(ids.size())];
  }
  std::map<std::uint64_t, BlockId> blocks() {
    std::map<std::uint64_t, BlockId> there;
    for (std::uint64_t number = 2; number < next_; ++number) {
      if (const BlockId id = table_.find(name(number), 0); id != kNoBlock) there[number] = id;
    }
    return there;
  }
  /// A block of the host tier, below another or below the root.
  void commit() {
    if (next_ > 400) return;
    const BlockId above = some_block();
    const BlockId parent = above == kNoBlock || dice_.below(3) == 0 ? root_ : above;
    const BlockId id = table_.insert(name(next_++), 0, parent);
    RC_ASSERT(id != kNoBlock);
    table_.set_generation(id, ++generation_);
    table_.set_state(id, kHost, CopyState::kFilling);
    table_.set_slot(id, kHost, 0);
    table_.set_state(id, kHost, CopyState::kReady);
  }
  void begin() {
    const BlockId id = some_block();
    if (id == kNoBlock) return;
    const std::uint64_t bytes = kSizes[dice_.below(8) < 6 ? favourite_ : dice_.below(kSizes.size())];
    if (dice_.below(40) == 0) favourite_ = dice_.below(kSizes.size());
    DiskCopy copy;
    std::vector<DiskPlace> evicted;
    DiskStore::Begun begun = DiskStore::Begun::kAgain;
    for (int i = 0; i < 200 && begun == DiskStore::Begun::kAgain; ++i) {
      const bool there = is_present(table_.state(id, kDisk)) || !is_readable(table_.state(id, kHost));
      begun = store_.begin_write(id, bytes, now_, copy, evicted);
      RC_ASSERT((begun == DiskStore::Begun::kThere) == there);
    }
    RC_ASSERT(begun != DiskStore::Begun::kAgain);  // making room ends
    for (const DiskPlace& place : evicted) {
      RC_ASSERT(forget(place));                // it was ready,
      RC_ASSERT(!busy_.contains(key(place)));  // and nobody used it
    }
    if (begun != DiskStore::Begun::kYes) return;
    RC_ASSERT(copy.slot_bytes >= bytes);
    RC_ASSERT(busy_.insert(key(copy.place)).second);  // not under IO, not in quarantine
    const BlockId parent = table_[id].parent;
    RC_ASSERT(table_[parent].is_root || is_present(table_.state(parent, kDisk)));
    for (const auto& [other, ready] : ready_) RC_ASSERT(key(ready.place) != key(copy.place));
    copy.length = static_cast<std::uint32_t>(1 + dice_.below(bytes));
    writing_.push_back(copy);
  }
  void finish() {
    if (writing_.empty()) return;
    const std::size_t i = dice_.below(writing_.size());
    const DiskCopy copy = writing_[i];
    writing_.erase(writing_.begin() + static_cast<std::ptrdiff_t>(i));
    const bool written = dice_.below(8) != 0;
    const bool given_up = given_up_.erase(key(copy.place)) > 0;
    const bool kept = store_.finish_write(copy, written, now_);
    RC_ASSERT(kept == (written && !given_up));
    busy_.erase(key(copy.place));
    if (kept) ready_[copy.id] = {.place = copy.place, .length = copy.length, .generation = copy.generation};
  }
  void read() {
    const BlockId id = some_block();
    if (id == kNoBlock) return;
    store_.touch(id, now_);
    const auto copy = store_.hold(id);
    RC_ASSERT(copy.has_value() == ready_.contains(id));
    if (!copy) return;
    const Ready& known = ready_[id];
    RC_ASSERT(key(copy->place) == key(known.place));
    RC_ASSERT(copy->length == known.length);
    RC_ASSERT(copy->generation == known.generation);
    reading_.push_back(copy->place);
    busy_.insert(key(copy->place));
  }
  void end_read() {
    if (reading_.empty()) return;
    const std::size_t i = dice_.below(reading_.size());
    const DiskPlace place = reading_[i];
    reading_.erase(reading_.begin() + static_cast<std::ptrdiff_t>(i));
    store_.release(place);
    const auto same = [&](const DiskPlace& other) { return key(other) == key(place); };
    if (std::ranges::none_of(reading_, same) && std::ranges::none_of(burying_, same)) busy_.erase(key(place));
  }
  void give_up_or_drop() {
    if (!burying_.empty() && dice_.below(2) == 0) {
      const DiskPlace place = burying_.back();
      burying_.pop_back();
      store_.release(place);
      const auto same = [&](const DiskPlace& other) { return key(other) == key(place); };
      const bool written = std::ranges::any_of(writing_, [&](const DiskCopy& copy) { return same(copy.place); });
      if (std::ranges::none_of(reading_, same) && !written) busy_.erase(key(place));
      return;
    }
    const BlockId id = some_block();
    if (id == kNoBlock) return;
    const bool filling = is_present(table_.state(id, kDisk)) && !is_readable(table_.state(id, kDisk));
    const bool ready = ready_.contains(id);
    const bool dropping = dice_.below(2) == 0;
    const auto place = dropping ? store_.drop(id) : store_.give_up(id);
    RC_ASSERT(place.has_value() == (ready || (filling && dropping)));
    if (!place) return;
    if (filling) given_up_.insert(key(*place));
    ready_.erase(id);
    busy_.insert(key(*place));
    burying_.push_back(*place);
  }
  /// As an eviction of the host tier.
  void drop_host() {
    const BlockId id = some_block();
    if (id == kNoBlock || !is_readable(table_.state(id, kHost))) return;
    const bool written = std::ranges::any_of(writing_, [&](const DiskCopy& copy) { return copy.id == id; });
    if (written || !table_.can_lose(id, kHost)) return;
    table_.set_state(id, kHost, CopyState::kAbsent);
    table_.set_slot(id, kHost, kNoSlot);
    (void)table_.erase_if_unused(id);
  }
  /// The directory's file is lost, and opened again empty or with what was in it.
  void lose(std::uint32_t index) {
    std::vector<DiskBlock> headers;
    std::vector<BlockId> parents;
    std::vector<std::uint64_t> sizes(kExtents, 0);
    const SlotTable& slots = *store_.slots(index);
    for (ExtentId extent = 0; extent < kExtents; ++extent) sizes[extent] = slots.slot_bytes(extent);
    for (auto at = ready_.begin(); at != ready_.end();) {
      if (at->second.place.directory == index) {
        const BlockId id = at->first;
        headers.push_back({.fingerprint = name(1),
                           .hash = table_[id].hash,
                           .slot = at->second.place.slot,
                           .slot_bytes = slots.slot_bytes(slots.extent_of(at->second.place.slot)),
                           .length = at->second.length,
                           .generation = at->second.generation});
        headers.back().parent = table_[table_[id].parent].hash;
        at = ready_.erase(at);
      } else {
        ++at;
      }
    }
    for (const DiskCopy& copy : writing_) {
      if (copy.place.directory == index) given_up_.insert(key(copy.place));
    }
    std::uint32_t cursor = 0;
    DiskStore::Shape gone;
    while (store_.lose_some(index, cursor, gone)) {
      RC_ASSERT(!gone.policy);
    }
    RC_ASSERT(gone.policy && (gone.slots || !writing_.empty() || !reading_.empty() || !burying_.empty()));
    RC_ASSERT(!store_.is_open(index));
    if (dice_.below(2) == 0) return open(index);
    DiskStore::Shape shape = DiskStore::shape_of(
        {.extents = kExtents, .extent_bytes = kExtentBytes, .min_slot_bytes = kMinSlot, .slot_bytes = sizes});
    store_.open(index, shape);
    for (bool more = true; more;) {  // parents first
      more = false;
      for (auto& header : headers) {
        if (header.slot == kNoSlot) continue;
        const BlockId parent = header.parent == name(1) ? root_ : table_.find(header.parent, 0);
        if (parent == kNoBlock || (parent != root_ && !table_.has_copy(parent))) continue;
        adopt(index, header, parent);
        header.slot = kNoSlot;
        more = true;
      }
    }
    cursor = 0;
    while (store_.end_recovery_some(index, cursor)) {
    }
    store_.set_serving(index, true, true);
  }
  void adopt(std::uint32_t index, const DiskBlock& header, BlockId parent) {
    const BlockId before = table_.find(header.hash, 0);
    const bool known = before != kNoBlock && table_.has_copy(before);
    std::optional<DiskPlace> replaced;
    const auto adopted = store_.adopt(index, header, parent, now_, replaced);
    RC_ASSERT(!replaced.has_value());  // generations here never rise beside a copy on disk
    RC_ASSERT((adopted == DiskStore::Adopted::kYes) == !known);
    if (known) return;
    const BlockId id = table_.find(header.hash, 0);
    const auto copy = store_.hold(id);
    RC_ASSERT(!copy.has_value() || copy->place.slot == header.slot);
    if (copy) store_.release(copy->place);
    ready_[id] = {.place = DiskPlace{.directory = index, .slot = header.slot, .incarnation = incarnation(index, id)},
                  .length = header.length,
                  .generation = header.generation};
  }
  std::uint32_t incarnation(std::uint32_t index, BlockId id) {
    store_.set_serving(index, true, false);
    const auto copy = store_.hold(id);
    RC_ASSERT(copy.has_value());
    store_.release(copy->place);
    return copy->place.incarnation;
  }
  bool forget(const DiskPlace& place) {
    for (auto at = ready_.begin(); at != ready_.end(); ++at) {
      if (key(at->second.place) != key(place)) continue;
      ready_.erase(at);
      return true;
    }
    return false;
  }
  void check() {
    table_.check_consistency();
    store_.check_consistency();
    RC_ASSERT(store_.counters().ready_blocks == ready_.size());
    for (const auto& [id, ready] : ready_) {
      RC_ASSERT(is_readable(table_.state(id, kDisk)));
      RC_ASSERT(table_[id].generation == ready.generation);
    }
  }

  Dice dice_;
  BlockTable table_;
  TenantTable tenants_{{}};
  DiskStore store_;
  BlockId root_ = kNoBlock;
  std::uint64_t now_ = 1;
  std::uint64_t next_ = 2;
  std::uint64_t generation_ = 0;
  std::uint64_t favourite_ = 0;
  std::map<BlockId, Ready> ready_;
  std::vector<DiskCopy> writing_;
  std::vector<DiskPlace> reading_;
  std::vector<DiskPlace> burying_;
  std::set<Key> busy_;      // under IO or to be buried
  std::set<Key> given_up_;  // while being written
};

RC_GTEST_PROP(DiskStoreProperty, agrees_with_the_model, (std::uint64_t seed)) {
  Trial run(seed);
  for (int i = 0; i < 1'500; ++i) run.step();
  run.end();
}

TEST(DiskStore, a_run_evicts_and_changes_sizes) {  // so that the property is about something
  std::uint64_t evicted = 0;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    Trial run(seed);
    for (int i = 0; i < 3'000; ++i) run.step();
    evicted += run.evicted();
    run.end();
  }
  EXPECT_GT(evicted, 50U);
}

}  // namespace
}  // namespace tiercel
