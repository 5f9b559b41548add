// BlockTraffic: keeps a number of blocks of a BenchFile in flight, in a fixed random order over a range of its slots,
// and says how many went through and how long each took.
//
// What a cache does for each block is done here too, on a few worker threads: a write gets its checksum before it is
// submitted and counts when it is acknowledged; a read counts when its bytes agree with their checksum. start(), stop()
// and wait() belong to one thread. The first block that fails ends the traffic; outcome() says why.
#pragma once

#include "base/mutex.h"
#include "inspect/bench_file.h"

#include <tiercel/disk_bench.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <thread>
#include <vector>

namespace tiercel::inspect {

/// What is in a slot of the file. One traffic at a time writes or reads a slot.
struct SlotContent {
  std::uint32_t slot = 0;
  std::uint64_t generation = 0;
  std::uint64_t checksum = 0;
  bool busy = false;
};

class BlockTraffic {
 public:
  struct Options {
    DiskDirection direction = DiskDirection::kRead;
    std::uint64_t block_bytes = 0;
    std::uint32_t in_flight = 1;  ///< at most half of the contents
    std::uint32_t workers = 1;
    std::uint64_t deadline_ns = 0;       ///< of a block
    std::uint64_t first_generation = 0;  ///< of writes
    std::uint64_t most_blocks = UINT64_MAX;
    bool in_order = false;
  };

  /// `memory` has room for in_flight blocks, aligned to 4096, and stays as long as `owner`.
  BlockTraffic(BenchFile& file, const Options& options, std::span<SlotContent> contents, std::byte* memory,
               std::shared_ptr<void> owner);
  BlockTraffic(const BlockTraffic&) = delete;
  BlockTraffic& operator=(const BlockTraffic&) = delete;
  ~BlockTraffic();

  void start();
  /// No further blocks begin.
  void stop();
  /// Until nothing is in flight; a hanging device ends it by the blocks' deadline.
  void wait();
  /// Until most_blocks have gone, one has failed, `until_ns` is reached, or *cancel.
  void run_until(std::uint64_t until_ns, const std::atomic<bool>* cancel);

  [[nodiscard]] std::uint64_t blocks() const noexcept { return ended_blocks_.load(std::memory_order_acquire); }
  [[nodiscard]] std::uint64_t last_end_ns();
  [[nodiscard]] Status outcome();
  /// Nanoseconds a block, in no order. After wait().
  [[nodiscard]] std::vector<std::uint64_t> take_latencies();

 private:
  struct Place {
    std::byte* memory = nullptr;
    std::size_t content = 0;
    std::uint64_t started_ns = 0;
    Status status{};
  };
  /// What the callbacks of the tier reach, also after a deadline.
  struct Ended {
    Mutex mutex;
    std::condition_variable changed;
    std::deque<Place> places TIERCEL_GUARDED_BY(mutex);
    bool closed TIERCEL_GUARDED_BY(mutex) = false;
    void push(Place place);
  };

  void work();
  /// Verifies and counts what has ended.
  void finish(Place& place);
  /// Begins a block in the place, or gives the place up.
  void begin(Place place);
  [[nodiscard]] bool choose(Place& place);
  [[nodiscard]] DiskSubmit submit(const Place& place);
  void give_up(Place& place, Status status);
  [[nodiscard]] BlockHash name_of(std::size_t content) const;

  BenchFile& file_;
  const Options options_;
  const std::span<SlotContent> contents_;
  const std::shared_ptr<void> owner_;
  const std::shared_ptr<Ended> ended_ = std::make_shared<Ended>();
  std::vector<Place> idle_;  // before start()
  std::vector<std::thread> workers_;
  std::atomic<std::uint64_t> ended_blocks_{0};  // pairs: finish (release) with blocks() (acquire)

  Mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::size_t> order_ TIERCEL_GUARDED_BY(mutex_);
  std::size_t cursor_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint64_t begun_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint32_t in_flight_ TIERCEL_GUARDED_BY(mutex_) = 0;
  bool stopping_ TIERCEL_GUARDED_BY(mutex_) = false;
  std::uint64_t last_end_ns_ TIERCEL_GUARDED_BY(mutex_) = 0;
  Status outcome_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<std::uint64_t> latencies_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel::inspect
