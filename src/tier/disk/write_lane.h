// WriteLane: writes of blocks, and overwrites of deleted ones with zeros, from their arrival to their answer.
//
// A write has its slot to itself (slot_order.h) until its IO has ended. Three things go on side by side: its data, the
// head of its extent where that was newly cut, the entry of its namespace where that is new; and where tombstones of
// earlier boots cover it, the log's beginning anew. When all of that is in the file its header enters the image, and
// when the page has completed it is answered. A slot that is cleared meanwhile never gets the header. The driver's
// thread only.
#pragma once

#include "tier/disk/io_queue.h"
#include "tier/disk/metadata.h"
#include "tier/disk/page_writer.h"
#include "tier/disk/read_lane.h"
#include "tier/disk/slot_order.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace tiercel::disk {

class WriteLane {
 public:
  using Done = std::function<void(const Status&)>;

  /// BuryLane::uncover.
  using Uncover = std::function<bool(const DiskBlock&, Done)>;

  WriteLane(const Shared& shared, Metadata& metadata, PageWriter& pages, Uncover uncover);

  void add(DiskWrite&& job);
  /// The slot holds no block any more, whatever is on its way there.
  void clear(std::uint32_t slot);
  /// Zeros over all bytes of the slot, when nothing else is on its way there. After clear().
  void overwrite(std::uint32_t slot, Done done);

  /// Starts what pacing and room allow.
  void start(bool reads_wait);
  /// Answers what has not been started, and lets nothing that runs reach a header.
  void fail_waiting(const Error& error);
  /// The file is given up: answers the writes; overwrites are their burial's. Nothing may be called after it.
  void drop(const Error& error);

  /// Everything is answered; IO of what was answered too late may still run.
  [[nodiscard]] bool idle() const noexcept { return unanswered_ == 0; }
  [[nodiscard]] bool waiting() const noexcept { return !data_.empty() || !zeros_.empty(); }

 private:
  struct Job {
    SlotJob place;
    std::optional<DiskWrite> write;  // none: an overwrite
    Done zeroed;                     // of an overwrite
    std::uint32_t parts = 0;         // that are not done: data (or pieces of zeros), head, namespace, log
    std::uint32_t flying = 0;        // IO operations that have not ended
    bool has_slot = false;
    bool cancelled = false;  // cleared meanwhile
    bool answered = false;
    Status status;
  };

  struct ZeroPiece {
    std::uint32_t job = 0;
    std::uint64_t bytes = 0;
  };
  struct NewNamespace {
    bool writing = false;
    std::vector<std::uint32_t> jobs;  // that wait
  };

  void prepare(std::uint32_t id);
  void cut(const SlotJob& place);
  void clear_image(std::uint32_t slot);
  void namespace_written(std::uint32_t namespace_id, const Status& status);
  void need_head(std::uint32_t id);
  void need_namespace(std::uint32_t id);
  void need_log(std::uint32_t id);
  void start(const IoBatch& batch, bool zeros);
  void part_done(std::uint32_t id, const Status& status);
  void publish(std::uint32_t id);
  void published(std::uint32_t id, const Status& status);
  void answer(std::uint32_t id, Status status);
  void release(std::uint32_t id);
  [[nodiscard]] Status check(const DiskWrite& job) const;
  [[nodiscard]] std::uint64_t offset_of(const SlotJob& place) const;

  Shared shared_;
  Metadata& metadata_;
  PageWriter& pages_;
  const Uncover uncover_;
  SlotOrder order_;
  IoQueue data_;
  IoQueue zeros_;
  std::unordered_map<std::uint32_t, ZeroPiece> zero_pieces_;                 // by id in the queue
  std::unordered_map<std::uint32_t, Job> jobs_;                              // until answered and ended
  std::unordered_map<std::uint32_t, std::vector<std::uint32_t>> writes_of_;  // slot to jobs that may publish
  std::unordered_set<std::uint32_t> unwritten_heads_;                        // extents
  std::map<std::uint32_t, NewNamespace> new_namespaces_;                     // by id: whose entries are not durable
  std::shared_ptr<std::byte> zero_pages_;
  std::size_t unanswered_ = 0;
  std::uint32_t next_id_ = 0;
  std::uint32_t since_zeros_ = 0;  // operations of data since the last of zeros
};

}  // namespace tiercel::disk
