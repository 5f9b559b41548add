// Of a Member: the answers to loads that are not final at once, and, before those, to who asks what is ready so far.
//
// Bytes: none; places in the arena. A part is answered when it is worth a copy, so a client that asks again and again
// is told no more often than that, and a load that nobody asks about costs one answer. What a part grants stays granted
// however the load ends: it was verified.
#include "service/server/member.h"

#include <utility>
#include <vector>

namespace tiercel::service {
namespace {

constexpr std::size_t kMostUnsent = std::size_t{8} << 20U;  // more answers wait until the client has read some
constexpr std::uint64_t kPartBytes = 4U << 20U;

}  // namespace

/// Answered here if it is not open any more, else by finish_loads().
Status Member::so_far(std::uint64_t id, std::uint64_t load, wire::OutBuffer& out) {
  const auto found = loads_.find(load);
  if (found == loads_.end()) {
    reply_loaded(id, LoadOutcome::kComplete, {}, out);
    return {};
  }
  if (found->second.asked != 0) return fail(ErrorCode::kInvalidArgument, "two questions at a time about one load");
  found->second.asked = id;
  return {};
}

void Member::finish_loads(wire::OutBuffer& out) {
  for (auto at = loads_.begin(); at != loads_.end() && out.pending().size() <= kMostUnsent;) {
    OpenLoad& open = at->second;
    const bool final = open.load->done();
    if (open.asked != 0) answer_so_far(open, final, out);
    if (!final) {
      ++at;
      continue;
    }
    answer_load(at->first, open, out);
    at = loads_.erase(at);
  }
}

std::uint64_t Member::next_deadline_ns() const noexcept {
  std::uint64_t next = UINT64_MAX;
  for (const auto& [_, load] : loads_) next = std::min({next, load.deadline_ns, load.load->next_look_ns()});
  return next;
}

void Member::answer_so_far(OpenLoad& open, bool final, wire::OutBuffer& out) {
  std::vector<wire::Place> places;
  if (!final) {  // else its own answer, which follows, has them
    const auto fresh = open.load->held_so_far().subspan(open.given);
    std::uint64_t bytes = 0;
    for (const HeldBlock& block : fresh) bytes += block.length;
    if (bytes < kPartBytes) return;
    places = granted(fresh);
    open.given += places.size();
  }
  reply_loaded(std::exchange(open.asked, 0), LoadOutcome::kComplete, places, out);
}

void Member::answer_load(std::uint64_t id, OpenLoad& open, wire::OutBuffer& out) {
  const auto rest = open.load->held().subspan(open.given);
  const std::vector<wire::Place> places = granted(rest);
  figures_->load_ns.fetch_add(core_->clock().now_ns() - open.started_ns, std::memory_order_relaxed);
  reply_loaded(id, places.size() == rest.size() ? open.load->outcome() : LoadOutcome::kBusy, places, out);
}

std::vector<wire::Place> Member::granted(std::span<const HeldBlock> blocks) {
  std::vector<wire::Place> places;
  places.reserve(blocks.size());
  for (const HeldBlock& block : blocks) {
    if (!grants_.add(block.slot)) break;  // beside the load's own pin, which ends with the load
    places.push_back(place_of(block.slot, block.length));
    figures_->loaded_bytes.fetch_add(block.length, std::memory_order_relaxed);
  }
  return places;
}

}  // namespace tiercel::service
