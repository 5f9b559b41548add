#include "sim/sim_device.h"

#include <algorithm>
#include <utility>

namespace tiercel::sim {
namespace {

constexpr std::uint64_t kLongestBlockNs = 10'000'000'000;
constexpr std::uint32_t kMostBlocksInARow = 10'000;

}  // namespace

void SimDevice::event() {
  blocks_in_a_row_ = 0;
  if (gone_ || ++events_ != crash_at_) return;
  stop_();
  gone_ = true;
}

Fault SimDevice::fault_of(SimDisk& disk, IoKind kind) {
  const Fault fault = disk.dice().of(kind, clock_.now_ns(), random_);
  if (fault != Fault::kNone) {
    trace_.event("device: fault {} (number in fault_plan.h) for an operation of kind {}",
                 {static_cast<std::uint64_t>(fault), static_cast<std::uint64_t>(kind)});
  }
  return fault;
}

std::uint64_t SimDevice::due_ns(const SimDisk& disk, Fault fault) {
  if (fault == Fault::kStall) return UINT64_MAX;
  const std::uint64_t usual =
      latency_.least_ns + random_.below(random_.below(32) == 0 ? latency_.slow_spread_ns : latency_.spread_ns);
  if (fault == Fault::kDelay) return clock_.now_ns() + usual + random_.below(latency_.delay_ns);
  if (fault == Fault::kFrozen) return disk.dice().outage_end_ns() + usual;
  return clock_.now_ns() + usual;
}

void SimDevice::block(std::uint64_t until_ns) {
  const std::uint64_t now = clock_.now_ns();
  if (gone_ || until_ns <= now) return;
  const std::uint64_t by = std::min(until_ns - now, kLongestBlockNs);
  clock_.advance(by);
  blocked_ns_ += by;
  if (++blocks_in_a_row_ < kMostBlocksInARow || !violation_.empty()) return;
  violation_ = "a driver waits inside an IO call for an operation that never ends";
  gone_ = true;  // lets it out
}

void SimDevice::plan_crash(std::uint64_t events, std::function<void()> stop) {
  crash_at_ = events_ + events;
  stop_ = std::move(stop);
}

}  // namespace tiercel::sim
