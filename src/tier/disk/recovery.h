// Recovery: reads the metadata region of an opened file into its Metadata and says which blocks are there.
//
// Steps: extent heads, namespaces, log and checkpoint; then, of each extent that is cut, the header pages that its
// slots need, at most 4 reads of 1 MiB at a time, in table order. What does not count (damaged, of an earlier cut,
// buried) is cleared in the image and its page put into Metadata::repaired_pages(). A page that the device cannot read
// is empty and repaired too. One thread; the File is polled by its owner. Cost: 4 KiB read and 32 CRCs a page.
#pragma once

#include "tier/disk/disk_tier.h"
#include "tier/disk/io_sequence.h"
#include "tier/disk/metadata.h"

#include <deque>
#include <memory>
#include <vector>

namespace tiercel::disk {

class RecoverySink {
 public:
  virtual ~RecoverySink() = default;
  /// Extent heads, namespaces and log have been read; blocks follow. `buried`: what the log holds.
  virtual void on_region(const TombstoneIndex& buried) { (void)buried; }
  /// In table order, at most 1,024 a call.
  virtual void on_found(std::span<const DiskBlock> blocks) = 0;
  /// A header that does not count. Not called for empty and for buried ones.
  virtual void on_fault(std::uint32_t slot, Fault fault) {
    (void)slot;
    (void)fault;
  }
  virtual void on_buried(const DiskBlock& block) { (void)block; }
};

/// Reads the region as steps of a coroutine, on a port that others may use too.
class RegionReader {
 public:
  static constexpr std::uint32_t kPagesPerRead = 256;
  static constexpr std::size_t kReads = 4;
  static constexpr std::size_t kBatch = 1024;

  RegionReader(std::shared_ptr<Metadata> metadata, IoPort& port, const Clock& clock, RecoverySink& sink);

  /// Errors: kTimeout; kIo where the file ends too early, or where more than kUnreadablePages cannot be read.
  [[nodiscard]] Steps<Status> read();

  /// Boots whose blocks count: those below. The one that runs now, where nobody says otherwise.
  void set_epochs(std::uint64_t epochs) noexcept { epochs_ = epochs; }

  /// Blocks that are found from now on are covered by this too: for a delete that comes while the table is read.
  void bury(const Tombstone& tombstone) { buried_.add(tombstone); }
  [[nodiscard]] const TombstoneIndex& buried() const noexcept { return buried_; }
  /// The log has been read: Metadata::append is possible.
  [[nodiscard]] bool log_taken() const noexcept { return log_taken_; }
  [[nodiscard]] const DiskRecovery& report() const noexcept { return report_; }
  [[nodiscard]] DiskRecovery& report() noexcept { return report_; }
  /// Heads, namespaces and tombstones that were damaged, and pages that could not be read.
  [[nodiscard]] std::uint64_t bad_heads() const noexcept { return bad_heads_; }
  [[nodiscard]] std::uint64_t bad_namespaces() const noexcept { return bad_namespaces_; }
  [[nodiscard]] std::uint64_t bad_tombstones() const noexcept { return bad_tombstones_; }
  [[nodiscard]] std::uint64_t unreadable_pages() const noexcept { return unreadable_; }

 private:
  static constexpr std::uint64_t kUnreadablePages = 1024;
  struct Reading {
    PageRange range;
    Pending pending;
  };

  [[nodiscard]] std::vector<PageRange> table_ranges() const;
  [[nodiscard]] Reading begin_read(PageRange range);
  [[nodiscard]] Steps<Status> read_singly(PageRange range);
  void take_region();
  void take_headers(PageRange range);
  void take_header(std::uint32_t slot);
  void hand_over();

  std::shared_ptr<Metadata> metadata_;
  IoPort& port_;
  const Clock& clock_;
  RecoverySink& sink_;
  TombstoneIndex buried_;
  DiskRecovery report_;
  std::vector<bool> named_;  ///< namespaces, by id
  std::vector<DiskBlock> batch_;
  bool log_taken_ = false;
  std::uint64_t epochs_;
  std::uint64_t bad_heads_ = 0;
  std::uint64_t bad_namespaces_ = 0;
  std::uint64_t bad_tombstones_ = 0;
  std::uint64_t unreadable_ = 0;
};

/// The same, driven by step().
class Recovery {
 public:
  struct Options {
    std::uint64_t patience_ns = 10'000'000'000;  ///< for one read
    std::uint64_t* ended_operations = nullptr;   ///< counts them, where wanted; as long as the File is polled
  };
  Recovery(std::shared_ptr<Metadata> metadata, File& file, const Clock& clock, const Options& options,
           RecoverySink& sink);

  /// Goes on if a read has ended; starts the next ones. Calls the sink, for at most 1 MiB of the table. True: ended.
  bool step();
  [[nodiscard]] bool ended() const noexcept { return sequence_.ended(); }
  void excuse(std::uint64_t ns) noexcept { port_.excuse(ns); }
  /// After the end.
  [[nodiscard]] const Status& status() noexcept { return sequence_.status(); }
  [[nodiscard]] RegionReader& reader() noexcept { return reader_; }

 private:
  IoPort port_;
  RegionReader reader_;
  Sequence sequence_;
};

}  // namespace tiercel::disk
