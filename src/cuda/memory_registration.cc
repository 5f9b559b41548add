#include "cuda/memory_registration.h"

#include "base/check.h"
#include "base/log.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <system_error>

namespace tiercel::gpu {
namespace {

/// Of one call to the kernel, which keeps the address space from changing as long.
constexpr std::uint64_t kProvideBytes = 512U << 10U;

/// Provides the pages before the driver asks for them. Whatever the system refuses here, the driver says again.
void provide(const std::byte* begin, std::uint64_t bytes) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const std::uintptr_t first = std::bit_cast<std::uintptr_t>(begin) & ~(page - 1);
  const std::uintptr_t end = (std::bit_cast<std::uintptr_t>(begin) + bytes + page - 1) & ~(page - 1);
  for (std::uintptr_t at = first; at < end; at += kProvideBytes) {
    const std::uint64_t part = std::min<std::uint64_t>(kProvideBytes, end - at);
    if (::madvise(std::bit_cast<void*>(at), part, MADV_POPULATE_WRITE) != 0) return;
  }
}

}  // namespace

MemoryRegistration::MemoryRegistration(CopyDevice& device, const Options& options)
    : device_(device), options_(options) {
  TIERCEL_CHECK(std::has_single_bit(options.piece_bytes), "pieces that end nowhere");
  threads_.reserve(options.threads);
  threads_.emplace_back([this] { work(); });
  try {
    while (threads_.size() < options.threads) threads_.emplace_back([this] { work(); });
  } catch (const std::system_error& error) {  // fewer are slower, no more
    log_line(LogLevel::kWarn, "gpu_registration_threads",
             fmt::format("{} of {} threads register memory: {}", threads_.size(), options.threads, error.what()));
  }
}

MemoryRegistration::~MemoryRegistration() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  const MutexLock lock(mutex_);
  for (std::byte* piece : pinned_) device_.unpin(piece);
}

std::size_t MemoryRegistration::piece_at(const Region& region, const std::byte* address) const {
  const auto piece = [&](const std::byte* at) { return std::bit_cast<std::uintptr_t>(at) / options_.piece_bytes; };
  return piece(address) - piece(region.begin);
}

MemoryRegistration::Range MemoryRegistration::range_of(const Region& region, std::size_t piece) const {
  const std::uintptr_t first = std::bit_cast<std::uintptr_t>(region.begin);
  const std::uintptr_t boundary = (first & ~(options_.piece_bytes - 1)) + piece * options_.piece_bytes;
  const std::uintptr_t begin = std::max(first, boundary);
  const std::uintptr_t end = std::min(first + region.bytes, boundary + options_.piece_bytes);
  return {region.begin + (begin - first), end - begin};
}

void MemoryRegistration::add(std::byte* begin, std::uint64_t bytes) {
  if (bytes == 0) return;
  {
    const MutexLock lock(mutex_);
    Region region{.begin = begin, .bytes = bytes};
    region.pieces.resize(piece_at(region, begin + bytes - 1) + 1, refused_ ? State::kSettled : State::kWaiting);
    const std::size_t pieces = region.pieces.size();
    regions_.push_back(std::move(region));
    if (!refused_) unsettled_.fetch_add(pieces, std::memory_order_relaxed);
  }
  changed_.notify_all();
}

bool MemoryRegistration::ask_for(std::span<std::byte* const> ranges, std::uint64_t bytes) {
  if (done() || bytes == 0) return true;
  bool settled = true;
  bool fresh = false;
  {
    const MutexLock lock(mutex_);
    for (const std::byte* begin : ranges) {
      for (std::size_t r = 0; r < regions_.size(); ++r) {
        Region& region = regions_[r];
        const std::byte* first = std::max<const std::byte*>(begin, region.begin);
        const std::byte* end = std::min<const std::byte*>(begin + bytes, region.begin + region.bytes);
        if (first >= end) continue;
        for (std::size_t piece = piece_at(region, first); piece <= piece_at(region, end - 1); ++piece) {
          settled = settled && region.pieces[piece] == State::kSettled;
          if (region.pieces[piece] != State::kWaiting) continue;
          region.pieces[piece] = State::kWanted;
          wanted_.push_back({r, piece});
          fresh = true;
        }
      }
    }
    settled = settled || pauses_ > 0;
  }
  if (fresh) changed_.notify_all();
  return settled;
}

void MemoryRegistration::pause() {
  MutexLock lock(mutex_);
  ++pauses_;
  changed_.wait(lock.native(), [this]() TIERCEL_NO_THREAD_SAFETY_ANALYSIS { return !pinning_; });
}

void MemoryRegistration::resume() {
  {
    const MutexLock lock(mutex_);
    TIERCEL_CHECK(pauses_ > 0, "a pause ends that never began");
    --pauses_;
  }
  changed_.notify_all();
}

bool MemoryRegistration::find_piece(Piece& piece) {
  if (!wanted_.empty()) {
    piece = wanted_.front();
    wanted_.pop_front();
    return true;
  }
  for (std::size_t r = 0; r < regions_.size(); ++r) {
    Region& region = regions_[r];
    while (region.next < region.pieces.size() && region.pieces[region.next] != State::kWaiting) ++region.next;
    if (region.next == region.pieces.size()) continue;
    piece = {r, region.next};
    return true;
  }
  return false;
}

bool MemoryRegistration::take_piece(Piece& piece, Range& range) {
  MutexLock lock(mutex_);
  changed_.wait(lock.native(),
                [&]() TIERCEL_NO_THREAD_SAFETY_ANALYSIS { return stopping_ || (pauses_ == 0 && find_piece(piece)); });
  if (stopping_) return false;
  Region& region = regions_[piece.region];
  region.pieces[piece.number] = State::kTaken;
  range = range_of(region, piece.number);
  return true;
}

bool MemoryRegistration::begin_pin() {
  MutexLock lock(mutex_);
  changed_.wait(lock.native(),
                [this]() TIERCEL_NO_THREAD_SAFETY_ANALYSIS { return stopping_ || (pauses_ == 0 && !pinning_); });
  pinning_ = !stopping_;
  return !stopping_;
}

void MemoryRegistration::end_pin(const Piece& piece, const Range& range, const Status& status) {
  bool first_refusal = false;
  {
    const MutexLock lock(mutex_);
    pinning_ = false;
    if (status) {
      pinned_.push_back(range.begin);
      registered_bytes_.fetch_add(range.bytes, std::memory_order_release);
    }
    regions_[piece.region].pieces[piece.number] = State::kSettled;
    std::uint64_t settled = 1;
    first_refusal = !status && !refused_;
    if (first_refusal) {  // nothing that has not begun is tried
      refused_ = true;
      wanted_.clear();
      for (Region& region : regions_) {
        for (State& state : region.pieces) {
          if (state != State::kWaiting && state != State::kWanted) continue;
          state = State::kSettled;
          ++settled;
        }
      }
    }
    unsettled_.fetch_sub(settled, std::memory_order_release);
  }
  changed_.notify_all();
  if (!first_refusal) return;
  log_line(LogLevel::kWarn, "gpu_registration",
           fmt::format("the GPU reaches {} MiB of the arena by DMA, the rest through the CPU: {}",
                       registered_bytes() >> 20U, status.error().message));
}

void MemoryRegistration::work() {
  pthread_setname_np(pthread_self(), fmt::format("tiercel-pin-{}", options_.number).c_str());
  const Status begun = device_.begin_thread();
  Piece piece;
  for (Range range; take_piece(piece, range);) {
    provide(range.begin, range.bytes);
    if (!begin_pin()) return;
    end_pin(piece, range, begun ? device_.pin(range.begin, range.bytes) : begun);
  }
}

}  // namespace tiercel::gpu
