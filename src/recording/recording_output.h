// RecordingOutput: where whole frames of a recording go, one after the other. One thread. RecordingFile is the real
// one.
#pragma once

#include <tiercel/result.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace tiercel {

class RecordingOutput {
 public:
  virtual ~RecordingOutput() = default;
  /// All of it or, with an error, nothing.
  [[nodiscard]] virtual Status append(std::span<const std::byte> frame) = 0;
  [[nodiscard]] virtual std::uint64_t size() const = 0;
};

}  // namespace tiercel
