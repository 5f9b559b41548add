// ReadLane: the reads of blocks, from their arrival to their answer.
//
// A read is looked up in the header image (the caller checks the block's name and generation through `holds`), waits in
// deadline order, is merged with its neighbours in the file, and lands in the caller's memory. Its deadline ends the
// wait wherever the read is; the memory's owner lives until the IO has ended. One thread.
#pragma once

#include "tier/disk/device.h"
#include "tier/disk/disk_mailbox.h"
#include "tier/disk/io_queue.h"
#include "tier/disk/write_pacer.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

namespace tiercel::disk {

/// What the parts of the engine share; all of it is the engine's.
struct Shared {
  const DiskOptions& options;
  const Clock& clock;
  Device& device;
  Breaker& breaker;
  WritePacer& pacer;
  DiskCounters& counters;
  DiskMailbox& mailbox;
};

class ReadLane {
 public:
  struct Place {
    std::uint64_t offset = 0;  ///< in the file
  };
  /// Where the block lies that the read wants, if the header image says that it lies there.
  using Find = std::function<std::optional<Place>(const DiskRead&)>;

  ReadLane(const Shared& shared, Find find);

  void add(DiskRead&& job);
  /// Answers what has reached its deadline.
  void expire();
  /// Starts what there is room for.
  void start();
  /// Answers what has not been started.
  void fail_waiting(const Error& error);
  /// The file is given up: answers everything. Nothing may be called after it.
  void drop(const Error& error);

  [[nodiscard]] bool waiting() const noexcept { return !queue_.empty(); }
  [[nodiscard]] std::uint64_t next_deadline() const noexcept;
  /// Of reads whose deadline has passed and whose IO has not ended.
  [[nodiscard]] std::uint64_t late_bytes() const noexcept { return late_bytes_; }
  [[nodiscard]] std::size_t unanswered() const noexcept { return jobs_.size(); }

 private:
  struct Operation;
  struct Job {
    DiskRead read;
    std::uint64_t bytes = 0;  // whole pages
    Operation* operation = nullptr;
  };
  void start(const IoBatch& batch);
  void finish(Operation& operation, const Status& status);
  void answer(std::uint32_t id, const Status& status);

  Shared shared_;
  Find find_;
  IoQueue queue_;
  std::unordered_map<std::uint32_t, Job> jobs_;               // not answered
  std::set<std::pair<std::uint64_t, std::uint32_t>> flying_;  // deadline and id of those in flight
  std::uint32_t next_id_ = 0;
  std::uint64_t late_bytes_ = 0;
};

}  // namespace tiercel::disk
