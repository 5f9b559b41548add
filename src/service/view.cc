#include "service/view.h"

#include <array>

namespace tiercel::service {

std::string_view arena_stage_name(ArenaStage stage) noexcept {
  static constexpr std::array<std::string_view, kArenaStages> kNames = {"serving", "withheld", "awaited", "refused"};
  const auto index = static_cast<std::size_t>(stage);
  return index < kNames.size() ? kNames[index] : "unknown";
}

}  // namespace tiercel::service
