#include "connectors/llamacpp/text_stream.h"

#include <algorithm>
#include <cstdint>
#include <utility>

namespace tiercel::llamacpp {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

/// Length of the character that `lead` begins, 0 if no character begins so (RFC 3629).
std::size_t character_length(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return 2;
  if (lead >= 0xE0 && lead <= 0xEF) return 3;
  if (lead >= 0xF0 && lead <= 0xF4) return 4;
  return 0;
}

/// May `byte` be the second of a character that begins with `lead`? Excludes overlong forms, surrogates, > U+10FFFF.
bool second_fits(unsigned char lead, unsigned char byte) {
  switch (lead) {
    case 0xE0:
      return byte >= 0xA0 && byte <= 0xBF;
    case 0xED:
      return byte >= 0x80 && byte <= 0x9F;
    case 0xF0:
      return byte >= 0x90 && byte <= 0xBF;
    case 0xF4:
      return byte >= 0x80 && byte <= 0x8F;
    default:
      return byte >= 0x80 && byte <= 0xBF;
  }
}

/// How many bytes at `at` belong to one well-formed beginning of a character.
std::size_t fitting_bytes(std::string_view bytes, std::size_t at, std::size_t length) {
  std::size_t fit = 1;
  while (fit < length && at + fit < bytes.size()) {
    const auto byte = static_cast<unsigned char>(bytes[at + fit]);
    const auto lead = static_cast<unsigned char>(bytes[at]);
    if (fit == 1 ? !second_fits(lead, byte) : (byte & 0xC0U) != 0x80U) break;
    ++fit;
  }
  return fit;
}

}  // namespace

void move_whole_characters(std::string& bytes, std::string& text) {
  std::size_t at = 0;
  while (at < bytes.size()) {
    const std::size_t length = character_length(static_cast<unsigned char>(bytes[at]));
    const std::size_t fit = length == 0 ? 1 : fitting_bytes(bytes, at, length);
    if (length != 0 && fit < length && at + fit == bytes.size()) break;  // unfinished
    if (fit == length) {
      text.append(bytes, at, length);
    } else {
      text.append(kReplacement);
    }
    at += fit;
  }
  bytes.erase(0, at);
}

TextStream::TextStream(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase_if(stops_, [](const std::string& stop) { return stop.empty(); });
}

std::string TextStream::take(std::size_t bytes) {
  std::string text = held_.substr(0, bytes);
  held_.erase(0, bytes);
  whole_ -= bytes;
  return text;
}

std::string TextStream::push(std::string_view piece) {
  if (stopped_) return {};
  std::string tail = held_.substr(whole_).append(piece);
  held_.resize(whole_);
  move_whole_characters(tail, held_);
  whole_ = held_.size();

  // The stop that ends the text is the one that begins first.
  std::size_t stop_at = std::string::npos;
  for (const std::string& stop : stops_) stop_at = std::min(stop_at, held_.find(stop));
  if (stop_at != std::string::npos) {
    stopped_ = true;
    std::string text = held_.substr(0, stop_at);
    held_.clear();
    whole_ = 0;
    return text;
  }
  std::size_t hold = 0;  // the longest end of the text that begins a stop
  for (const std::string& stop : stops_) {
    for (std::size_t n = std::min(stop.size() - 1, whole_); n > hold; --n) {
      if (held_.compare(whole_ - n, n, stop, 0, n) == 0) {
        hold = n;
        break;
      }
    }
  }
  // A stop given in other bytes than whole characters must not make us cut one in two.
  std::size_t cut = whole_ - hold;
  while (cut > 0 && cut < whole_ && (static_cast<unsigned char>(held_[cut]) & 0xC0U) == 0x80U) --cut;
  std::string text = take(cut);
  held_ += tail;
  return text;
}

std::string TextStream::finish() {
  if (stopped_) return {};
  std::string text = held_.substr(0, whole_);
  if (held_.size() > whole_) text.append(kReplacement);
  held_.clear();
  whole_ = 0;
  return text;
}

}  // namespace tiercel::llamacpp
