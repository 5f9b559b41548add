// DiskTier: one directory's file of the disk tier (G3): moves the bytes of blocks between slots of the file and memory,
// keeps the header table, and finds after a restart what is there. Which block lies in which slot, what goes and what
// comes is decided above (src/cache); this knows slots, headers and IO.
//
// Two sides. Any thread: read, write, clear, bury, checkpoint, state: they put a job into a bounded mailbox and
// never block. The driver (one thread, or the simulator): step(), which does all IO and runs all callbacks, with no
// lock held. Bytes: a write is data, then the 4 KiB header page that names it, then `done`: acknowledged. A read is one
// IO straight into the caller's memory; neighbours in the file are merged. Nothing is copied but header pages.
//
// Deadlines end the wait, not the IO: `owner` of a job keeps its memory until the IO has ended. Shutdown: close() lets
// what was acknowledged stay; an IO that never ends keeps the tier's file and its memory (see abandon in step()).
#pragma once

#include "base/clock.h"
#include "io/file_system.h"
#include "tier/disk/disk_block.h"

#include <tiercel/result.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tiercel {

enum class DiskState : std::uint8_t {
  kStarting = 0,  ///< not opened yet, or being recovered: reads of what was found are served, writes wait
  kOn = 1,
  kReadOnly = 2,  ///< writes fail (full, read-only, no permission): reads go on, writes are probed
  kOff = 3,       ///< reads fail or stall: nothing is served, the device is probed
  kRefused = 4,   ///< the file is not ours to use (format, superblock, another process): tried again when asked
  kClosed = 5,
};

enum class DiskSubmit : std::uint8_t {
  kTaken = 0,
  kBusy = 1,  ///< a queue or a budget is full
  kOff = 2,   ///< the breaker is open, or the tier is not up
};

struct DiskRead {
  std::uint32_t slot = UINT32_MAX;
  std::uint64_t slot_bytes = 0;
  std::uint64_t generation = 0;  ///< that the caller expects: another one in the header is kCorrupt, without IO
  std::byte* to = nullptr;       ///< aligned to 4096
  std::uint32_t length = 0;      ///< bytes of the block; memory must reach to the next multiple of 4096
  std::uint64_t deadline_ns = UINT64_MAX;
  std::function<void(const Status&)> done;  ///< once. The bytes are not verified: that is the caller's
  std::shared_ptr<void> owner;
};

struct DiskWrite {
  DiskBlock block;                          ///< names slot, length, checksum
  const std::byte* from = nullptr;          ///< aligned to 4096, readable to the next multiple of 4096 after length
  std::function<void(const Status&)> done;  ///< once: acknowledged, or why not. The data's memory may go before it
  std::shared_ptr<void> owner;              ///< dropped when the data has been written (or failed)
};

/// What of the header table a burial makes durable.
enum class BuryScope : std::uint8_t {
  kSlots = 0,  ///< that the headers of its slots are gone
  kTable = 1,  ///< that every header that was cleared until now is gone: of a delete from before this boot's
               ///< generations were known, whose tombstone cannot say which blocks of earlier boots it covers
};

struct DiskRecovery {
  std::uint64_t headers = 0;          ///< valid ones, given to on_found
  std::uint64_t corrupt_headers = 0;  ///< CRC, magic or fields wrong
  std::uint64_t stale_headers = 0;    ///< of an earlier cut of their extent
  std::uint64_t buried_headers = 0;   ///< covered by a tombstone
  std::uint64_t unknown_namespace = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t table_ns = 0;                ///< time spent reading the table
  std::vector<std::uint32_t> coldest_first;  ///< slots by last use, from the checkpoint; may be empty or out of date
};

/// What the tier tells its owner, from step(), with no lock held.
class DiskEvents {
 public:
  virtual ~DiskEvents() = default;
  /// The file is open; its extents and sizes are known. `epoch` is this boot's, larger than all before.
  struct Opened {
    std::uint32_t extents = 0;
    std::uint64_t extent_bytes = 0;
    std::uint64_t min_slot_bytes = 0;
    std::uint64_t epoch = 0;
    std::span<const std::uint64_t> slot_bytes;  ///< a number an extent; 0: free
    std::span<const Tombstone> tombstones;      ///< of the log
    bool discarded = false;                     ///< by discard(): nothing of what was there is left
    /// What the header of a slot says that on_found has named; false if there is none. From any thread, as long as
    /// nobody has cleared, buried or written the slot since; also when the file is lost or closed. It keeps the header
    /// table in memory.
    std::function<bool(std::uint32_t slot, DiskBlock& to)> header{};
    /// The header will be asked for soon. Likewise.
    std::function<void(std::uint32_t slot)> prefetch_header{};
  };
  virtual void on_opened(const Opened& opened) = 0;
  /// Blocks that the table holds, in table order, at most 1,024 a call. Parents may come later. Two with one name may
  /// come: the higher generation counts, the other is to be cleared.
  virtual void on_found(std::span<const DiskBlock> blocks) = 0;
  /// While the table is read, before each of its pieces: goes on with what on_found has begun, for some milliseconds at
  /// most, because reads of blocks wait meanwhile. True: there is more, and the table waits for it.
  virtual bool go_on() { return false; }
  virtual void on_recovered(const DiskRecovery& recovery) = 0;
  /// The file is gone or is no longer what it was: every copy in it is lost. on_opened may follow.
  virtual void on_lost() = 0;
  virtual void on_state(DiskState state, const std::string& cause) = 0;
};

struct DiskCounters {
  std::uint64_t read_blocks = 0;
  std::uint64_t read_bytes = 0;
  std::uint64_t written_blocks = 0;  ///< acknowledged
  std::uint64_t written_bytes = 0;   ///< data; header pages apart
  std::uint64_t header_pages = 0;    ///< page images written
  std::uint64_t read_operations = 0;
  std::uint64_t write_operations = 0;
  std::uint64_t read_errors = 0;
  std::uint64_t short_reads = 0;
  std::uint64_t write_errors = 0;
  std::uint64_t ended_operations = 0;  ///< however they ended: a device that answers
  std::uint64_t deadlines = 0;         ///< reads and writes whose deadline passed
  std::uint64_t breaker_trips = 0;
  std::uint64_t probes = 0;
  std::uint64_t in_flight = 0;          ///< operations, now
  std::uint64_t queued = 0;             ///< jobs, now
  std::uint64_t quarantined_bytes = 0;  ///< of expired operations that have not ended, now
  std::uint64_t tombstones = 0;
  std::uint64_t full_logs = 0;  ///< the tombstone log began anew for want of room
};

struct DiskOptions {
  std::string directory;
  std::uint64_t capacity = 0;  ///< bytes of data, in whole extents
  std::uint64_t extent_bytes = 64U << 20U;
  std::uint64_t min_slot_bytes = 256U << 10U;
  std::uint32_t max_namespaces = 4096;
  std::uint32_t log_pages = 256;                  ///< of the tombstone log of a file that is made
  std::uint32_t depth = 32;                       ///< IO operations in flight
  std::uint32_t queued_jobs = 4096;               ///< of the mailbox, a kind
  std::uint64_t merge_bytes = 4U << 20U;          ///< largest read or write made of neighbours
  std::uint64_t io_deadline_ns = 10'000'000'000;  ///< for writes, headers, tombstones: then the breaker
  std::uint64_t quarantine_bytes = 256U << 20U;   ///< of expired operations; more trips the breaker
  std::uint64_t probe_interval_ns = 2'000'000'000;
  bool reset = false;  ///< make the file anew, whatever it holds
  bool direct = true;
  /// Where blocks will lie: registered with the backend, a piece at a time, when it is ready. Outlives the tier.
  std::vector<struct iovec> memory{};
  std::uint64_t memory_piece_bytes = 64U << 20U;  ///< no block lies across a multiple of it in its region
  std::function<bool()> memory_ready{};           ///< its pages are there; empty: from the start
};

class DiskTier {
 public:
  DiskTier(DiskOptions options, FileSystem& files, const Clock& clock, DiskEvents& events);
  ~DiskTier();

  // Any thread.
  [[nodiscard]] DiskSubmit read(DiskRead&& job);
  [[nodiscard]] DiskSubmit write(DiskWrite&& job);
  /// The slot's block was evicted: its header goes with the page's next image. Never refused.
  void clear(std::uint32_t slot);
  /// Durable delete: syncs the tombstones, clears the headers of `slots`, overwrites their data with zeros, then calls
  /// `done`. The slots may be used again after it. kBusy: call again.
  [[nodiscard]] DiskSubmit bury(std::span<const Tombstone> tombstones, std::span<const std::uint32_t> slots,
                                std::function<void(const Status&)> done, BuryScope scope = BuryScope::kSlots);
  /// Everything that deletes of earlier runs cover has been cleared or never comes: the log may forget them, so that
  /// they do not cover what this run stored before it knew their generations. A write of such a block waits for it.
  /// `epoch`: the highest that the cache has seen in any directory; with the log's turn it becomes this file's too, so
  /// that a boot without that directory goes on above the deletes of this one.
  void forget_deletes(std::uint64_t epoch) noexcept;
  /// Advice for the next start: slots by last use, coldest first.
  [[nodiscard]] DiskSubmit checkpoint(std::vector<std::uint32_t> coldest_first);
  [[nodiscard]] DiskState state() const noexcept;
  [[nodiscard]] DiskCounters counters() const noexcept;
  /// Ends a waiting step().
  void wake() noexcept;
  /// Refuses new jobs; what runs goes on in step() until idle().
  void close() noexcept;
  /// After close(): what has not begun is answered kClosed, what is in flight ends.
  void hurry() noexcept;
  /// Nothing is queued or in flight.
  [[nodiscard]] bool idle() const noexcept;

  // The driver.
  /// All that the file holds, or the file that a directory has when it appears, is to be given up: as soon as it can be
  /// written it is removed and made anew (on_lost, if it was open, then on_opened).
  void discard() noexcept;
  /// Instead of step(), for ever: nobody drives it. It is off.
  void give_up(const std::string& cause);
  /// Does what there is to do, waiting at most `wait_ns` for something. False: closed and idle.
  bool step(std::uint64_t wait_ns);

 private:
  class Engine;
  std::unique_ptr<Engine> engine_;
};

}  // namespace tiercel
