#include "transfer/copy_plan.h"

#include <fmt/format.h>

#include <algorithm>

namespace tiercel {

Result<CopyPlan> CopyPlan::make(std::shared_ptr<const CopyGeometry> geometry, std::vector<std::uint32_t> pages,
                                std::vector<std::byte*> slots) {
  if (geometry == nullptr) return fail(ErrorCode::kInvalidArgument, "copy plan: no geometry");
  const std::size_t wanted = slots.size() * geometry->pages_per_block();
  if (pages.size() != wanted) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("copy plan: {} pages for {} blocks; it must be {}, {} a block", pages.size(), slots.size(),
                            wanted, geometry->pages_per_block()));
  }
  for (std::size_t i = 0; i < pages.size(); ++i) {
    if (pages[i] >= geometry->page_count()) {
      return fail(ErrorCode::kInvalidArgument, fmt::format("copy plan: pages[{}] is {}; the tensors have pages 0 to {}",
                                                           i, pages[i], geometry->page_count() - 1));
    }
  }
  if (const auto it = std::ranges::find(slots, nullptr); it != slots.end()) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("copy plan: slots[{}] is null", it - slots.begin()));
  }
  CopyPlan plan;
  plan.geometry_ = std::move(geometry);
  plan.pages_ = std::move(pages);
  plan.slots_ = std::move(slots);
  return plan;
}

std::uint64_t CopyJob::bytes() const noexcept {
  if (const auto* copy = std::get_if<ByteCopy>(&work)) return copy->bytes;
  const auto* plan = std::get_if<CopyPlan>(&work);
  return plan != nullptr ? plan->bytes() : 0;
}

}  // namespace tiercel
