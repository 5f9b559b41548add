// MemoryRegistration: makes host memory known to the GPU's driver a piece at a time, beside everything else.
//
// One thread ("tiercel-pin-N") registers the pieces in address order; copies are right before, and fast from their
// piece on. Pieces end at multiples of piece_bytes of the address space: DmaWalker cuts there, so no copy lies in two.
// The engine pauses it while it captures graphs; a piece that has begun ends first. What the system refuses (the
// memlock limit) stays as it is, with one line in the log. Destruction takes all back. Safe from any thread.
#pragma once

#include "base/mutex.h"
#include "cuda/copy_device.h"

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <thread>
#include <vector>

namespace tiercel::gpu {

class MemoryRegistration {
 public:
  /// `piece_bytes`: a power of two.
  MemoryRegistration(CopyDevice& device, int number, std::uint64_t piece_bytes);
  /// Nothing in flight uses the memory.
  ~MemoryRegistration();
  MemoryRegistration(const MemoryRegistration&) = delete;
  MemoryRegistration& operator=(const MemoryRegistration&) = delete;

  /// The memory stays mapped as long as this object lives. No byte is given twice.
  void add(std::byte* begin, std::uint64_t bytes);
  /// Returns when no piece is under way.
  void pause();
  void resume();

  [[nodiscard]] std::uint64_t registered_bytes() const noexcept {
    return registered_bytes_.load(std::memory_order_acquire);
  }
  /// Registered, or refused.
  [[nodiscard]] bool done() const;

 private:
  struct Range {
    std::byte* begin = nullptr;
    std::uint64_t bytes = 0;
  };
  void work();
  [[nodiscard]] bool take_piece(Range& piece);
  void end_piece(bool refused);

  CopyDevice& device_;
  const int number_;
  const std::uint64_t piece_bytes_;
  std::atomic<std::uint64_t> registered_bytes_{0};  // pairs: the thread (release) with registered_bytes() (acquire)
  std::vector<std::byte*> pieces_;                  // registered; of the thread, then of the destructor

  mutable Mutex mutex_;
  std::deque<Range> ranges_ TIERCEL_GUARDED_BY(mutex_);
  std::uint32_t pauses_ TIERCEL_GUARDED_BY(mutex_) = 0;
  bool busy_ TIERCEL_GUARDED_BY(mutex_) = false;
  bool stopping_ TIERCEL_GUARDED_BY(mutex_) = false;
  std::condition_variable changed_;
  std::thread thread_;
};

}  // namespace tiercel::gpu
