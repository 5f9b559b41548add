#include "recording/request_ring.h"

#include "base/check.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace tiercel {
namespace {

constexpr unsigned kKindBits = 8;
constexpr unsigned kCountShift = 32;

std::size_t words_of_text(std::size_t bytes) { return (bytes + sizeof(std::uint64_t) - 1) / sizeof(std::uint64_t); }

bool is_text(RequestRing::Kind kind) { return kind >= RequestRing::Kind::kSession; }

}  // namespace

RequestRing::RequestRing(std::size_t words) : mask_(words - 1), words_(words) {
  TIERCEL_CHECK(std::has_single_bit(words) && words < (std::size_t{1} << kCountShift), "a ring of 2^n words");
}

template <class Fill>
RequestRing::Pushed RequestRing::push_words(const Entry& entry, std::size_t count, std::size_t payload,
                                            const Fill& fill) noexcept {
  const MutexLock lock(mutex_);
  const std::size_t used = tail_ - head_;
  const std::size_t more = kHeaderWords + payload;
  if (more > words_.size() - used) return Pushed::kRefused;
  words_[tail_ & mask_] = std::uint64_t{count} << kCountShift | static_cast<std::uint64_t>(entry.kind);
  words_[(tail_ + 1) & mask_] = std::uint64_t{entry.block_tokens} << kCountShift | entry.session;
  words_[(tail_ + 2) & mask_] = entry.now_ns;
  words_[(tail_ + 3) & mask_] = entry.space;
  fill(tail_ + kHeaderWords);
  tail_ += more;
  if (!heeded_) {
    heeded_ = true;
    return Pushed::kUnheeded;
  }
  const std::size_t half = words_.size() / 2;
  return used < half && used + more >= half ? Pushed::kHalfFull : Pushed::kTaken;
}

RequestRing::Pushed RequestRing::push(const Entry& entry, std::span<const BlockHash> chain) noexcept {
  return push_words(entry, chain.size(), chain.size(), [&](std::size_t at) {
    for (const BlockHash& hash : chain) words_[at++ & mask_] = recorded_block(hash);
  });
}

RequestRing::Pushed RequestRing::push(const Entry& entry, std::string_view text) noexcept {
  return push_words(entry, text.size(), words_of_text(text.size()), [&](std::size_t at) {
    for (; !text.empty(); ++at) {
      const std::string_view part = text.substr(0, sizeof(std::uint64_t));
      std::memcpy(&words_[at & mask_], part.data(), part.size());
      text.remove_prefix(part.size());
    }
  });
}

bool RequestRing::pop(Taken& taken) {
  std::size_t at = 0;
  {
    const MutexLock lock(mutex_);
    if (head_ == tail_) return false;
    at = head_;
  }
  const std::uint64_t first = words_[at & mask_];
  const std::uint64_t second = words_[(at + 1) & mask_];
  taken.entry = {.kind = static_cast<Kind>(first & ((1U << kKindBits) - 1)),
                 .session = static_cast<std::uint32_t>(second),
                 .now_ns = words_[(at + 2) & mask_],
                 .space = words_[(at + 3) & mask_],
                 .block_tokens = static_cast<std::uint32_t>(second >> kCountShift)};
  const auto count = static_cast<std::size_t>(first >> kCountShift);
  const std::size_t payload = is_text(taken.entry.kind) ? words_of_text(count) : count;
  taken.chain.resize(payload);
  for (std::size_t i = 0; i < payload; ++i) taken.chain[i] = words_[(at + kHeaderWords + i) & mask_];
  taken.text.clear();
  if (is_text(taken.entry.kind)) {
    taken.text.resize(count);
    if (count > 0) std::memcpy(taken.text.data(), taken.chain.data(), count);
    taken.chain.clear();
  }
  const MutexLock lock(mutex_);
  head_ += kHeaderWords + payload;
  return true;
}

bool RequestRing::half_full() const noexcept {
  const MutexLock lock(mutex_);
  return tail_ - head_ >= words_.size() / 2;
}

bool RequestRing::leave() noexcept {
  const MutexLock lock(mutex_);
  if (head_ != tail_) return false;
  heeded_ = false;
  return true;
}

void RequestRing::unheeded() noexcept {
  const MutexLock lock(mutex_);
  heeded_ = false;
}

bool RequestRing::heeded() const noexcept {
  const MutexLock lock(mutex_);
  return heeded_;
}

}  // namespace tiercel
