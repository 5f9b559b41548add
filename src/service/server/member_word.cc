// What a member says of what it holds, after a connection was taken up: part of Member.
#include "service/server/member.h"

#include <fmt/format.h>

#include <utility>

namespace tiercel::service {

Status Member::hold(const wire::Hold& message) {
  for (const wire::Grants* grant : *message.grants()) {
    if (grant->slot() >= core_->slot_ids())
      return fail(ErrorCode::kInvalidArgument, "hold: a slot that the arena does not have");
    claimed_[grant->slot()] += grant->count();
  }
  if (!message.last()) return {};
  if (word_.claims) return claim(message.slot_bytes());
  std::vector<std::pair<SlotId, std::uint32_t>> keep;
  grants_.visit([&](SlotId slot, std::uint32_t) {
    const auto claim = claimed_.find(slot);
    keep.emplace_back(slot, claim == claimed_.end() ? 0 : claim->second);
  });
  for (const auto& [slot, count] : keep) grants_.shrink_to(slot, count);
  claimed_.clear();
  return {};
}

/// Of a member of an earlier run: all that it holds, or nothing. Until it has said so, nobody is given a slot.
Status Member::claim(std::uint64_t slot_bytes) {
  for (const auto& [slot, count] : claimed_) {
    const detail::CacheCore::SlotClaim claim{.slot = slot, .slot_bytes = slot_bytes, .pins = count};
    if (count == 0 || count > GrantTable::kMostOfOne || !core_->claim(claim)) {
      grants_.clear();
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("hold: there can be no slot {} of {} bytes", slot, slot_bytes));
    }
    grants_.adopt(slot, count);
  }
  claimed_.clear();
  word_.claims = false;
  if (word_.said) word_.said();
  return {};
}

}  // namespace tiercel::service
