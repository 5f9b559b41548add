// TextStream: turns token pieces into text that may be sent: whole UTF-8 characters, nothing of a stop string.
//
// Pieces of a byte-level tokenizer can end inside a character, and a stop string can span pieces. What could still
// become either is held back; the rest is given out at once. Invalid bytes come out as U+FFFD, so every answer is valid
// UTF-8. One thread at a time.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::llamacpp {

class TextStream {
 public:
  explicit TextStream(std::vector<std::string> stops = {});

  /// Adds a piece; returns what may be sent now. After a stop string everything is ignored.
  [[nodiscard]] std::string push(std::string_view piece);
  /// No piece follows: what was held back.
  [[nodiscard]] std::string finish();
  [[nodiscard]] bool stopped() const noexcept { return stopped_; }

 private:
  std::string take(std::size_t bytes);

  std::vector<std::string> stops_;
  std::string held_;       // valid UTF-8 that may begin a stop string, then the bytes of an unfinished character
  std::size_t whole_ = 0;  // bytes of held_ that are whole characters
  bool stopped_ = false;
};

/// Moves the complete characters of `bytes` into `text`, each invalid byte as U+FFFD, and leaves an unfinished
/// character (at most 3 bytes) in `bytes`.
void move_whole_characters(std::string& bytes, std::string& text);

}  // namespace tiercel::llamacpp
