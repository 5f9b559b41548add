// Device: the open file as the lanes of the engine use it: operations with the IO deadline, their results told to
// the breaker, places kept for what must go on when the device is slow, and files that were given up kept until their
// last operation has ended.
//
// `done` of an operation runs once: it has ended, or its IO deadline has passed. `ended` runs once, after `done`, when
// it has really ended: its bytes in the file and in memory may be used again; until then `keep` keeps the memory.
// Both run inside poll(). After give_up() neither runs any more. The driver's thread only.
#pragma once

#include "io/file.h"
#include "tier/disk/breaker.h"
#include "tier/disk/disk_tier.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

namespace tiercel::disk {

/// Who asks: data leaves places for pages of metadata, these for probes.
enum class IoClass : std::uint8_t { kData, kMetadata, kProbe };

struct DeviceIo {
  IoKind kind = IoKind::kRead;
  IoClass io_class = IoClass::kData;
  std::uint64_t offset = 0;
  std::array<IoSegment, IoJob::kMaxSegments> segments{};
  std::size_t segment_count = 0;
  std::shared_ptr<void> keep;
  std::function<void(const Status&)> done;
  std::function<void()> ended;  ///< may be empty
};

/// Whole pages of zeros, aligned to a page.
[[nodiscard]] std::shared_ptr<std::byte> allocate_pages(std::uint64_t bytes);

/// Keeps something for the rest of the process: the system may still write into its memory.
void abandon(std::shared_ptr<void> kept);

class Device {
 public:
  static constexpr std::uint32_t kMetadataPlaces = 6;
  static constexpr std::uint32_t kProbePlaces = 2;
  /// What a file must be opened with.
  [[nodiscard]] static std::uint32_t file_depth(std::uint32_t depth) noexcept {
    return depth + kMetadataPlaces + kProbePlaces;
  }

  Device(const DiskOptions& options, const Clock& clock, Breaker& breaker, DiskCounters& counters);
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  /// Operations that have not ended keep their file and their memory for the rest of the process.
  ~Device();

  void open(std::unique_ptr<File> file);
  /// Nothing of the file's is answered any more; it lives on until its last operation has ended. `empty_it`: then it is
  /// cut to nothing, because all that it has was written behind a cut.
  void give_up(bool empty_it = false);
  [[nodiscard]] File* file() noexcept { return file_.get(); }

  [[nodiscard]] bool room(IoClass io_class) const noexcept;
  /// There must be room.
  void submit(DeviceIo io);
  /// Waits at most `wait_ns` for something to end. Then runs `ended` of what has.
  void poll(std::uint64_t wait_ns);
  /// The driver did not poll for `ns`: see File::excuse.
  void excuse(std::uint64_t ns) noexcept {
    if (file_ != nullptr) file_->excuse(ns);
  }

  /// A read came back short since the last call: the file may have been cut off.
  [[nodiscard]] bool take_short_read() noexcept { return std::exchange(short_read_, false); }
  /// Operations, those of files given up included.
  [[nodiscard]] std::uint64_t in_flight() const noexcept;
  /// Of writes past the IO deadline that have not ended.
  [[nodiscard]] std::uint64_t late_write_bytes() const noexcept { return late_write_bytes_; }

 private:
  struct Token;
  struct GivenUp {
    std::unique_ptr<File> file;
    bool empty_it = false;
  };
  void let_go();
  void judge(IoKind kind, IoClass io_class, const Status& status);
  void run_ended();

  const DiskOptions& options_;
  const Clock& clock_;
  Breaker& breaker_;
  DiskCounters& counters_;
  std::unique_ptr<File> file_;
  std::vector<GivenUp> given_up_;
  std::uint64_t incarnation_ = 0;  // of file_
  // Filled by the tokens of operations as they end; shared with them, because they may outlive this.
  std::shared_ptr<std::vector<std::unique_ptr<Token>>> ended_;
  std::uint64_t late_write_bytes_ = 0;
  bool short_read_ = false;
};

}  // namespace tiercel::disk
