// The hand-over of an extent to another slot size: part of HostStore.
//
// One extent at a time is drained: the one with the least live value among those of other sizes in which nothing is
// pinned. What is in it is not simply thrown away: for each block the coldest block of that size goes, wherever it
// lies, and the block of the drained extent moves into the room; so the order of eviction is kept, and so is the order
// of leaves before parents. Whose block goes follows the rule for tenants (cache/victim_choice.h), for nobody's sake. A
// slice looks at kSlotsPerSearchSlice slots or clears kMovesPerStep at most.
#include "base/check.h"
#include "cache/host_store.h"

#include <algorithm>
#include <utility>

namespace tiercel {
namespace {

constexpr TierId kHost = TierId::kHost;
constexpr std::uint32_t kExtentsPerSearch = 64;
constexpr std::uint32_t kSlotsPerValue = 32;
constexpr std::uint32_t kSlotsPerSearchSlice = 256;  // about 100 ns each where the entries are cold

}  // namespace

/// Goes on with the search for the extent to drain: the one with the least live value, from a sample of its slots,
/// among those in which nothing is pinned. True when all candidates were looked at; then `search_.best` is the answer.
bool HostStore::search_some(std::uint64_t now_ns) {
  const std::uint32_t candidates = std::min(kExtentsPerSearch, slots_.extents());
  std::uint32_t left = kSlotsPerSearchSlice;
  for (; search_.looked < candidates; ++search_.looked, search_.slot = search_.sampled = 0, search_.value = 0) {
    const ExtentId extent = (next_candidate_ + search_.looked) % slots_.extents();
    const std::uint64_t bytes = slots_.slot_bytes(extent);
    if (bytes == 0 || bytes == wanted_slot_bytes_) continue;
    bool pinned = false;
    for (; search_.slot < slots_.slots(extent) && !pinned; ++search_.slot) {
      if (left-- == 0) return false;
      const SlotId slot = slots_.slot_at(extent, search_.slot);
      pinned = is_pinned(slot);
      if (pinned || !slots_.is_used(slot)) continue;
      if (search_.sampled++ < kSlotsPerValue) search_.value += policy_->value(slots_.owner(slot), now_ns);
    }
    const double whole =
        search_.sampled <= kSlotsPerValue ? search_.value : search_.value * search_.sampled / kSlotsPerValue;
    if (pinned) {
      ++counters_.handover_pinned_skips;
    } else if (whole < search_.least) {
      search_.least = whole;
      search_.best = extent;
    }
  }
  next_candidate_ = (next_candidate_ + candidates) % std::max(1U, slots_.extents());
  return true;
}

bool HostStore::is_pinned(SlotId slot) const noexcept {
  if (slots_.is_quarantined(slot)) return true;
  if (!slots_.is_used(slot)) return false;
  return slots_.copy_pins(slot) > 0 || table_[slots_.owner(slot)].logical_pins > 0;
}

/// After the search: what it found may have changed sides since it was looked at.
bool HostStore::start_handover() {
  const ExtentId best = std::exchange(search_, {}).best;
  if (best == kNoExtent) return false;
  const std::uint64_t bytes = slots_.slot_bytes(best);
  if (bytes == 0 || bytes == wanted_slot_bytes_) return false;
  draining_ = best;
  slots_.set_draining(draining_, true);
  drain_cursor_ = 0;
  drain_room_ = {.left = UINT64_MAX};  // the deadline bounds it
  return true;
}

HostStore::HandoverStep HostStore::step_handover(std::uint64_t now_ns, std::uint64_t deadline_ns,
                                                 std::vector<SlotMove>& moves) {
  moves.clear();
  if (draining_ == kNoExtent) {
    if (wanted_slot_bytes_ == 0 || slots_.free_extents() > 0) {
      search_ = {};
      wanted_slot_bytes_ = 0;
      return HandoverStep::kDone;  // room came by itself
    }
    if (now_ns < deadline_ns && !search_some(now_ns)) return HandoverStep::kMoves;
    if (now_ns >= deadline_ns || !start_handover()) {
      give_up_handover();
      ++counters_.handovers_failed;
      return HandoverStep::kFailed;
    }
  }
  begin_slice(drain_room_);
  bool busy = false;
  const std::uint32_t slots = slots_.slots(draining_);
  for (std::size_t i = 0; i < kMovesPerStep && !drain_room_.spent && slots_.used_slots(draining_) > 0; ++i) {
    const SlotId slot = slots_.slot_at(draining_, drain_cursor_++ % slots);
    switch (clear_slot(slot, now_ns, moves)) {
      case SlotStep::kClear:
      case SlotStep::kMove:
        break;
      case SlotStep::kSpent:
        --drain_cursor_;
        break;
      case SlotStep::kBusy:
        busy = true;
        break;
      case SlotStep::kStuck:
        ++counters_.handover_pinned_skips;
        give_up_handover();
        return moves.empty() ? HandoverStep::kFailed : HandoverStep::kMoves;
    }
  }
  if (slots_.used_slots(draining_) == 0) {
    slots_.hand_over(draining_, wanted_slot_bytes_);
    draining_ = kNoExtent;
    wanted_slot_bytes_ = 0;
    ++counters_.handovers;
    return HandoverStep::kDone;
  }
  if (now_ns >= deadline_ns) {
    give_up_handover();
    return moves.empty() ? HandoverStep::kFailed : HandoverStep::kMoves;
  }
  return !moves.empty() || !busy || drain_room_.spent ? HandoverStep::kMoves : HandoverStep::kWait;
}

void HostStore::give_up_handover() {
  if (draining_ != kNoExtent) {
    slots_.set_draining(draining_, false);
    ++counters_.handovers_failed;
  }
  draining_ = kNoExtent;
  wanted_slot_bytes_ = 0;
  search_ = {};
}

HostStore::SlotStep HostStore::clear_slot(SlotId slot, std::uint64_t now_ns, std::vector<SlotMove>& moves) {
  if (slots_.is_quarantined(slot)) return SlotStep::kStuck;
  if (!slots_.is_used(slot)) return SlotStep::kClear;
  const BlockId id = slots_.owner(slot);
  if (id == kNoBlock) return SlotStep::kBusy;  // the target of a move
  if (table_.state(id, kHost) != CopyState::kReady) return SlotStep::kBusy;
  if (table_[id].logical_pins > 0 || slots_.copy_pins(slot) > 0) return SlotStep::kStuck;

  const std::uint64_t bytes = slots_.slot_bytes(draining_);
  // Nobody's until the block has moved: its tenant has paid for it once.
  auto room = slots_.allocate_in_cut_extent(bytes, kNoBlock);
  const RoomRequest request{.slot_bytes = bytes, .tenant = kNoTenant, .now_ns = now_ns};
  while (!room) {
    if (!evict_for(lists_.size_of(bytes), request, drain_room_))
      return drain_room_.spent ? SlotStep::kSpent : SlotStep::kStuck;
    if (!slots_.is_used(slot)) return SlotStep::kClear;  // this very block was the coldest
    room = slots_.allocate_in_cut_extent(bytes, kNoBlock);
    if (!room) return SlotStep::kClear;  // the coldest lay in the drained extent too: that was progress
  }
  move_block(id, slot, *room, moves);
  return SlotStep::kMove;
}

void HostStore::move_block(BlockId id, SlotId from, SlotId to, std::vector<SlotMove>& moves) {
  slots_.retain(from);
  slots_.retain(to);
  slots_.set_length(to, slots_.length(from));
  table_.set_state(id, kHost, CopyState::kMoving);
  moves.push_back(
      {.id = id, .generation = table_[id].generation, .from = from, .to = to, .length = slots_.length(from)});
}

void HostStore::finish_move(const SlotMove& move, bool copied) {
  release_and_collect(move.from);
  release_and_collect(move.to);
  const bool ours = is({move.id, move.generation}) && table_.state(move.id, kHost) == CopyState::kMoving;
  if (!ours) {  // deleted meanwhile: its old slot went then
    (void)slots_.give_back(move.to);
    return;
  }
  table_.set_state(move.id, kHost, CopyState::kReady);
  if (!copied || slots_.copy_pins(move.from) > 0) {  // a reader came in meanwhile: the block stays where it is
    (void)slots_.give_back(move.to);
    return;
  }
  if (demotions_ != nullptr) demotions_->move(move.from, move.to);
  const TenantNumber tenant = slots_.tenant(move.from);
  slots_.set_tenant(move.from, kNoTenant);  // it may wait in quarantine
  slots_.set_tenant(move.to, tenant);
  (void)slots_.give_back(move.from);
  slots_.set_owner(move.to, move.id);
  table_.set_slot(move.id, kHost, move.to);
  ++counters_.moved_blocks;
}

}  // namespace tiercel
