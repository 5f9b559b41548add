// The nearest name to a mistyped one, for "did you mean". Pure.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace tiercel::config {

/// The candidate with the smallest edit distance (insert, delete, replace, swap of neighbours) to `name`, if it is
/// near enough to be a likely slip: at most a third of the letters, and at least one letter in common.
[[nodiscard]] std::optional<std::string> nearest(std::string_view name, std::span<const std::string> candidates);

/// "; did you mean X?" or "".
[[nodiscard]] std::string did_you_mean(std::string_view name, std::span<const std::string> candidates);

}  // namespace tiercel::config
