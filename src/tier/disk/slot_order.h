// SlotOrder: which write or overwrite may touch its slot now. Work on one slot runs one after the other, in the order
// of arrival; an extent is cut to another slot size only when nothing runs in it any more, because the slots of two
// cuts overlap in the file.
//
// A slot stays taken until its IO has really ended: an expired write that is still in the device must not land on what
// came after it. Pure; one thread at a time. O(1) a job where nothing conflicts.
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace tiercel::disk {

struct SlotJob {
  std::uint32_t id = 0;
  std::uint32_t extent = 0;
  std::uint32_t slot = 0;
  std::uint64_t slot_bytes = 0;
};

class SlotOrder {
 public:
  /// True: the slot is the job's now. False: it waits, and a later end() will name it.
  [[nodiscard]] bool begin(const SlotJob& job);
  /// The job that had the slot has ended, its IO included. Returns the jobs that have their slot now, in order.
  [[nodiscard]] std::vector<std::uint32_t> end(const SlotJob& job);
  /// Takes out every job that waits, in no order that matters.
  [[nodiscard]] std::vector<std::uint32_t> take_waiting();

  /// The slot size that the extent has when all that is queued has run; 0: nothing is.
  [[nodiscard]] std::uint64_t cut_of(std::uint32_t extent) const;
  [[nodiscard]] bool empty() const noexcept { return extents_.empty(); }
  [[nodiscard]] std::size_t waiting() const noexcept { return waiting_; }

 private:
  struct Extent {
    std::uint64_t slot_bytes = 0;               // of the jobs that run
    std::unordered_set<std::uint32_t> running;  // slots
    std::deque<SlotJob> waiting;
  };
  [[nodiscard]] static bool may_run(const Extent& extent, const SlotJob& job);

  std::unordered_map<std::uint32_t, Extent> extents_;  // those that have a job
  std::size_t waiting_ = 0;
};

}  // namespace tiercel::disk
