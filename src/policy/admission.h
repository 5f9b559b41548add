// AdmissionPolicy: which block is worth writing to a slower tier. Deterministic: state inside; no IO, no locks, no
// clock. Its owner calls it under its own lock, when a block is stored and each time it is used in the tier above.
#pragma once

#include <tiercel/block.h>

#include <cstdint>
#include <vector>

namespace tiercel {

class AdmissionPolicy {
 public:
  virtual ~AdmissionPolicy() = default;
  /// The block was stored or used: is it worth writing now? (Whether it is there already is not asked here.)
  [[nodiscard]] virtual bool admit(const BlockHash& hash) = 0;
};

/// Every block.
class AdmitAll final : public AdmissionPolicy {
 public:
  [[nodiscard]] bool admit(const BlockHash& /*hash*/) override { return true; }
};

/// A block that was seen before: the first sight is remembered as 4 bytes of its hash in a table of 4-way sets, whose
/// oldest entry goes. Two blocks with the same 4 bytes in one set are taken for one: that admits too early, never
/// refuses. Nothing is refused for good: a block that is used again is asked about again.
class SecondSight final : public AdmissionPolicy {
 public:
  /// `remembered`: how many first sights, rounded up to a power of two (at least 1,024). 4 bytes each.
  explicit SecondSight(std::uint64_t remembered);
  [[nodiscard]] bool admit(const BlockHash& hash) override;

 private:
  static constexpr std::size_t kWays = 4;
  std::vector<std::uint32_t> tags_;  // sets of kWays, newest first; 0: empty
  std::uint64_t set_mask_;
};

}  // namespace tiercel
