// FaultPlan: which faults a simulated device may show, how often and how many; FaultDice: asks the seed, an operation
// at a time.
//
// Honest faults are those that the device admits or that a reader can see at once; lying ones lose or damage what was
// reported as written. The budget ends the faults, so that a run also shows the way back. Values; one thread at a time.
#pragma once

#include "base/random.h"
#include "io/io_backend.h"

#include <tiercel/result.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tiercel::sim {

enum class Fault : std::uint8_t {
  kNone = 0,
  kError,        ///< EIO; of a write, any part of the pages may have been written
  kDelay,        ///< far slower than usual
  kStall,        ///< never ends
  kAgain,        ///< EINTR or EAGAIN: nothing was done, to be asked again
  kShort,        ///< a part only, whole sectors
  kTorn,         ///< a write that ends with EIO after some of its sectors
  kFlipRead,     ///< one bit of what was read is wrong, once
  kFull,         ///< for a while, every write and every growth: ENOSPC
  kReadOnly,     ///< for a while, every write: EROFS
  kDead,         ///< for a while, every operation: EIO
  kFrozen,       ///< for a while, nothing ends
  kLostWrite,    ///< lying: reported as written, nothing was
  kMisdirected,  ///< lying: written at another place
  kFlipRest,     ///< lying: a stored bit changes
};
inline constexpr std::size_t kFaults = 15;

[[nodiscard]] std::string_view fault_name(Fault fault) noexcept;

struct FaultSet {
  std::uint32_t bits = 0;
  [[nodiscard]] bool has(Fault fault) const noexcept { return ((bits >> static_cast<unsigned>(fault)) & 1U) != 0; }
  void add(Fault fault) noexcept { bits |= 1U << static_cast<unsigned>(fault); }
  [[nodiscard]] bool lies() const noexcept;
  [[nodiscard]] static FaultSet honest() noexcept;
  [[nodiscard]] static FaultSet all() noexcept;
};

/// "none", "honest", "lying", "all", or names of faults with commas between.
[[nodiscard]] Result<FaultSet> parse_faults(std::string_view text);

struct FaultPlan {
  FaultSet faults;
  std::uint32_t per_million = 0;  ///< chance of a fault for one operation
  std::uint32_t budget = 0;       ///< faults in all
};

class FaultDice {
 public:
  FaultDice() : FaultDice(FaultPlan{}) {}
  explicit FaultDice(const FaultPlan& plan) : plan_(plan), left_(plan.budget) {}

  /// What happens to an operation that starts at `now_ns`. kFull to kFrozen begin an outage of random length.
  [[nodiscard]] Fault of(IoKind kind, std::uint64_t now_ns, Random& random);
  /// The outage that holds now: kFull, kReadOnly, kDead, kFrozen or kNone.
  [[nodiscard]] Fault outage(std::uint64_t now_ns) const noexcept {
    return now_ns < until_ns_ ? outage_ : Fault::kNone;
  }
  [[nodiscard]] std::uint64_t outage_end_ns() const noexcept { return until_ns_; }
  /// From now on nothing fails.
  void heal() noexcept { left_ = 0, until_ns_ = 0; }

  [[nodiscard]] std::uint64_t given() const noexcept { return given_; }
  [[nodiscard]] bool has_lied() const noexcept { return has_lied_; }

 private:
  FaultPlan plan_;
  std::uint32_t left_;
  Fault outage_ = Fault::kNone;
  std::uint64_t until_ns_ = 0;
  std::uint64_t given_ = 0;
  bool has_lied_ = false;
};

}  // namespace tiercel::sim
