// MemoryRegistration: makes host memory known to the GPU's driver a piece at a time, beside everything else.
//
// The driver lets no thread launch while it registers a piece, and would spend most of that time providing the pages;
// so threads ("tiercel-pin-N") provide the pages of a piece first, beside each other, and then register it, one piece
// at a time. Pieces that a copy needs come first, the others in address order. Pieces end at multiples of piece_bytes
// of the address space: DmaWalker cuts there, so no copy lies in two. The engine pauses it while it captures graphs; a
// piece that the driver has in work ends first. What the system refuses (the memlock limit) stays as it is, with one
// line in the log. Destruction takes all back. Safe from any thread.
#pragma once

#include "base/mutex.h"
#include "cuda/copy_device.h"

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <thread>
#include <vector>

namespace tiercel::gpu {

class MemoryRegistration {
 public:
  struct Options {
    int number = 0;                          ///< of the GPU, for the threads' names
    std::uint64_t piece_bytes = 16U << 20U;  ///< a power of two
    std::uint32_t threads = 1;               ///< 1 and more
  };
  MemoryRegistration(CopyDevice& device, const Options& options);
  /// Nothing in flight uses the memory.
  ~MemoryRegistration();
  MemoryRegistration(const MemoryRegistration&) = delete;
  MemoryRegistration& operator=(const MemoryRegistration&) = delete;

  /// The memory stays mapped as long as this object lives. No byte is given twice.
  void add(std::byte* begin, std::uint64_t bytes);
  /// Whether nothing of these ranges, each of `bytes`, waits to be registered; if something does, it comes next.
  /// Nothing waits while registration is paused.
  [[nodiscard]] bool ask_for(std::span<std::byte* const> ranges, std::uint64_t bytes);
  /// Returns when the driver has no piece in work.
  void pause();
  void resume();

  [[nodiscard]] std::uint64_t registered_bytes() const noexcept {
    return registered_bytes_.load(std::memory_order_acquire);
  }
  /// Registered, or refused.
  [[nodiscard]] bool done() const noexcept { return unsettled_.load(std::memory_order_acquire) == 0; }

 private:
  enum class State : std::uint8_t { kWaiting, kWanted, kTaken, kSettled };
  struct Region {
    std::byte* begin = nullptr;
    std::uint64_t bytes = 0;
    std::vector<State> pieces;
    std::size_t next = 0;  // no piece before it waits
  };
  struct Piece {
    std::size_t region = 0;
    std::size_t number = 0;
  };
  struct Range {
    std::byte* begin = nullptr;
    std::uint64_t bytes = 0;
  };
  void work();
  [[nodiscard]] bool take_piece(Piece& piece, Range& range);
  [[nodiscard]] bool find_piece(Piece& piece) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] bool begin_pin();
  void end_pin(const Piece& piece, const Range& range, const Status& status);
  [[nodiscard]] Range range_of(const Region& region, std::size_t piece) const;
  [[nodiscard]] std::size_t piece_at(const Region& region, const std::byte* address) const;

  CopyDevice& device_;
  const Options options_;
  std::atomic<std::uint64_t> registered_bytes_{0};  // pairs: the threads (release) with registered_bytes() (acquire)
  std::atomic<std::uint64_t> unsettled_{0};         // pieces; pairs: the threads (release) with done() (acquire)

  Mutex mutex_;
  std::deque<Region> regions_ TIERCEL_GUARDED_BY(mutex_);
  std::deque<Piece> wanted_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<std::byte*> pinned_ TIERCEL_GUARDED_BY(mutex_);
  std::uint32_t pauses_ TIERCEL_GUARDED_BY(mutex_) = 0;
  bool pinning_ TIERCEL_GUARDED_BY(mutex_) = false;
  bool refused_ TIERCEL_GUARDED_BY(mutex_) = false;
  bool stopping_ TIERCEL_GUARDED_BY(mutex_) = false;
  std::condition_variable changed_;
  std::vector<std::thread> threads_;
};

}  // namespace tiercel::gpu
