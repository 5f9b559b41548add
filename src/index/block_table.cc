#include "index/block_table.h"

#include "base/check.h"
#include "base/try.h"

#include <algorithm>
#include <new>

namespace tiercel {

Result<BlockTable> BlockTable::create(const Options& options) {
  BlockTable table;
  TIERCEL_TRY_ASSIGN(
      table.directory_,
      Directory::create({.capacity = options.capacity, .seed = options.seed, .huge_pages = options.huge_pages}));
  const auto map = [&](std::uint64_t bytes) {
    return Mapping::share({.bytes = bytes, .huge_pages = options.huge_pages, .name = "index.blocks"});
  };
  TIERCEL_TRY_ASSIGN(table.entries_mapping_, map(options.capacity * sizeof(BlockEntry)));
  TIERCEL_TRY_ASSIGN(table.links_mapping_, map(options.capacity * sizeof(BlockLinks)));
  table.entries_ = reinterpret_cast<BlockEntry*>(table.entries_mapping_->data());
  table.links_ = reinterpret_cast<BlockLinks*>(table.links_mapping_->data());
  table.capacity_ = options.capacity;
  table.cut_cascades_.reserve(kCutCascades);
  return table;
}

std::vector<std::shared_ptr<const Mapping>> BlockTable::mappings() const {
  auto mappings = directory_.mappings();
  mappings.insert(mappings.end(), {entries_mapping_, links_mapping_});
  return mappings;
}

BlockId BlockTable::find(const BlockHash& hash, GroupId group) const {
  return directory_.find(directory_.place(hash, group),
                         [&](BlockId id) { return entries_[id].hash == hash && entries_[id].group == group; });
}

BlockId BlockTable::take_free() {
  BlockId id = free_;
  if (id != kNoBlock) {
    free_ = entries_[id].parent;
  } else {
    if (untouched_ == capacity_) return kNoBlock;
    id = untouched_++;
  }
  ::new (&entries_[id]) BlockEntry{};
  ::new (&links_[id]) BlockLinks{};
  entries_[id].in_use = true;
  ++used_;
  return id;
}

BlockId BlockTable::insert(const BlockHash& hash, GroupId group, BlockId parent) {
  const BlockId id = take_free();
  if (id == kNoBlock) return kNoBlock;
  BlockEntry& entry = entries_[id];
  entry.hash = hash;
  entry.group = group;
  entry.space = entries_[parent].is_root ? parent : entries_[parent].space;
  link_child(parent, id);
  directory_.insert(directory_.place(hash, group), id);
  ++stubs_;  // until it gets a copy
  return id;
}

BlockId BlockTable::insert_root(const BlockHash& fingerprint, TenantNumber tenant) {
  const BlockId id = take_free();
  if (id == kNoBlock) return kNoBlock;
  entries_[id].hash = fingerprint;
  entries_[id].is_root = true;
  entries_[id].space = id;
  set_tenant(id, tenant);
  return id;
}

void BlockTable::link_child(BlockId parent, BlockId child) {
  BlockLinks& up = links_[parent];
  entries_[child].parent = parent;
  links_[child].next_sibling = up.first_child;
  if (up.first_child != kNoBlock) links_[up.first_child].previous_sibling = child;
  up.first_child = child;
}

void BlockTable::unlink_child(BlockId child) {
  const BlockLinks& link = links_[child];
  if (link.previous_sibling == kNoBlock) {
    links_[entries_[child].parent].first_child = link.next_sibling;
  } else {
    links_[link.previous_sibling].next_sibling = link.next_sibling;
  }
  if (link.next_sibling != kNoBlock) links_[link.next_sibling].previous_sibling = link.previous_sibling;
}

bool BlockTable::has_copy(BlockId id) const noexcept { return std::ranges::any_of(entries_[id].state, is_present); }

bool BlockTable::can_lose(BlockId id, TierId tier) const noexcept {
  if (children_in(id, tier) != 0) return false;
  if (links_[id].first_child == kNoBlock) return true;
  for (std::size_t t = 0; t < kTierCount; ++t) {
    if (t != static_cast<std::size_t>(tier) && is_readable(entries_[id].state[t])) return true;
  }
  return false;
}

bool BlockTable::is_stub(BlockId id) const noexcept { return !entries_[id].is_root && !has_copy(id); }

bool BlockTable::is_unused(BlockId id) const noexcept {
  return is_stub(id) && links_[id].first_child == kNoBlock && entries_[id].logical_pins == 0;
}

int BlockTable::erase_if_unused(BlockId id) {
  int gone = 0;
  for (; is_unused(id); ++gone) {
    if (gone == kCascade) {
      if (cut_cascades_.size() < kCutCascades) {
        cut_cascades_.push_back(id);
      } else {
        walk_ = 0;
        walk_end_ = untouched_;
      }
      break;
    }
    BlockEntry& entry = entries_[id];
    const BlockId parent = entry.parent;
    unlink_child(id);
    directory_.erase(directory_.place(entry.hash, entry.group), id);
    entry.in_use = false;
    entry.generation = 0;
    entry.parent = free_;
    free_ = id;
    --used_;
    --stubs_;
    id = parent;
  }
  return gone;
}

int BlockTable::collect(int budget) {
  int looked = 0;
  while (looked < budget && !cut_cascades_.empty()) {
    const BlockId id = cut_cascades_.back();
    cut_cascades_.pop_back();
    looked += 1 + (entries_[id].in_use ? erase_if_unused(id) : 0);
  }
  while (looked < budget && walk_ < walk_end_) {
    const BlockId id = walk_++;
    looked += 1 + (entries_[id].in_use ? erase_if_unused(id) : 0);
  }
  return looked;
}

void BlockTable::erase_root(BlockId id) {
  TIERCEL_CHECK(entries_[id].is_root && links_[id].first_child == kNoBlock, "only an empty root is erased");
  entries_[id].in_use = false;
  entries_[id].is_root = false;
  entries_[id].parent = free_;
  free_ = id;
  --used_;
}

void BlockTable::set_state(BlockId id, TierId tier, CopyState to) {
  BlockEntry& entry = entries_[id];
  CopyState& state = entry.state[static_cast<std::size_t>(tier)];
  TIERCEL_CHECK(entry.in_use && is_allowed(state, to), "a step of the copy state table");
  const CopyState from = state;
  const bool was_stub = is_stub(id);
  state = to;
  if (is_present(from) != is_present(to)) {
    std::uint32_t& siblings = links_[entry.parent].children[static_cast<std::size_t>(tier)];
    siblings = is_present(to) ? siblings + 1 : siblings - 1;
    const bool stub = is_stub(id);
    if (was_stub && !stub) --stubs_;
    if (!was_stub && stub) ++stubs_;
  }
  if (is_readable(from) != is_readable(to)) {
    TierSet ready;
    for (std::size_t t = 0; t < kTierCount; ++t) {
      if (is_readable(entry.state[t])) ready.bits = static_cast<std::uint8_t>(ready.bits | 1U << t);
    }
    directory_.set_tiers(directory_.place(entry.hash, entry.group), id, ready);
  }
}

bool BlockTable::pin(BlockId id) noexcept {
  std::uint16_t& pins = entries_[id].logical_pins;
  if (pins == UINT16_MAX) return false;
  if (pins++ == 0) ++pinned_;
  return true;
}

void BlockTable::unpin(BlockId id) noexcept {
  std::uint16_t& pins = entries_[id].logical_pins;
  TIERCEL_CHECK(pins > 0, "unpin of a pinned block");
  if (--pins == 0) --pinned_;
}

void BlockTable::clear_pins(BlockId id) noexcept {
  if (entries_[id].logical_pins > 0) --pinned_;
  entries_[id].logical_pins = 0;
}

std::size_t BlockTable::match(std::span<const BlockHash> hashes, std::span<const GroupRule> rules,
                              std::vector<TierSet>& tiers) const {
  tiers.resize(hashes.size());
  std::size_t length = 0;
  if (rules.size() == 1 && rules[0].kind == GroupKind::kFullAttention) {
    length = directory_.match_leading(hashes, 0, tiers);
  } else {
    std::vector<TierSet> row(hashes.size());
    std::vector<std::uint8_t> present(rules.size() * hashes.size());
    std::ranges::fill(tiers, TierSet{.bits = 7});
    for (std::size_t g = 0; g < rules.size(); ++g) {
      directory_.lookup(hashes, static_cast<GroupId>(g), row);
      for (std::size_t i = 0; i < hashes.size(); ++i) {
        present[g * hashes.size() + i] = row[i].bits != 0 ? 1 : 0;
        tiers[i].bits = tiers[i].bits & row[i].bits;
      }
    }
    length = match_length(rules, present, hashes.size());
  }
  tiers.resize(length);
  return length;
}

void BlockTable::check_consistency() const {
  std::uint64_t used = 0;
  std::uint64_t stubs = 0;
  std::uint64_t pinned = 0;
  for (BlockId id = 0; id < untouched_; ++id) {
    const BlockEntry& entry = entries_[id];
    if (!entry.in_use) continue;
    ++used;
    stubs += is_stub(id) ? 1U : 0U;
    pinned += entry.logical_pins > 0 ? 1U : 0U;
    std::array<std::uint32_t, kTierCount> children{};
    BlockId previous = kNoBlock;
    for (BlockId child = links_[id].first_child; child != kNoBlock; child = links_[child].next_sibling) {
      TIERCEL_CHECK(entries_[child].in_use && entries_[child].parent == id, "a child knows its parent");
      TIERCEL_CHECK(links_[child].previous_sibling == previous, "sibling links agree");
      for (std::size_t t = 0; t < kTierCount; ++t) children[t] += is_present(entries_[child].state[t]) ? 1U : 0U;
      previous = child;
    }
    TIERCEL_CHECK(children == links_[id].children, "child counts per tier agree");
    if (!entry.is_root) TIERCEL_CHECK(find(entry.hash, entry.group) == id, "every entry is in the directory");
  }
  TIERCEL_CHECK(used == used_ && stubs == stubs_ && pinned == pinned_, "gauges agree with the entries");
}

}  // namespace tiercel
