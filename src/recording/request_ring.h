// RequestRing: calls on their way to the recording, from any thread to one writer, in a ring of 64-bit words whose size
// is fixed. A call costs four words and one a block: the first 8 bytes of each hash. What finds no room is refused.
//
// push() is safe from any thread and allocates nothing; it holds the mutex while it copies, about 1 ns a block. pop()
// and leave() are the writer's: it copies out without the lock, since nobody writes behind the head before it moves.
#pragma once

#include "base/mutex.h"

#include <tiercel/block.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel {

/// The name of a block in a recording: the first 8 bytes of its hash.
using RecordedBlock = std::uint64_t;
[[nodiscard]] inline RecordedBlock recorded_block(const BlockHash& hash) noexcept {
  RecordedBlock block = 0;
  std::memcpy(&block, hash.bytes.data(), sizeof(block));
  return block;
}

class RequestRing {
 public:
  enum class Kind : std::uint8_t { kMatch = 0, kLoad = 1, kReserve = 2, kSession = 3, kSpace = 4 };
  struct Entry {
    Kind kind = Kind::kMatch;
    std::uint32_t session = 0;
    std::uint64_t now_ns = 0;
    RecordedBlock space = 0;         ///< of the namespace's fingerprint
    std::uint32_t block_tokens = 0;  ///< of a kSpace
  };
  enum class Pushed : std::uint8_t {
    kTaken = 0,
    kRefused = 1,   ///< no room
    kUnheeded = 2,  ///< taken, and no writer is at work: it must be called, and is taken to be at work from here on
    kHalfFull = 3,  ///< taken, and the ring has just become half full: the writer should not wait any longer
  };

  /// `words` is a power of two.
  explicit RequestRing(std::size_t words);

  [[nodiscard]] Pushed push(const Entry& entry, std::span<const BlockHash> chain) noexcept;
  /// With a text in place of a chain.
  [[nodiscard]] Pushed push(const Entry& entry, std::string_view text) noexcept;

  struct Taken {
    Entry entry;
    std::vector<RecordedBlock> chain;
    std::string text;
  };
  /// The oldest entry into `taken`, whose memory is used again. False: there is none.
  [[nodiscard]] bool pop(Taken& taken);
  [[nodiscard]] bool half_full() const noexcept;
  /// The writer goes, unless there is an entry. After that it touches the ring no more.
  [[nodiscard]] bool leave() noexcept;
  /// Nobody could be called after kUnheeded.
  void unheeded() noexcept;
  /// Is a writer at work, or called?
  [[nodiscard]] bool heeded() const noexcept;

 private:
  static constexpr std::size_t kHeaderWords = 4;

  template <class Fill>
  [[nodiscard]] Pushed push_words(const Entry& entry, std::size_t count, std::size_t payload,
                                  const Fill& fill) noexcept;

  const std::size_t mask_;
  // Words [head_, tail_) are the writer's, the others those of who holds the mutex.
  std::vector<std::uint64_t> words_;
  mutable Mutex mutex_;
  std::size_t head_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::size_t tail_ TIERCEL_GUARDED_BY(mutex_) = 0;
  bool heeded_ TIERCEL_GUARDED_BY(mutex_) = false;
};

}  // namespace tiercel
