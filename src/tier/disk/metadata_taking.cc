// Metadata, as it is read in: what each part of the image says, and what of it is repaired because it says nonsense.
#include "tier/disk/metadata.h"

#include <algorithm>

namespace tiercel::disk {

void Metadata::repaired(std::uint32_t page) {
  if (is_repaired_[page]) return;
  is_repaired_[page] = true;
  repaired_.push_back(page);
}

Metadata::Taken Metadata::take_heads() {
  Taken taken;
  for (std::uint32_t extent = 0; extent < heads_.size(); ++extent) {
    const auto bytes = record<kExtentHeadBytes>(head_offset(extent));
    ExtentHead& head = heads_[extent];
    head = {};
    const Fault fault = decode(std::span<const std::byte, kExtentHeadBytes>(bytes), head);
    if (fault == Fault::kEmpty) continue;
    if (fault == Fault::kNone && (head.slot_bytes == 0 || layout_.valid_slot_bytes(head.slot_bytes))) {
      ++taken.good;
      continue;
    }
    // What lay in it is lost. It counts as never cut: the next cut has a generation of this boot's all the same.
    ++taken.bad;
    head = {};
    std::ranges::fill(bytes, std::byte{0});
    repaired(layout_.head_page(extent));
  }
  return taken;
}

Metadata::Taken Metadata::take_namespaces() {
  Taken taken;
  ids_.clear();
  for (std::uint32_t id = 1; id <= spaces_.size(); ++id) {
    const auto bytes = record<kNamespaceBytes>(namespace_offset(id));
    spaces_[id - 1].reset();
    NamespaceEntry entry;
    const Fault fault = decode(std::span<const std::byte, kNamespaceBytes>(bytes), entry);
    if (fault == Fault::kEmpty) continue;
    if (fault == Fault::kNone && entry.id == id && ids_.try_emplace(entry.fingerprint, id).second) {
      put_space(id, {.fingerprint = entry.fingerprint, .owner = entry.owner});
      ++taken.good;
      continue;
    }
    ++taken.bad;
    std::ranges::fill(bytes, std::byte{0});
    repaired(layout_.namespace_page(id));
  }
  return taken;
}

Metadata::Taken Metadata::take_log(TombstoneIndex& buried) {
  Taken taken;
  bool in_place = true;
  next_tombstone_ = superblock_.first_tombstone;
  for (std::uint32_t position = 0; position < layout_.log_records(); ++position) {
    const auto bytes = record<kTombstoneBytes>(log_offset(position));
    TombstoneRecord found;
    const Fault fault = decode(std::span<const std::byte, kTombstoneBytes>(bytes), found);
    if (fault == Fault::kEmpty) continue;
    if (fault != Fault::kNone || found.sequence == UINT64_MAX) {
      ++taken.bad;
    } else if (found.sequence >= superblock_.first_tombstone) {
      buried.add(found.tombstone);
      carry_epoch(found.tombstone.generation >> kEpochShift);
      next_tombstone_ = std::max(next_tombstone_, found.sequence + 1);
      in_place = in_place && found.sequence - superblock_.first_tombstone == position;
      ++taken.good;
      continue;
    }
    // Of an earlier lap, or torn: never acknowledged. The image keeps what counts, so that rewriting a page is right.
    std::ranges::fill(bytes, std::byte{0});
  }
  // Records that are not where their sequence puts them come from a superblock that was lost: the log is full, so that
  // it begins anew before anything is appended.
  const std::uint64_t used = next_tombstone_ - superblock_.first_tombstone;
  log_used_ = in_place && used <= layout_.log_records() ? static_cast<std::uint32_t>(used) : layout_.log_records();
  return taken;
}

std::vector<std::uint32_t> Metadata::take_checkpoint() {
  std::vector<std::uint32_t> newest;
  checkpoint_sequence_ = 0;
  for (std::uint32_t half = 0; half < 2; ++half) {
    const std::uint32_t first = layout_.checkpoint_begin() + half * layout_.checkpoint_half_pages();
    std::vector<std::uint32_t> slots;
    std::uint64_t sequence = 0;
    std::uint32_t pages = 1;
    bool whole = false;
    for (std::uint32_t index = 0; index < std::min(pages, layout_.checkpoint_half_pages()); ++index) {
      CheckpointPage page;
      if (decode(this->page(first + index), page) != Fault::kNone) break;
      checkpoint_sequence_ = std::max(checkpoint_sequence_, page.sequence);
      if (index == 0) {
        sequence = page.sequence;
        pages = page.pages;
      }
      if (page.sequence != sequence || page.pages != pages || page.index != index) break;
      slots.insert(slots.end(), page.slots.begin(), page.slots.begin() + page.count);
      whole = index + 1 == pages;
    }
    if (whole && sequence == checkpoint_sequence_) newest = std::move(slots);
  }
  std::erase_if(newest, [&](std::uint32_t slot) { return slot >= layout_.slots(); });
  return newest;
}

void Metadata::keep_namespaces(const std::vector<bool>& named) {
  first_free_namespace_ = 1;
  for (std::uint32_t id = 1; id <= spaces_.size(); ++id) {
    if (!spaces_[id - 1] || named[id]) continue;
    ids_.erase(spaces_[id - 1]->fingerprint);
    spaces_[id - 1].reset();
    // The page keeps the old entry until another takes its place; nothing refers to it.
    std::ranges::fill(record<kNamespaceBytes>(namespace_offset(id)), std::byte{0});
  }
}

}  // namespace tiercel::disk
