// Health: is the service well, and if not, why. Pure.
#pragma once

#include "service/view.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::service {

enum class HealthState : std::uint8_t {
  kOk = 0,
  kDegraded = 1,  ///< it serves, with hits missing: a tier is off
  kClosing = 2,   ///< it takes nothing new
};
inline constexpr std::size_t kHealthStates = 3;

struct Health {
  HealthState state = HealthState::kOk;
  std::vector<std::string> causes;  ///< sentences for a person
};

/// "ok", "degraded", "closing"
[[nodiscard]] std::string_view health_name(HealthState state) noexcept;

[[nodiscard]] Health health_of(bool closing, const std::vector<DiskReport>& disks, const ArenaReport& arena = {});

}  // namespace tiercel::service
