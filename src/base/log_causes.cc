#include "base/log_causes.h"

#include <algorithm>
#include <utility>

namespace tiercel {

std::optional<std::uint64_t> LogCauses::write(std::string_view cause, std::uint64_t now_ns) {
  const auto found = causes_.find(cause);
  if (found != causes_.end()) {
    Cause& known = found->second;
    if (now_ns - known.written_ns < kQuietNs) {
      ++known.left_out;
      return std::nullopt;
    }
    known.written_ns = now_ns;
    return std::exchange(known.left_out, 0);
  }
  if (causes_.size() >= kMost) {
    causes_.erase(std::ranges::min_element(causes_, {}, [](const auto& entry) { return entry.second.written_ns; }));
  }
  causes_.emplace(cause, Cause{.written_ns = now_ns});
  return 0;
}

}  // namespace tiercel
