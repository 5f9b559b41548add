// FileWatch: looks at intervals whether the file is still the one that was opened, and runs the breaker's probes.
//
// A look compares the file's size and reads the superblocks; a probe of writes rewrites the page that is kept for it.
// A file of which many probes in a row cannot be read counts as lost: the disk may have been unplugged and mounted
// again, and then only its path leads to what is there now. One operation at a time: one that hangs is waited for,
// however long, because its end is what is wanted to be known. The driver's thread only.
#pragma once

#include "tier/disk/device.h"
#include "tier/disk/metadata.h"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace tiercel::disk {

class FileWatch {
 public:
  FileWatch(const DiskOptions& options, const Clock& clock, Device& device, Breaker& breaker, DiskCounters& counters)
      : options_(options), clock_(clock), device_(device), breaker_(breaker), counters_(counters) {}

  /// Another file, or none: nothing of the last one counts.
  void reset() noexcept;
  /// Sends what is due. `now_please`: a look before its time (a read came back short).
  void step(const Metadata& metadata, bool now_please);
  struct Lost {
    std::string cause;
    bool empty = false;  ///< it was cut off before its superblocks: whatever it has now came after that
  };
  /// Why the file is not what it was, once.
  [[nodiscard]] std::optional<Lost> take_lost() { return std::exchange(lost_, std::nullopt); }
  [[nodiscard]] std::uint64_t next_event() const noexcept;

 private:
  void look(const Metadata& metadata, bool probe);
  [[nodiscard]] Status looked(const Metadata& metadata, const std::byte* pages, const std::string& cut_off,
                              const Status& status);
  void probed(const Status& outcome, std::uint64_t now_ns);
  void probe_writes();

  const DiskOptions& options_;
  const Clock& clock_;
  Device& device_;
  Breaker& breaker_;
  DiskCounters& counters_;
  bool running_ = false;
  std::uint64_t next_look_ns_ = 0;
  std::uint32_t mismatches_ = 0;     // looks in a row that found another superblock
  std::uint32_t failed_probes_ = 0;  // of reads, in a row
  std::optional<Lost> lost_;
};

}  // namespace tiercel::disk
