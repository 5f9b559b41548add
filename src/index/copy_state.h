// The life of one copy of a block, in one tier: its states and the table of transitions that are allowed.
//
//              reserve            commit                       hand-over
//   kAbsent ------------> kFilling ------------> kReady <--------------------> kMoving
//    ^ |                     |  \  paranoid        ^ |                            |
//    | |   abort, delete     |   `-> kVerifying ---' | evict, delete              | delete
//    |-+---------------------+-----------|---------|-+----------------------------'
//    | |  promotion from a slower tier             |
//    | '-----------------> kLoading ---------------'
//    '------------------------'  failed, delete
//
// On disk kFilling means: on its way down, until the header page that names it is written.
// Readers see kReady and kMoving. A copy whose bytes still move when it is given up leaves its entry at once
// (kAbsent); its slot waits in quarantine in the slot table, where copy pins are counted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace tiercel {

enum class CopyState : std::uint8_t {
  kAbsent = 0,     ///< no copy in this tier
  kFilling = 1,    ///< a writer has it
  kVerifying = 2,  ///< committed; its checksum is being taken before anyone may read it (paranoid mode)
  kReady = 3,
  kMoving = 4,   ///< ready, and being copied to another slot of the same tier
  kLoading = 5,  ///< being read from a slower tier
};
inline constexpr std::size_t kCopyStates = 6;

[[nodiscard]] constexpr bool is_present(CopyState state) noexcept { return state != CopyState::kAbsent; }
[[nodiscard]] constexpr bool is_readable(CopyState state) noexcept {
  return state == CopyState::kReady || state == CopyState::kMoving;
}

/// kCopyTransitions[from] has bit `to` set where the step is allowed.
inline constexpr std::array<std::uint8_t, kCopyStates> kCopyTransitions = [] {
  std::array<std::uint8_t, kCopyStates> table{};
  const auto allow = [&table](CopyState from, CopyState to) {
    auto& row = table[static_cast<std::size_t>(from)];
    row = static_cast<std::uint8_t>(row | (1U << static_cast<unsigned>(to)));
  };
  using enum CopyState;
  allow(kAbsent, kFilling);
  allow(kFilling, kReady);
  allow(kFilling, kVerifying);
  allow(kFilling, kAbsent);
  allow(kVerifying, kReady);
  allow(kVerifying, kAbsent);
  allow(kReady, kMoving);
  allow(kReady, kAbsent);
  allow(kMoving, kReady);
  allow(kMoving, kAbsent);
  allow(kAbsent, kLoading);
  allow(kLoading, kReady);
  allow(kLoading, kAbsent);
  return table;
}();

[[nodiscard]] constexpr bool is_allowed(CopyState from, CopyState to) noexcept {
  return ((kCopyTransitions[static_cast<std::size_t>(from)] >> static_cast<unsigned>(to)) & 1U) != 0;
}

}  // namespace tiercel
