#include "tier/disk/metadata_pages.h"

#include "base/check.h"

#include <utility>

namespace tiercel::disk {

void MetadataPages::want(std::uint32_t page, Waiter waiter) {
  Page& state = pages_[page];
  state.stale = true;
  if (state.waiting.empty()) {
    order_.push_back(page);
    if (!state.in_flight) ++wanted_;
  }
  state.waiting.push_back(waiter);
}

std::uint64_t MetadataPages::want_all(Waiter waiter) {
  std::uint64_t times = 0;
  for (auto& [page, state] : pages_) {
    if (state.in_flight) {
      state.riding.push_back(waiter);
      ++times;
    }
    if (!state.stale) continue;
    want(page, waiter);
    ++times;
  }
  return times;
}

void MetadataPages::forget(std::uint32_t page) {
  const auto found = pages_.find(page);
  if (found == pages_.end()) return;
  found->second.stale = !found->second.waiting.empty();
  if (!found->second.stale && !found->second.in_flight) pages_.erase(found);
}

void MetadataPages::start(Page& page) noexcept {
  page.in_flight = true;
  page.stale = false;
  page.riding.swap(page.waiting);
  --wanted_;
}

std::optional<MetadataPages::Run> MetadataPages::take(std::uint32_t most) {
  // Each entry is looked at once: what is in flight comes back into the order when its write has ended.
  while (!order_.empty()) {
    const std::uint32_t page = order_.front();
    order_.pop_front();
    const auto found = pages_.find(page);
    if (found == pages_.end() || !ready(found->second)) continue;
    Run run{.page = page, .count = 1};
    start(found->second);
    for (auto next = std::next(found); run.count < most && next != pages_.end(); ++next) {
      if (next->first != run.page + run.count || !ready(next->second)) break;
      start(next->second);
      ++run.count;
    }
    for (auto before = found; run.count < most && before != pages_.begin();) {
      --before;
      if (before->first + 1 != run.page || !ready(before->second)) break;
      start(before->second);
      --run.page;
      ++run.count;
    }
    return run;
  }
  return std::nullopt;
}

std::vector<MetadataPages::Waiter> MetadataPages::take_riders(const Run& run) {
  std::vector<Waiter> waiters;
  for (std::uint32_t page = run.page; page < run.page + run.count; ++page) {
    Page& state = pages_.at(page);
    waiters.insert(waiters.end(), state.riding.begin(), state.riding.end());
    state.riding.clear();
  }
  return waiters;
}

std::vector<MetadataPages::Waiter> MetadataPages::finish(const Run& run, bool ok) {
  std::vector<Waiter> waiters = take_riders(run);
  for (std::uint32_t page = run.page; page < run.page + run.count; ++page) {
    const auto found = pages_.find(page);
    TIERCEL_CHECK(found != pages_.end() && found->second.in_flight, "a page ended that was not in flight");
    Page& state = found->second;
    state.in_flight = false;
    state.stale = state.stale || !ok;
    if (!state.waiting.empty()) {
      order_.push_back(page);
      ++wanted_;
    } else if (!state.stale) {
      pages_.erase(found);
    }
  }
  return waiters;
}

std::vector<MetadataPages::Waiter> MetadataPages::give_up_wanted() {
  std::vector<Waiter> waiters;
  for (auto& [page, state] : pages_) {
    waiters.insert(waiters.end(), state.waiting.begin(), state.waiting.end());
    state.waiting.clear();
  }
  order_.clear();
  wanted_ = 0;
  return waiters;
}

bool MetadataPages::in_flight(std::uint32_t page) const {
  const auto found = pages_.find(page);
  return found != pages_.end() && found->second.in_flight;
}

}  // namespace tiercel::disk
