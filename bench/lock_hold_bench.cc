// How long the core's lock is held: the slices of the host store that a caller's work is cut into, timed one by one.
//
// Every scenario is built and run several times in the same order; of each slice the shortest time counts, so that what
// else the machine does falls out, and the table shows median and maximum over the slices. Entries lie in memory in an
// order that has nothing to do with their order of use. Usage: lock_hold_bench [--blocks N] [--rounds N]. The bound of
// 50 us is printed, not judged.
#include "base/clock.h"
#include "base/make_room.h"
#include "base/random.h"
#include "cache/host_store.h"
#include "model/testing/numbered_hash.h"
#include "policy/lru.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <numeric>
#include <string_view>
#include <vector>

namespace tiercel {
namespace {

using testing_support::numbered_hash;

constexpr std::uint64_t kSlot = 4096;
constexpr std::uint64_t kExtent = 64ULL << 20U;
constexpr std::uint64_t kSlotsPerExtent = kExtent / kSlot;
constexpr std::size_t kSlice = 32;  // as CacheCore's

struct Arguments {
  std::uint64_t blocks = 32 * kSlotsPerExtent;
  std::size_t rounds = 5;
};

/// Times of the slices of one round.
using Slices = std::vector<std::uint64_t>;

class Timer {
 public:
  explicit Timer(Slices& slices) : slices_(slices), start_(clock_.now_ns()) {}
  ~Timer() { slices_.push_back(clock_.now_ns() - start_); }

 private:
  SteadyClock clock_;
  Slices& slices_;
  std::uint64_t start_;
};

void report(std::string_view name, std::size_t rounds, const std::function<Slices()>& round) {
  Slices best = round();
  for (std::size_t i = 1; i < rounds; ++i) {
    const Slices next = round();
    for (std::size_t s = 0; s < std::min(best.size(), next.size()); ++s) best[s] = std::min(best[s], next[s]);
  }
  std::ranges::sort(best);
  fmt::print("{:<58} {:>8} {:>9.1f} {:>9.1f}\n", name, best.size(), static_cast<double>(best[best.size() / 2]) / 1e3,
             static_cast<double>(best.back()) / 1e3);
}

/// A store filled with blocks of one size below one root, used in random order.
class World {
 public:
  explicit World(std::uint64_t blocks)
      : blocks_(blocks),
        store_({.table = *BlockTable::create({.capacity = blocks + 4'096, .seed = 1}),
                .slots = {.extents = static_cast<std::uint32_t>(blocks / kSlotsPerExtent),
                          .extent_bytes = kExtent,
                          .min_slot_bytes = kSlot},
                .policy = std::make_unique<LruPolicy>(blocks + 4'096),
                .max_namespaces = 4,
                .max_pinned_bytes = UINT64_MAX}),
        root_((store_.add_slot_size(kSlot), store_.add_slot_size(16 * kSlot), store_.root_of(numbered_hash(0)))),
        by_use_(blocks) {
    std::iota(by_use_.begin(), by_use_.end(), std::uint64_t{1});
  }

  [[nodiscard]] HostStore& store() { return store_; }
  [[nodiscard]] BlockId root() const { return root_; }

  /// Chains of `chain` blocks.
  void fill(std::uint64_t chain) {
    for (std::uint64_t n = 1; n <= blocks_; ++n) {
      const BlockId parent = (n - 1) % chain == 0 ? root_ : store_.table().find(numbered_hash(n - 1), 0);
      Fill fill;
      HostStore::RoomSearch room = HostStore::room_search(1);
      store_.begin_slice(room);
      const BlockHash hash = numbered_hash(n);
      if (store_.begin_fill({.hash = hash, .group = 0, .parent = parent, .slot_bytes = kSlot, .now_ns = n}, fill,
                            room) != Reserved::kYes) {
        std::abort();
      }
      (void)store_.commit(fill, 1, false, n);
    }
  }
  void use_in_random_order() {
    Random random(3);
    for (std::size_t i = by_use_.size(); i > 1; --i) std::swap(by_use_[i - 1], by_use_[random.below(i)]);
    for (const std::uint64_t n : by_use_) {
      const BlockName name = name_of(n);
      store_.touch(std::span(&name, 1), blocks_ + 1);
    }
  }
  /// Pins all but each `period`-th block, from the coldest on.
  void pin_all_but_each(std::uint64_t period) {
    for (std::size_t i = 0; i < by_use_.size(); ++i) {
      BlockName name;
      if (i % period != period - 1) (void)store_.pin(numbered_hash(by_use_[i]), 0, name);
    }
  }
  /// Leaves stubs, but for the last of each chain.
  void drop_all_but_tails(std::uint64_t chain) {
    for (std::uint64_t n = 1; n <= blocks_; ++n) {
      if (n % chain != 0) store_.drop_corrupt(name_of(n));
    }
  }
  /// A reserve of `count` blocks of `slot_bytes`, as CacheCore::begin_fills does it.
  Slices reserve(std::size_t count, std::uint64_t slot_bytes) {
    Slices slices;
    HostStore::RoomSearch room = HostStore::room_search(count);
    bool busy = false;
    for (std::size_t done = 0; done < count && !busy;) {
      std::vector<BlockHash> hashes;
      for (std::size_t i = 0; i < kSlice; ++i) hashes.push_back(numbered_hash(2 * blocks_ + done + i));
      const std::size_t end = std::min(done + kSlice, count);
      const std::size_t first = done;
      const Timer timer(slices);
      store_.begin_slice(room);
      for (; done < end && room.in_slice > 0 && !busy; ++done) {
        Fill fill;
        const auto answer = store_.begin_fill({.hash = hashes[done - first],
                                               .group = 0,
                                               .parent = root_,
                                               .slot_bytes = slot_bytes,
                                               .now_ns = 3 * blocks_},
                                              fill, room);
        if (!answer) break;
        busy = *answer == Reserved::kBusy;
      }
    }
    return slices;
  }
  Slices drop_everything() {
    Slices slices;
    HostStore::DropWork work;
    store_.begin_drop(root_, work);
    for (bool more = true; more;) {
      make_room(work.pending, kSlice);
      const Timer timer(slices);
      more = !store_.drop_some(work, static_cast<int>(kSlice));
    }
    return slices;
  }
  /// One extent handed over to slots of 16 times the size.
  Slices hand_over() {
    (void)reserve(1, 16 * kSlot);
    Slices slices;
    std::vector<SlotMove> moves;
    moves.reserve(HostStore::kMovesPerStep);
    for (auto step = HostStore::HandoverStep::kMoves; step == HostStore::HandoverStep::kMoves;) {
      {
        const Timer timer(slices);
        step = store_.step_handover(3 * blocks_, UINT64_MAX, moves);
      }
      for (const SlotMove& move : moves) store_.finish_move(move, true);
    }
    return slices;
  }

 private:
  [[nodiscard]] BlockName name_of(std::uint64_t n) const {
    const BlockId id = store_.table().find(numbered_hash(n), 0);
    return {.id = id, .generation = store_.table()[id].generation};
  }

  std::uint64_t blocks_;
  HostStore store_;
  BlockId root_;
  std::vector<std::uint64_t> by_use_;
};

Slices cuts() {
  SlotTable slots({.extents = 64, .extent_bytes = kExtent, .min_slot_bytes = kSlot});
  slots.add_size(kSlot);
  Slices slices;
  for (std::uint32_t extent = 0; extent < 64; ++extent) {
    {
      const Timer timer(slices);
      (void)slots.allocate(kSlot, 0);
    }
    for (std::uint64_t i = 1; i < kSlotsPerExtent; ++i) (void)slots.allocate(kSlot, 0);
  }
  return slices;
}

void run(const Arguments& arguments) {
  fmt::print("{} blocks of {} bytes, best of {} rounds; rule 8: slices of at most 50 us\n", arguments.blocks, kSlot,
             arguments.rounds);
  fmt::print("{:<58} {:>8} {:>9} {:>9}\n", "slice", "slices", "p50 us", "max us");
  report(fmt::format("cut of an extent into {} slots", kSlotsPerExtent), arguments.rounds, cuts);
  const auto world = [&](std::uint64_t chain) {
    auto made = std::make_unique<World>(arguments.blocks);
    made->fill(chain);
    return made;
  };
  report("reserve of 4,096 blocks, nothing pinned", arguments.rounds, [&] {
    const auto full = world(1);
    full->use_in_random_order();
    return full->reserve(4'096, kSlot);
  });
  report("reserve of 1,024 blocks, 62 pinned before each that may go", arguments.rounds, [&] {
    const auto full = world(1);
    full->use_in_random_order();
    full->pin_all_but_each(63);
    return full->reserve(1'024, kSlot);
  });
  report("reserve in a store whose blocks are all pinned", arguments.rounds, [&] {
    const auto full = world(1);
    full->use_in_random_order();
    full->pin_all_but_each(UINT64_MAX);
    return full->reserve(1, kSlot);
  });
  report("delete of chains of 100 stubs with a block at the end", arguments.rounds, [&] {
    const auto full = world(100);
    full->drop_all_but_tails(100);
    return full->drop_everything();
  });
  report("hand-over of an extent to another size", arguments.rounds, [&] {
    const auto full = world(1);
    full->use_in_random_order();
    return full->hand_over();
  });
}

}  // namespace
}  // namespace tiercel

int main(int argc, char** argv) {
  tiercel::Arguments arguments;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view key = argv[i];
    const std::uint64_t value = i + 1 < argc ? std::strtoull(argv[i + 1], nullptr, 10) : 0;
    if (value == 0 || (key != "--blocks" && key != "--rounds")) {
      fmt::print(stderr, "usage: {} [--blocks N] [--rounds N]\n", argv[0]);
      return 2;
    }
    (key == "--blocks" ? arguments.blocks : arguments.rounds) = value;
  }
  arguments.blocks = std::max<std::uint64_t>(1, arguments.blocks / tiercel::kSlotsPerExtent) * tiercel::kSlotsPerExtent;
  tiercel::run(arguments);
}
