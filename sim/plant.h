// Planted errors: a session that answers wrongly in one chosen way, or a machine of several disks that does what none
// does, so that a run shows that the history checker can fail. Wraps the backend of a real session; one thread.
#pragma once

#include "base/clock.h"
#include "cache/session_backend.h"

#include <cstdint>
#include <memory>
#include <string_view>

namespace tiercel::sim {

enum class Plant : std::uint8_t {
  kNone = 0,
  kWrongBytes,   ///< one bit of a loaded block is another
  kMixedBlock,   ///< the second half of a loaded block is of another one
  kResurrected,  ///< a load gives what was deleted
  kLate,         ///< a load answers after its deadline
  kOrphan,       ///< a block whose parent is missing is said to exist
  kOlderDisk,    ///< at a boot one of several disks is as it was a boot ago
  kEmptyDisk,    ///< a disk that comes late has lost its files
};

/// Done by the simulation, below the cache.
[[nodiscard]] constexpr bool is_of_disks(Plant plant) noexcept { return plant >= Plant::kOlderDisk; }
[[nodiscard]] std::string_view plant_name(Plant plant) noexcept;
/// kInvalidArgument: no such plant; the sentence names all.
[[nodiscard]] Result<Plant> parse_plant(std::string_view text);

/// `inner` itself for Plant::kNone and for those of disks.
[[nodiscard]] std::shared_ptr<detail::SessionBackend> planted(std::shared_ptr<detail::SessionBackend> inner,
                                                              Plant plant, ManualClock& clock);

}  // namespace tiercel::sim
