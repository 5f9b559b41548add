#include "cuda/memory_registration.h"

#include "base/check.h"
#include "base/log.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <bit>

namespace tiercel::gpu {

MemoryRegistration::MemoryRegistration(CopyDevice& device, int number, std::uint64_t piece_bytes)
    : device_(device), number_(number), piece_bytes_(piece_bytes), thread_([this] { work(); }) {
  TIERCEL_CHECK(std::has_single_bit(piece_bytes), "pieces that end nowhere");
}

MemoryRegistration::~MemoryRegistration() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  for (std::byte* piece : pieces_) device_.unpin(piece);
}

void MemoryRegistration::add(std::byte* begin, std::uint64_t bytes) {
  {
    const MutexLock lock(mutex_);
    if (bytes > 0) ranges_.push_back({begin, bytes});
  }
  changed_.notify_all();
}

void MemoryRegistration::pause() {
  MutexLock lock(mutex_);
  ++pauses_;
  changed_.wait(lock.native(), [this]() TIERCEL_NO_THREAD_SAFETY_ANALYSIS { return !busy_; });
}

void MemoryRegistration::resume() {
  {
    const MutexLock lock(mutex_);
    TIERCEL_CHECK(pauses_ > 0, "a pause ends that never began");
    --pauses_;
  }
  changed_.notify_all();
}

bool MemoryRegistration::done() const {
  const MutexLock lock(mutex_);
  return ranges_.empty() && !busy_;
}

bool MemoryRegistration::take_piece(Range& piece) {
  MutexLock lock(mutex_);
  changed_.wait(lock.native(),
                [this]() TIERCEL_NO_THREAD_SAFETY_ANALYSIS { return stopping_ || (pauses_ == 0 && !ranges_.empty()); });
  if (stopping_) return false;
  Range& range = ranges_.front();
  const std::uint64_t to_boundary = piece_bytes_ - (std::bit_cast<std::uintptr_t>(range.begin) & (piece_bytes_ - 1));
  piece = {range.begin, std::min(range.bytes, to_boundary)};
  range.begin += piece.bytes;
  range.bytes -= piece.bytes;
  if (range.bytes == 0) ranges_.pop_front();
  busy_ = true;
  return true;
}

void MemoryRegistration::end_piece(bool refused) {
  {
    const MutexLock lock(mutex_);
    busy_ = false;
    if (refused) ranges_.clear();
  }
  changed_.notify_all();
}

void MemoryRegistration::work() {
  pthread_setname_np(pthread_self(), fmt::format("tiercel-pin-{}", number_).c_str());
  Status status = device_.begin_thread();
  for (Range piece; take_piece(piece);) {
    if (status) status = device_.pin(piece.begin, piece.bytes);
    if (status) {
      pieces_.push_back(piece.begin);
      registered_bytes_.fetch_add(piece.bytes, std::memory_order_release);
    } else {
      log_line(LogLevel::kWarn, "gpu_registration",
               fmt::format("the GPU reaches {} MiB of the arena by DMA, the rest through the CPU: {}",
                           registered_bytes() >> 20U, status.error().message));
    }
    end_piece(!status);
  }
}

}  // namespace tiercel::gpu
