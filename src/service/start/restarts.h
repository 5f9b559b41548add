// When a service that was lost may be started again. Pure.
//
// The first time within an hour at once; then after 1 s, 4 s, 16 s, ... since the last time, at most ten minutes; and
// at most `most` times an hour. Times in milliseconds of one clock; those of the future are of an earlier boot.
#pragma once

#include <cstdint>
#include <vector>

namespace tiercel::service::start {

inline constexpr std::uint64_t kHourMs = 3'600'000;

/// Of `times`, those within the hour before `now_ms`.
[[nodiscard]] std::vector<std::uint64_t> within_the_hour(std::vector<std::uint64_t> times, std::uint64_t now_ms);

/// The first moment at which it may be started again; `now_ms` where that is now. `times` are within_the_hour().
[[nodiscard]] std::uint64_t next_restart_ms(const std::vector<std::uint64_t>& times, std::uint64_t now_ms,
                                            std::uint32_t most);

}  // namespace tiercel::service::start
