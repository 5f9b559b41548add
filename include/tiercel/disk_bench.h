// DiskBench: measures the disk tier on a directory: blocks through the same engine, file format and checksums that a
// cache uses, without the cache.
//
// create() makes a file of its own in a directory that exists and writes every block of it, so that what is measured is
// never the first write of anything; the destructor removes it. One thread at a time. Errors name the directory and the
// cause. A measurement keeps a fixed number of blocks in flight, in a random order over the whole file, and ends when
// the last of them has.
#pragma once

#include <tiercel/config.h>
#include <tiercel/export.h>
#include <tiercel/result.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

namespace tiercel {

enum class DiskDirection : std::uint8_t { kRead = 0, kWrite = 1 };

/// Blocks moved in a time. Reads are verified against their checksum, writes are given theirs and acknowledged.
struct DiskSpeed {
  std::uint64_t blocks = 0;
  std::uint64_t bytes = 0;
  double seconds = 0;
  double cpu_seconds = 0;  ///< of the whole process, checksums included
  [[nodiscard]] double bytes_per_second() const noexcept { return seconds > 0 ? double(bytes) / seconds : 0; }
  [[nodiscard]] double cpu_seconds_per_gigabyte() const noexcept {
    return bytes > 0 ? cpu_seconds / double(bytes) * 1e9 : 0;
  }
};

/// How long loads of one block took, from the request until the block was verified.
struct LoadLatency {
  DiskSpeed loads;
  std::uint64_t p50_ns = 0;
  std::uint64_t p99_ns = 0;
  DiskSpeed writes;  ///< what went on beside them; zeros without a write load
};

/// What a directory lies on; empty what cannot be found out.
struct DiskPlace {
  std::string filesystem;  ///< "ext4"
  std::string device;      ///< "nvme0n1"
  std::string bus;         ///< "nvme", "virtio", "scsi"
  bool direct = false;     ///< O_DIRECT works
};

class TIERCEL_API DiskBench {
 public:
  struct Options {
    std::string directory;              ///< must exist
    std::uint64_t file_bytes = 4_GiB;   ///< of blocks; at least two extents of 64 MiB
    std::uint64_t block_bytes = 1_MiB;  ///< a multiple of 4 KiB from 4 KiB to 16 MiB
    std::uint32_t depth = 32;           ///< operations in flight at the device
    DiskIo io = DiskIo::kAuto;
    bool direct = true;
    HugePages huge_pages = HugePages::kAuto;     ///< of the blocks' memory, as in an arena
    bool register_memory = true;                 ///< with io_uring, as an arena's is
    std::chrono::milliseconds deadline{30'000};  ///< of one block; then the measurement fails
    const std::atomic<bool>* cancel = nullptr;   ///< set to true: what runs ends soon, with kClosed
  };

  /// kInvalidArgument: a size that is none; kLimit: the directory has no room for the file.
  [[nodiscard]] static Result<DiskBench> create(const Options& options);
  DiskBench(DiskBench&&) noexcept;
  DiskBench& operator=(DiskBench&&) noexcept;
  ~DiskBench();

  /// Keeps `depth` operations in flight at the device for `duration`, and as many blocks again before and behind them.
  [[nodiscard]] Result<DiskSpeed> measure(DiskDirection direction, std::chrono::milliseconds duration);
  /// Keeps `in_flight` loads in flight for `duration`; with `writes`, `depth` writes beside them, which begin a quarter
  /// of a second sooner.
  [[nodiscard]] Result<LoadLatency> load_latency(std::uint32_t in_flight, bool writes,
                                                 std::chrono::milliseconds duration);

  /// "io_uring" or "threads".
  [[nodiscard]] std::string io_engine() const;
  [[nodiscard]] DiskPlace place() const;
  /// Is the blocks' memory on huge pages? A device with a bounded number of segments then needs fewer requests.
  [[nodiscard]] bool on_huge_pages() const;
  /// Bytes of all blocks: file_bytes in whole blocks and extents.
  [[nodiscard]] std::uint64_t block_bytes_total() const;
  /// The directory that create() made; whoever measures something beside may put files there.
  [[nodiscard]] std::string directory() const;
  /// How long the first write of all blocks took.
  [[nodiscard]] DiskSpeed fill() const;

 private:
  class State;
  explicit DiskBench(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace tiercel
