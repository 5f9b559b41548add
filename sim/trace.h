// Trace: what happened in a run, in order: a hash over all of it, the last events, and every event as it comes if
// asked.
//
// An event is a constant sentence with {} for its numbers. The hash is the proof that a seed repeats its run.
// Formatting is done only for what is shown. One thread at a time.
#pragma once

#include "base/clock.h"

#include <array>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::sim {

class Trace {
 public:
  static constexpr std::size_t kNumbers = 6;
  static constexpr std::size_t kKept = 60;

  /// `live`: where every event is written at once, or null.
  explicit Trace(const Clock& clock, std::FILE* live = nullptr) : clock_(clock), live_(live) {}

  /// `sentence` must be a literal: it is kept by reference.
  void event(std::string_view sentence, std::initializer_list<std::uint64_t> numbers = {});

  [[nodiscard]] std::uint64_t hash() const noexcept { return hash_; }
  [[nodiscard]] std::uint64_t events() const noexcept { return count_; }
  /// The last kKept events, oldest first, a line each.
  [[nodiscard]] std::string last() const;

 private:
  struct Event {
    std::uint64_t number = 0;
    std::uint64_t now_ns = 0;
    std::string_view sentence;
    std::array<std::uint64_t, kNumbers> numbers{};
  };
  [[nodiscard]] static std::string line(const Event& event);
  void mix(std::uint64_t word) noexcept;

  const Clock& clock_;
  std::FILE* live_;
  std::array<Event, kKept> kept_{};
  std::uint64_t count_ = 0;
  std::uint64_t hash_ = 0xCBF2'9CE4'8422'2325U;
};

}  // namespace tiercel::sim
