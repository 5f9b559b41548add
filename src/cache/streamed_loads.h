// StreamedLoads: gives the blocks of loads to copies as they come, beside the reading of those after them.
//
// Sketch: one thread, started with the first load. It looks at each load every 50 us while there is one: what is ready
// and not given yet goes into a copy when it is a chunk (16 MiB), when nothing of the load is being copied, or when
// the load is final. So a disk that is slower than the bus keeps the bus a chunk behind it, and a faster one is copied
// in chunks that are worth a launch. A copy that finds no place is tried again. After the first error nothing more of
// that load is copied; it ends when what is in flight has ended. So it is after close(): loads that are not final are
// dropped, which ends their reading, and end with kClosed.
// Locks: one mutex around the list, not held across calls of load, copy or completion. Owns the loads; a load is
// dropped before its completion runs. close() and destruction wait for what is being copied, and for no load.
#pragma once

#include "base/mutex.h"

#include <tiercel/result.h>
#include <tiercel/session.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <vector>

namespace tiercel {

class StreamedLoads {
 public:
  using Done = std::function<void(const Status&)>;
  /// Copies blocks into pages, pages_per_block each; kLimit, or std::bad_alloc: no place now, and nothing was taken.
  using Copy = std::function<Status(std::vector<BlockRef>, std::span<const std::uint32_t>, Done)>;
  /// How it ended, and how many leading blocks were copied.
  using Ended = std::function<void(const Status&, std::size_t)>;

  StreamedLoads(Copy copy, std::size_t pages_per_block, std::uint64_t part_bytes)
      : copy_(std::move(copy)), pages_per_block_(pages_per_block), part_bytes_(part_bytes) {}
  ~StreamedLoads();

  /// At most pages.size() / pages_per_block blocks of it. `ended` runs once, on this object's thread. kClosed: after
  /// close(). Throws std::system_error where there is no thread for the first one.
  Status add(Load load, std::vector<std::uint32_t> pages, Ended ended);
  /// Nothing more is copied. Returns when all streams have ended.
  void close() noexcept;
  /// Loads that have not ended.
  [[nodiscard]] std::size_t open() const noexcept;

 private:
  struct Stream {
    Load load;
    std::vector<std::uint32_t> pages;
    Ended ended;
    std::size_t given = 0;
    std::atomic<std::size_t> in_flight{0};  // pairs: a copy's end (release) with step() (acquire)
    Mutex mutex;                            // a leaf
    std::optional<Error> error TIERCEL_GUARDED_BY(mutex);
  };

  void work();
  void pass(std::vector<std::shared_ptr<Stream>>& streams);
  /// True: it has ended.
  bool step(const std::shared_ptr<Stream>& stream);
  Status give(const std::shared_ptr<Stream>& stream, std::span<const BlockRef> blocks);

  const Copy copy_;
  const std::size_t pages_per_block_;
  const std::uint64_t part_bytes_;
  std::atomic<bool> closed_{false};
  mutable Mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<Stream>> streams_ TIERCEL_GUARDED_BY(mutex_);
  bool stopping_ TIERCEL_GUARDED_BY(mutex_) = false;
  std::thread thread_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel
