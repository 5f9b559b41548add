// Volume: one opened disk file at work: its metadata and the lanes of reads, writes and burials over it. Made when a
// file has been opened, gone when it is closed or lost.
//
// While the header table is being recovered, reads of what was found are served; what changes headers waits. The
// driver's thread only; callbacks run inside the calls.
#pragma once

#include "tier/disk/bury_lane.h"
#include "tier/disk/disk_mailbox.h"
#include "tier/disk/metadata.h"
#include "tier/disk/page_writer.h"
#include "tier/disk/read_lane.h"
#include "tier/disk/write_lane.h"

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

namespace tiercel::disk {

class Volume {
 public:
  Volume(const Shared& shared, std::shared_ptr<Metadata> metadata);
  Volume(const Volume&) = delete;
  Volume& operator=(const Volume&) = delete;

  /// The header table is in memory: what waited goes on.
  void recovered(const TombstoneIndex& old_log);
  void take(Mail& mail);
  void start();
  void expire() { reads_.expire(); }

  /// Nothing can be written, or nothing at all: what waits is answered so.
  void fail_writes(const Error& error);
  void fail_reads(const Error& error) { reads_.fail_waiting(error); }
  /// The file is given up (the Device has forgotten it): everything is answered so. Nothing else may be called after.
  void drop(const Error& error);
  /// Says in the file that this boot has a higher number. Before recovery.
  void raise_epoch(std::uint64_t epoch, PageWriter::Done done);
  /// Brings everything into the file and marks it as closed in order. Once, when idle.
  void close(PageWriter::Done done);

  [[nodiscard]] bool idle() const noexcept;
  [[nodiscard]] std::uint64_t next_deadline() const noexcept { return reads_.next_deadline(); }
  [[nodiscard]] bool writes_wait() const noexcept { return writes_.waiting(); }
  [[nodiscard]] std::uint64_t late_bytes() const noexcept { return reads_.late_bytes(); }
  [[nodiscard]] const std::shared_ptr<Metadata>& share_metadata() const noexcept { return metadata_; }
  [[nodiscard]] const Metadata& metadata() const noexcept { return *metadata_; }

 private:
  void run(OrderedJob&& job);
  void fail_held(const Error& error);
  void begin_checkpoint(std::span<const std::uint32_t> coldest_first);
  void write_superblock(const SuperblockUpdate& update, PageWriter::Done done);
  [[nodiscard]] std::optional<ReadLane::Place> find(const DiskRead& read) const;

  Shared shared_;
  std::shared_ptr<Metadata> metadata_;
  PageWriter pages_;
  ReadLane reads_;
  WriteLane writes_;
  BuryLane burials_;
  bool recovered_ = false;
  std::deque<OrderedJob> held_;  // until recovered
  std::optional<std::vector<std::uint32_t>> held_checkpoint_;
  std::uint32_t checkpoint_pages_ = 0;  // of the one that is being written
};

}  // namespace tiercel::disk
