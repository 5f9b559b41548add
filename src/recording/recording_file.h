// RecordingFile: a recording on a filesystem. A file that is a recording goes on behind its last whole frame; any other
// is refused, never overwritten. The file is locked as long as this lives, readable by its owner alone, and not synced:
// what was appended outlives the process, not the machine. One thread.
#pragma once

#include "recording/recording_output.h"

#include <tiercel/result.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace tiercel {

class RecordingFile final : public RecordingOutput {
 public:
  /// Errors name the path. kInvalidArgument: something else than a recording is there, or one of a later version.
  [[nodiscard]] static Result<std::unique_ptr<RecordingFile>> open(const std::string& path);
  ~RecordingFile() override;
  RecordingFile(const RecordingFile&) = delete;
  RecordingFile& operator=(const RecordingFile&) = delete;

  [[nodiscard]] Status append(std::span<const std::byte> frame) override;
  [[nodiscard]] std::uint64_t size() const override { return size_; }
  /// Bytes behind the last whole frame that open() cut off: a process had ended while it wrote them.
  [[nodiscard]] std::uint64_t cut_bytes() const noexcept { return cut_bytes_; }

 private:
  RecordingFile(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  [[nodiscard]] Status go_on();

  const std::string path_;
  const int descriptor_;
  std::uint64_t size_ = 0;
  std::uint64_t cut_bytes_ = 0;
};

}  // namespace tiercel
