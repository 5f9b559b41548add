// FakeDevice: a GPU of a test: six queues over host memory, whose operations run late and in a random order.
//
// An operation runs when a random step picks its queue, so whatever the code under test forgot to order shows as wrong
// bytes for some seed. Stages are filled and emptied by the code of the kernel. Steps are taken inside reached() and
// drain(), so it works beneath a thread as well as by hand. Safe from any thread, by one mutex.
#pragma once

#include "base/check.h"
#include "base/mutex.h"
#include "base/random.h"
#include "cuda/copy_device.h"
#include "transfer/gpu_copy_engine.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <thread>
#include <variant>
#include <vector>

namespace tiercel::gpu {

/// What a test gives as CopyJob::after_event.
struct FakeEvent {
  std::atomic<std::uint64_t> recorded{0};
  std::atomic<std::uint64_t> happened{0};
  void record() { recorded.fetch_add(1); }
  void happen() { happened.store(recorded.load()); }
};

class FakeDevice final : public CopyDevice {
  struct Place {
    const FakeEvent* event = nullptr;
    Queue queue = 0;
    std::uint64_t position = 0;
  };

 public:
  /// A stream of an engine, of which only the waits are of interest.
  class FakeStream {
    friend class FakeDevice;
    std::vector<Place> waits_;
  };

  FakeDevice(const GpuCopyOptions& options, std::uint64_t seed) : random_(seed) {
    for (const CopyDirection direction : {CopyDirection::kStore, CopyDirection::kLoad}) {
      const StageRing ring = stages_of(direction, options);
      stages_[static_cast<std::size_t>(direction)].assign(ring.count, std::vector<std::byte>(ring.stage_bytes + 16));
    }
  }

  [[nodiscard]] bool owns(const void*) const noexcept override { return true; }
  Result<Ticket> gate(CopyDirection, void* event) override {
    const MutexLock lock(mutex_);
    const auto* fake = static_cast<const FakeEvent*>(event);
    return keep(Place{.event = fake, .position = fake->recorded.load()});
  }
  Status begin_thread() override { return {}; }
  Result<const PieceEntry*> upload(const PieceTable& table) override {
    const MutexLock lock(mutex_);
    tables_.push_back(table.pieces());
    return tables_.back().data();
  }
  void forget(const PieceEntry* pieces) noexcept override {
    const MutexLock lock(mutex_);
    std::erase_if(tables_, [&](const auto& table) { return table.data() == pieces; });
  }
  std::byte* stage(CopyDirection direction, std::uint32_t number) noexcept override {
    std::byte* bytes = stages_[static_cast<std::size_t>(direction)][number].data();
    return bytes + (16 - std::bit_cast<std::uintptr_t>(bytes) % 16) % 16;
  }
  Status run_stage(CopyDirection direction, const StageParams& params) override {
    const MutexLock lock(mutex_);
    queues_[kernel_queue(direction)].operations.emplace_back(StageOperation{direction, params});
    return {};
  }
  Status copy(Queue queue, CopyDirection direction, std::span<const Dma> chunk) override {
    const MutexLock lock(mutex_);
    std::uint64_t bytes = 0;
    for (const Dma& dma : chunk) {
      queues_[queue].operations.emplace_back(DmaOperation{direction, dma});
      bytes += dma.total_bytes();
    }
    longest_ = std::max(longest_, bytes);
    return {};
  }
  Result<Ticket> mark(Queue queue) override {
    const MutexLock lock(mutex_);
    const FakeQueue& q = queues_[queue];
    return keep(Place{.queue = queue, .position = q.ended + q.operations.size()});
  }
  Status wait(Queue queue, Ticket ticket) override {
    const MutexLock lock(mutex_);
    queues_[queue].operations.emplace_back(places_.at(ticket));
    return {};
  }
  Result<bool> reached(Ticket ticket) override {
    const MutexLock lock(mutex_);
    for (std::uint64_t steps = random_.below(4); steps > 0 && step(); --steps) {
    }
    return is_reached(places_.at(ticket));
  }
  void give_back(Ticket ticket) noexcept override {
    const MutexLock lock(mutex_);
    --tickets_;
    free_.push_back(ticket);
  }
  void drain() noexcept override {
    const MutexLock lock(mutex_);
    while (step()) {
    }
    for (FakeQueue& queue : queues_) queue.operations.clear();  // behind an event that never comes
  }
  Status wait_in_stream(void* stream, Ticket ticket) override {
    const MutexLock lock(mutex_);
    static_cast<FakeStream*>(stream)->waits_.push_back(places_.at(ticket));
    return {};
  }
  Status pin(std::byte* begin, std::uint64_t bytes) override {
    while (pins_wait_.load()) std::this_thread::yield();
    const MutexLock lock(mutex_);
    if (pin_limit_bytes_ < bytes) return fail(ErrorCode::kOutOfMemory, "planted: no more may be pinned");
    pin_limit_bytes_ -= bytes;
    pinned_[begin] = bytes;
    return {};
  }
  void unpin(std::byte* begin) noexcept override {
    const MutexLock lock(mutex_);
    TIERCEL_CHECK(pinned_.erase(begin) == 1, "unpinned what is not pinned");
  }
  [[nodiscard]] std::string describe() const override { return "a test's device"; }

  /// From now on pin() does not return until it is told otherwise.
  void let_pins_wait(bool wait) { pins_wait_.store(wait); }
  void limit_pinning(std::uint64_t bytes) {
    const MutexLock lock(mutex_);
    pin_limit_bytes_ = bytes;
  }
  [[nodiscard]] std::map<std::byte*, std::uint64_t> pinned() const {
    const MutexLock lock(mutex_);
    return pinned_;
  }

  /// Whether an engine's stream goes on.
  [[nodiscard]] bool goes_on(const FakeStream& stream) const {
    const MutexLock lock(mutex_);
    return std::ranges::all_of(stream.waits_,
                               [&](const Place& place) TIERCEL_NO_THREAD_SAFETY_ANALYSIS { return is_reached(place); });
  }
  /// Tickets that nobody gave back.
  [[nodiscard]] std::int64_t tickets() const {
    const MutexLock lock(mutex_);
    return tickets_;
  }
  [[nodiscard]] std::uint64_t longest_chunk() const {
    const MutexLock lock(mutex_);
    return longest_;
  }
  [[nodiscard]] std::size_t tables() const {
    const MutexLock lock(mutex_);
    return tables_.size();
  }
  /// Operations that have not run.
  [[nodiscard]] std::size_t pending() const {
    const MutexLock lock(mutex_);
    std::size_t count = 0;
    for (const FakeQueue& queue : queues_) count += queue.operations.size();
    return count;
  }

 private:
  struct StageOperation {
    CopyDirection direction;
    StageParams params;
  };
  struct DmaOperation {
    CopyDirection direction;
    Dma dma;
  };
  using Operation = std::variant<StageOperation, DmaOperation, Place>;
  struct FakeQueue {
    std::deque<Operation> operations;
    std::uint64_t ended = 0;
  };

  Ticket keep(const Place& place) TIERCEL_REQUIRES(mutex_) {
    ++tickets_;
    if (free_.empty()) {
      places_.push_back(place);
      return static_cast<Ticket>(places_.size() - 1);
    }
    const Ticket ticket = free_.front();
    free_.pop_front();
    places_[ticket] = place;
    return ticket;
  }
  [[nodiscard]] bool is_reached(const Place& place) const TIERCEL_REQUIRES(mutex_) {
    if (place.event != nullptr) return place.event->happened.load() >= place.position;
    return queues_[place.queue].ended >= place.position;
  }
  /// Runs the head of a random queue that can go on; false if none can.
  bool step() TIERCEL_REQUIRES(mutex_) {
    const std::uint64_t first = random_.below(kQueues);
    for (std::uint64_t i = 0; i < kQueues; ++i) {
      FakeQueue& queue = queues_[(first + i) % kQueues];
      if (queue.operations.empty()) continue;
      const Operation& head = queue.operations.front();
      if (const auto* place = std::get_if<Place>(&head); place != nullptr && !is_reached(*place)) continue;
      if (const auto* stage = std::get_if<StageOperation>(&head)) run(*stage);
      if (const auto* dma = std::get_if<DmaOperation>(&head)) run(*dma);
      queue.operations.pop_front();
      ++queue.ended;
      return true;
    }
    return false;
  }
  static void run(const StageOperation& operation) {
    const StageParams& params = operation.params;
    for (std::uint32_t vector = 0; vector < params.bytes / kVectorBytes; ++vector) {
      const VectorPlace place = place_of(params, vector);
      const std::uint64_t at = params.stage + std::uint64_t{vector} * kVectorBytes;
      if (operation.direction == CopyDirection::kStore) {
        move_in_parts<true>(params, place, at);
      } else {
        move_in_parts<false>(params, place, at);
      }
    }
  }
  static void run(const DmaOperation& operation) {
    const Dma& dma = operation.dma;
    for (std::uint64_t row = 0; row < dma.rows; ++row) {
      std::byte* host = dma.host + row * dma.host_pitch_bytes;
      std::byte* device = dma.device + row * dma.device_pitch_bytes;
      const bool store = operation.direction == CopyDirection::kStore;
      std::memmove(store ? host : device, store ? device : host, dma.bytes);
    }
  }

  std::array<std::vector<std::vector<std::byte>>, 2> stages_;
  std::atomic<bool> pins_wait_{false};
  mutable Mutex mutex_;
  Random random_ TIERCEL_GUARDED_BY(mutex_);
  std::deque<std::vector<PieceEntry>> tables_ TIERCEL_GUARDED_BY(mutex_);
  std::array<FakeQueue, kQueues> queues_ TIERCEL_GUARDED_BY(mutex_);
  std::deque<Place> places_ TIERCEL_GUARDED_BY(mutex_);
  std::deque<Ticket> free_ TIERCEL_GUARDED_BY(mutex_);
  std::map<std::byte*, std::uint64_t> pinned_ TIERCEL_GUARDED_BY(mutex_);
  std::uint64_t pin_limit_bytes_ TIERCEL_GUARDED_BY(mutex_) = UINT64_MAX;
  std::int64_t tickets_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint64_t longest_ TIERCEL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tiercel::gpu
