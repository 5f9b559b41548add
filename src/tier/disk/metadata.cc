#include "tier/disk/metadata.h"

#include "base/check.h"
#include "base/try.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace tiercel::disk {
namespace {

/// Extent generations of one boot start at a number of its own: a cut whose head a crash took away is never repeated.
constexpr std::uint64_t kCutsPerEpoch = 256;

}  // namespace

Result<std::shared_ptr<Metadata>> Metadata::create(const Superblock& superblock, std::uint32_t copy) {
  TIERCEL_TRY_ASSIGN(const Layout layout, Layout::of(superblock));
  TIERCEL_TRY_ASSIGN(Mapping image, Mapping::create({.bytes = layout.meta_bytes(),
                                                     .huge_pages = HugePages::kOff,
                                                     .kind = ArenaKind::kAnonymous,
                                                     .name = "tiercel-disk-metadata"}));
  return std::shared_ptr<Metadata>(new Metadata(superblock, copy, layout, std::move(image)));
}

Metadata::Metadata(const Superblock& superblock, std::uint32_t copy, const Layout& layout, Mapping image)
    : superblock_(superblock),
      copy_(copy),
      layout_(layout),
      image_(std::move(image)),
      heads_(layout.extents()),
      spaces_(layout.shape().max_namespaces),
      owned_(std::make_unique<std::atomic<bool>[]>(layout.shape().max_namespaces)),
      next_tombstone_(superblock.first_tombstone),
      is_repaired_(layout.pages()) {}

void Metadata::carry_epoch(std::uint64_t epoch) noexcept {
  // One that cannot have been would use the numbers up.
  if (epoch < std::min(superblock_.boot_epoch + kEpochsAhead, kEpochEnd)) {
    carried_epoch_ = std::max(carried_epoch_, epoch);
  }
}

SuperblockUpdate Metadata::update(Superblock changed) const noexcept {
  changed.sequence = superblock_.sequence + 1;
  changed.boot_epoch = std::max(changed.boot_epoch, carried_epoch_);
  return {.superblock = changed, .copy = 1 - copy_};
}

void Metadata::apply(const SuperblockUpdate& update) noexcept {
  TIERCEL_CHECK(update.superblock.sequence == superblock_.sequence + 1,
                "an update of a superblock that is not the last");
  if (update.superblock.first_tombstone != superblock_.first_tombstone) {
    TIERCEL_CHECK(update.superblock.first_tombstone == next_tombstone_,
                  "tombstones were written while the log began anew");
    log_used_ = 0;
    std::memset(image_.data() + log_offset(0), 0, layout_.log_pages() * kPageBytes);
  }
  superblock_ = update.superblock;
  copy_ = update.copy;
}

std::vector<std::uint64_t> Metadata::slot_sizes() const {
  std::vector<std::uint64_t> sizes(heads_.size());
  std::ranges::transform(heads_, sizes.begin(), &ExtentHead::slot_bytes);
  return sizes;
}

std::uint32_t Metadata::cut(std::uint32_t extent, std::uint64_t slot_bytes) {
  TIERCEL_CHECK(extent < heads_.size() && layout_.valid_slot_bytes(slot_bytes),
                "an extent is cut into impossible slots");
  ExtentHead& head = heads_[extent];
  const std::uint64_t next = std::max(std::uint64_t{head.generation} + 1, epoch() * kCutsPerEpoch);
  TIERCEL_CHECK(next <= UINT32_MAX, "an extent was cut more often than its generation can count");
  head = {.slot_bytes = slot_bytes, .generation = static_cast<std::uint32_t>(next)};
  encode(head, record<kExtentHeadBytes>(head_offset(extent)));
  const std::uint64_t first = layout_.header_offset(layout_.slot_at(extent, 0));
  std::memset(image_.data() + first, 0, layout_.extent_header_pages() * kPageBytes);
  return layout_.head_page(extent);
}

std::optional<std::uint32_t> Metadata::namespace_id(const BlockHash& fingerprint) const {
  const auto found = ids_.find(fingerprint);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const Metadata::Namespace* Metadata::space(std::uint32_t id) const noexcept {
  if (id == 0 || id > spaces_.size() || !spaces_[id - 1]) return nullptr;
  return &*spaces_[id - 1];
}

void Metadata::put_space(std::uint32_t id, const Namespace& space) {
  spaces_[id - 1] = space;
  owned_[id - 1].store(space.owner.known(), std::memory_order_release);
}

bool Metadata::set_owner(std::uint32_t id, const TenantId& owner) {
  Namespace& space = *spaces_[id - 1];
  if (space.owner.known() || !owner.known()) return false;
  space.owner = owner;
  owned_[id - 1].store(true, std::memory_order_release);
  encode(NamespaceEntry{.id = id, .fingerprint = space.fingerprint, .owner = owner},
         record<kNamespaceBytes>(namespace_offset(id)));
  return true;
}

Result<std::uint32_t> Metadata::add_namespace(const BlockHash& fingerprint, const TenantId& owner) {
  std::uint32_t id = first_free_namespace_;
  while (id <= spaces_.size() && spaces_[id - 1]) ++id;
  first_free_namespace_ = id;
  if (id > spaces_.size()) {
    return fail(ErrorCode::kLimit, "disk file: its table of " + std::to_string(spaces_.size()) +
                                       " namespaces is full; entries without blocks become free at the next start");
  }
  put_space(id, {.fingerprint = fingerprint, .owner = owner});
  ids_[fingerprint] = id;
  encode(NamespaceEntry{.id = id, .fingerprint = fingerprint, .owner = owner},
         record<kNamespaceBytes>(namespace_offset(id)));
  return id;
}

std::uint32_t Metadata::put(const DiskBlock& block) {
  const std::uint32_t extent = layout_.extent_of(block.slot);
  TIERCEL_CHECK(extent < heads_.size(), "a block in a slot beyond the file");
  const ExtentHead& head = heads_[extent];
  TIERCEL_CHECK(layout_.position_of(block.slot) < layout_.slots_of(head.slot_bytes),
                "a block in a slot beyond its extent");
  TIERCEL_CHECK(block.length > 0 && block.length <= head.slot_bytes, "a block that does not fit its slot");
  TIERCEL_CHECK((block.generation >> kEpochShift) < epoch() + kEpochsAhead,
                "a block of a boot that cannot have been: recovery drops it");
  const auto id = namespace_id(block.fingerprint);
  TIERCEL_CHECK(id.has_value(), "a block of a namespace that the table does not have");
  const Header header{.group = block.group,
                      .namespace_id = *id,
                      .slot = block.slot,
                      .hash = block.hash,
                      .parent = block.parent,
                      .length = block.length,
                      .extent_generation = head.generation,
                      .checksum = block.checksum,
                      .generation = block.generation};
  encode(header, record<kHeaderBytes>(layout_.header_offset(block.slot)));
  return layout_.header_page(block.slot);
}

std::uint32_t Metadata::clear(std::uint32_t slot) {
  TIERCEL_CHECK(slot < layout_.slots(), "a header beyond the file is cleared");
  std::ranges::fill(record<kHeaderBytes>(layout_.header_offset(slot)), std::byte{0});
  return layout_.header_page(slot);
}

Metadata::Answer Metadata::examine(const Question& question, DiskBlock& to) const {
  Header header;
  const Fault fault = decode(record<kHeaderBytes>(layout_.header_offset(question.slot)), header);
  if (fault != Fault::kNone) return {.fault = fault};
  const auto answer = [&](Fault found) { return Answer{.fault = found, .namespace_id = header.namespace_id}; };
  if (header.slot != question.slot) return answer(Fault::kPlace);
  const ExtentHead& head = heads_[layout_.extent_of(question.slot)];
  if (header.extent_generation != head.generation) return answer(Fault::kStale);
  if (header.length == 0 || header.length > head.slot_bytes) return answer(Fault::kLength);
  const Namespace* space = this->space(header.namespace_id);
  if (space == nullptr) return answer(Fault::kNamespace);
  if ((header.generation >> kEpochShift) >= question.epochs) return answer(Fault::kGeneration);
  to = {.fingerprint = space->fingerprint,
        .owner = owned_[header.namespace_id - 1].load(std::memory_order_acquire) ? space->owner : TenantId{},
        .hash = header.hash,
        .parent = header.parent,
        .group = header.group,
        .slot = question.slot,
        .slot_bytes = head.slot_bytes,
        .length = header.length,
        .checksum = header.checksum,
        .generation = header.generation};
  return answer(Fault::kNone);
}

std::uint32_t Metadata::append(const Tombstone& tombstone) {
  TIERCEL_CHECK(log_used_ < layout_.log_records(), "a tombstone is appended to a full log");
  carry_epoch(tombstone.generation >> kEpochShift);
  const std::uint32_t position = log_used_++;
  encode(TombstoneRecord{.sequence = next_tombstone_++, .tombstone = tombstone},
         record<kTombstoneBytes>(log_offset(position)));
  return layout_.log_begin() + position / kTombstonesPerPage;
}

SuperblockUpdate Metadata::restart_log() const noexcept {
  Superblock changed = superblock_;
  changed.first_tombstone = next_tombstone_;
  return update(changed);
}

void Metadata::copy_namespaces(const Metadata& other) {
  TIERCEL_CHECK(spaces_.size() == other.spaces_.size(), "namespaces are copied into a table of another size");
  for (std::uint32_t id = 1; id <= spaces_.size(); ++id) {
    if (const auto& space = other.spaces_[id - 1]) put_space(id, *space);
  }
  ids_ = other.ids_;
  for (const auto& [fingerprint, id] : ids_) {
    encode(NamespaceEntry{.id = id, .fingerprint = fingerprint, .owner = spaces_[id - 1]->owner},
           record<kNamespaceBytes>(namespace_offset(id)));
  }
}

void Metadata::set_head(std::uint32_t extent, const ExtentHead& head) {
  heads_[extent] = head;
  if (head != ExtentHead{}) encode(head, record<kExtentHeadBytes>(head_offset(extent)));
}

void Metadata::move_to(std::uint64_t meta_begin) noexcept {
  layout_ = layout_.with_meta_at(meta_begin);
  layout_.describe(superblock_);
}

PageRange Metadata::put_checkpoint(std::span<const std::uint32_t> coldest_first) {
  // Of what is too much, the coldest is left out: it goes first anyway.
  const std::uint64_t room = std::uint64_t{layout_.checkpoint_half_pages()} * kCheckpointSlotsPerPage;
  if (coldest_first.size() > room) coldest_first = coldest_first.last(room);
  const std::uint64_t sequence = ++checkpoint_sequence_;
  const auto half = static_cast<std::uint32_t>(sequence % 2);
  const PageRange range{.first = layout_.checkpoint_begin() + half * layout_.checkpoint_half_pages(),
                        .count = static_cast<std::uint32_t>((coldest_first.size() + kCheckpointSlotsPerPage - 1) /
                                                            kCheckpointSlotsPerPage)};
  for (std::uint32_t index = 0; index < range.count; ++index) {
    const auto slots = coldest_first.subspan(index * kCheckpointSlotsPerPage);
    CheckpointPage page{.sequence = sequence, .index = index, .pages = range.count};
    page.count = static_cast<std::uint32_t>(std::min<std::size_t>(slots.size(), kCheckpointSlotsPerPage));
    std::ranges::copy(slots.first(page.count), page.slots.begin());
    encode(page, PageSpan(page_memory(range.first + index), kPageBytes));
  }
  return range;
}

}  // namespace tiercel::disk
