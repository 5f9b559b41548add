// BuryLane: durable deletes, and the tombstone log's turn when it is full.
//
// A burial: its tombstones are appended and synced; the headers of its slots leave the file; their bytes are
// overwritten with zeros; all of it is synced; it is answered. Burials that come together share the writes of the log.
// When the log has no room, every page that differs from the file is written and synced first, so that no header that
// an old tombstone covers is left, then the superblock says that the log begins anew. A block that tombstones of
// earlier boots cover, although this boot stored it, must not be published before that. The driver's thread only.
#pragma once

#include "tier/disk/disk_mailbox.h"
#include "tier/disk/metadata.h"
#include "tier/disk/page_writer.h"
#include "tier/disk/write_lane.h"

#include <cstdint>
#include <deque>
#include <functional>
#include <unordered_map>

namespace tiercel::disk {

class BuryLane {
 public:
  /// Writes and syncs a superblock and applies it.
  using WriteSuperblock = std::function<void(SuperblockUpdate, PageWriter::Done)>;

  BuryLane(const Shared& shared, Metadata& metadata, PageWriter& pages, WriteLane& writes, WriteSuperblock superblock);

  void add(BuryJob&& job);
  void start();
  /// The log begins anew soon, if it holds anything (every header that it covers was cleared or is about to be) or the
  /// superblock is to get a higher epoch.
  void renew_log() noexcept;
  /// What the log covered when the file was opened.
  void set_old_log(TombstoneIndex old) { old_log_ = std::move(old); }
  /// False: nothing of it covers the block. True: `done` is called when that is so, because the log has begun anew, or
  /// with the reason why it could not.
  [[nodiscard]] bool uncover(const DiskBlock& block, PageWriter::Done done);
  /// Answers what has not begun.
  void fail_waiting(const Error& error);
  /// The file is given up: answers everything. Nothing may be called after it.
  void drop(const Error& error);
  [[nodiscard]] bool idle() const noexcept { return jobs_.empty() && !turning_ && !renewal_wanted_; }
  [[nodiscard]] std::size_t unanswered() const noexcept { return jobs_.size(); }

 private:
  struct Job {
    BuryJob burial;
    std::uint64_t parts = 0;
    Status status;
  };
  void append(std::uint32_t id);
  void log_written(std::uint32_t id);
  void part_done(std::uint32_t id, const Status& status);
  void finish(std::uint32_t id, Status status);
  void turn();
  void turned(const Status& status);

  Shared shared_;
  Metadata& metadata_;
  PageWriter& pages_;
  WriteLane& writes_;
  WriteSuperblock write_superblock_;
  std::deque<std::uint32_t> waiting_;            // for room in the log
  std::unordered_map<std::uint32_t, Job> jobs_;  // not answered
  std::uint32_t next_id_ = 0;
  TombstoneIndex old_log_;                 // until the log has begun anew
  std::vector<PageWriter::Done> covered_;  // told when it has
  bool turning_ = false;                   // the log begins anew
  bool log_is_full_ = false;               // which is why
  bool renewal_wanted_ = false;            // it is to do so, full or not
};

}  // namespace tiercel::disk
