// examine: can this machine run a cache with this configuration, and what should be changed first?
//
// Looks at what the system says about memory, huge pages, limits, io_uring and the directories of the disk tier, and
// measures these for a few seconds. Writes only files that it removes again. Blocks; any thread.
#pragma once

#include <tiercel/config.h>
#include <tiercel/export.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel {

enum class Severity : std::uint8_t {
  kOk = 0,
  kWarn = 1,  ///< a cache works here, worse than it could
  kFail = 2,  ///< a cache, or a tier of it, does not start, or will end in an error
};

/// "ok", "warn", "fail".
[[nodiscard]] TIERCEL_API std::string_view severity_name(Severity severity) noexcept;

struct Finding {
  Severity severity = Severity::kOk;
  std::string subject;  ///< a short constant: "io_uring", "direct_io", "space", ...
  std::string text;     ///< what was found, with numbers
  std::string advice;   ///< what to do; empty if there is nothing to
};

struct ExamineOptions {
  bool measure = true;                            ///< write and read a file in each directory
  std::uint64_t measured_bytes = 512_MiB;         ///< its size
  std::chrono::milliseconds measured_time{1000};  ///< each way
  const std::atomic<bool>* cancel = nullptr;
};

/// The findings in the order in which a person reads them: machine, memory, then each directory.
[[nodiscard]] TIERCEL_API std::vector<Finding> examine(const Config& config, const ExamineOptions& options);

}  // namespace tiercel
