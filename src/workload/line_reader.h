// LineReader: the lines of a file, plain or compressed with zstd (told by its first bytes), one after the other.
//
// Memory: one line (at most kMaxLineBytes), 256 KiB of buffers and the window of the compression (at most 128 MiB, that
// of `zstd --long=27`). One thread. Errors name the file and, where there is one, the line.
#pragma once

#include <tiercel/result.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace tiercel {

class LineReader {
 public:
  static constexpr std::uint64_t kMaxLineBytes = 64U << 20U;

  [[nodiscard]] static Result<LineReader> open(const std::string& path);
  LineReader(LineReader&&) noexcept;
  LineReader& operator=(LineReader&&) noexcept;
  ~LineReader();

  /// The next line without its end ("\n" or "\r\n"), valid until the next call; none at the end of the file.
  [[nodiscard]] Result<std::optional<std::string_view>> next();
  /// After an error of next(): the compressed file ends in the middle of a frame, and all whole lines were given.
  [[nodiscard]] bool is_cut_off() const noexcept;
  /// Of the line that next() gave last, from 1.
  [[nodiscard]] std::uint64_t line_number() const noexcept;
  /// An error at that line: "FILE:LINE: what".
  [[nodiscard]] tl::unexpected<Error> wrong(std::string_view what) const;

 private:
  class State;
  explicit LineReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace tiercel
