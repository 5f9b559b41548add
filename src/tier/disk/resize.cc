#include "tier/disk/resize.h"

#include "tier/disk/recovery.h"
#include "tier/disk/superblock_io.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace tiercel::disk {
namespace {

constexpr std::uint64_t kCopyBytes = std::uint64_t{1} << 20U;

/// Keeps what recovery finds, by extent.
class BlocksByExtent final : public RecoverySink {
 public:
  explicit BlocksByExtent(const Layout& layout) : layout_(layout), blocks_(layout.extents()) {}
  void on_found(std::span<const DiskBlock> blocks) override {
    for (const DiskBlock& block : blocks) blocks_[layout_.extent_of(block.slot)].push_back(block);
  }
  [[nodiscard]] std::vector<DiskBlock>& of(std::uint32_t extent) { return blocks_[extent]; }

 private:
  Layout layout_;
  std::vector<std::vector<DiskBlock>> blocks_;
};

struct Move {
  std::uint32_t from = 0;
  std::uint32_t to = 0;
};

/// Which of the extents that are cut off go where; the rest have no room.
[[nodiscard]] std::vector<Move> plan_moves(BlocksByExtent& blocks, const Layout& old, std::uint32_t extents,
                                           std::uint64_t* lost) {
  const auto bytes = [&](std::uint32_t extent) {
    std::uint64_t sum = 0;
    for (const DiskBlock& block : blocks.of(extent)) sum += block.length;
    return sum;
  };
  std::vector<std::pair<std::uint64_t, std::uint32_t>> leaving;  // bytes, extent
  for (std::uint32_t extent = extents; extent < old.extents(); ++extent) {
    if (!blocks.of(extent).empty()) leaving.emplace_back(bytes(extent), extent);
  }
  std::ranges::sort(leaving, [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  std::vector<Move> moves;
  std::uint32_t to = 0;
  for (const auto& [size, from] : leaving) {
    while (to < extents && !blocks.of(to).empty()) ++to;
    if (to < extents) {
      moves.push_back({.from = from, .to = to++});
    } else {
      *lost += blocks.of(from).size();
    }
  }
  return moves;
}

/// Where a region can be written while the old one counts. A region that grows goes behind the new data; one that
/// shrinks behind everything, because the data that is cut off counts until the switch.
[[nodiscard]] std::uint64_t place_region(const Layout& old, const Layout& wanted) {
  if (wanted.extents() < old.extents()) return old.file_bytes();
  const std::uint64_t begin = wanted.data_end();
  const bool overlaps = begin < old.file_bytes() && old.meta_begin() < begin + wanted.meta_bytes();
  return overlaps ? old.file_bytes() : begin;
}

class Resizer {
 public:
  Resizer(IoPort& port, const Clock& clock, std::shared_ptr<Metadata> old, ResizeOutcome* outcome)
      : port_(port),
        old_(std::move(old)),
        outcome_(*outcome),
        blocks_(old_->layout()),
        reader_(old_, port, clock, blocks_) {
    outcome_.superblock = old_->superblock();
  }

  Steps<Status> run(std::uint32_t extents) {
    Steps<Status> reading = reader_.read();
    const Status read = co_await reading;
    TIERCEL_CO_TRY(read);
    const Layout& old = old_->layout();
    Shape shape = old.shape();
    shape.extents = extents;
    const auto wanted = Layout::plan(shape);
    if (!wanted) co_return keep(wanted.error());
    Layout layout = wanted->with_meta_at(place_region(old, *wanted));
    const Status room = port_.file().backend().allocate(std::max(layout.file_bytes(), old.file_bytes()));
    if (!room) {
      (void)port_.file().backend().truncate(old.file_bytes());
      if (wanted->file_bytes() > old.data_end()) co_return keep(room.error());
      layout = *wanted;  // a smaller file must not need a larger one first: over data that is cut off
    }
    auto made = new_region(layout);
    if (!made) co_return keep(made.error());
    const std::shared_ptr<Metadata> region = *made;
    carry_over(*region);
    for (const Move& move : plan_moves(blocks_, old, extents, &outcome_.lost_blocks)) {
      Steps<Status> moving = move_extent(move, *region);
      const Status moved = co_await moving;
      TIERCEL_CO_TRY(moved);
    }
    if (layout.meta_begin() < old.data_end()) {
      Steps<Status> clearing = clear_behind(extents);
      const Status cleared = co_await clearing;
      TIERCEL_CO_TRY(cleared);
    }
    Steps<Status> switching = switch_to(region);
    const Status switched = co_await switching;
    TIERCEL_CO_TRY(switched);
    if (extents < old.extents()) {
      Steps<Status> moving_down = move_region_down(region);
      const Status moved_down = co_await moving_down;
      TIERCEL_CO_TRY(moved_down);
    }
    outcome_.changed = true;
    co_return Status{};
  }

 private:
  /// Nothing has been written yet, so the old size stays.
  [[nodiscard]] Status keep(const Error& error) {
    outcome_.kept = error;
    return {};
  }

  [[nodiscard]] Result<std::shared_ptr<Metadata>> new_region(const Layout& layout) const {
    Superblock superblock = old_->superblock();
    layout.describe(superblock);
    superblock.first_tombstone = old_->restart_log().superblock.first_tombstone;
    return Metadata::create(superblock, outcome_.copy);
  }

  /// Namespaces, heads and headers of the extents that stay where they are.
  void carry_over(Metadata& region) {
    region.copy_namespaces(*old_);
    // What a delete of a block covers below it is known to the owner alone: the deletes stay in the log.
    for (const Tombstone& tombstone : reader_.buried().names()) region.append(tombstone);
    const std::uint32_t extents = std::min(region.layout().extents(), old_->layout().extents());
    for (std::uint32_t extent = 0; extent < extents; ++extent) {
      region.set_head(extent, old_->extent(extent));
      for (const DiskBlock& block : blocks_.of(extent)) region.put(block);
    }
  }

  Steps<Status> move_extent(Move move, Metadata& region) {
    const Layout& layout = region.layout();
    const std::uint64_t slot_bytes = old_->extent(move.from).slot_bytes;
    region.cut(move.to, slot_bytes);
    const auto buffer = page_buffer(kCopyBytes);
    for (DiskBlock block : blocks_.of(move.from)) {
      const std::uint32_t slot = layout.slot_at(move.to, layout.position_of(block.slot));
      bool readable = true;
      const std::uint64_t from = layout.data_offset(block.slot, slot_bytes);
      const std::uint64_t to = layout.data_offset(slot, slot_bytes);
      const std::uint64_t end = round_up(block.length, kPageBytes);
      for (std::uint64_t done = 0; done < end && readable; done += kCopyBytes) {
        const IoSegment piece{.data = buffer.get(), .bytes = std::min(kCopyBytes, end - done)};
        const Pending reading = port_.read(from + done, piece, buffer);
        const Status read = co_await port_.wait(reading);
        if (!read && read.error().code == ErrorCode::kTimeout) co_return read;
        readable = read.has_value();
        if (!readable) break;
        const Pending writing = port_.write(to + done, piece, buffer);
        const Status written = co_await port_.wait(writing);
        TIERCEL_CO_TRY(written);
      }
      block.slot = slot;
      if (readable) region.put(block);
      ++(readable ? outcome_.moved_blocks : outcome_.lost_blocks);
    }
    co_return Status{};
  }

  /// The headers of what is about to be overwritten leave the old region, so that a crash before the switch finds no
  /// block there.
  Steps<Status> clear_behind(std::uint32_t extents) {
    const Layout& old = old_->layout();
    for (std::uint32_t slot = old.slot_at(extents, 0); slot < old.slots(); ++slot) old_->clear(slot);
    const std::uint32_t first = old.header_page(old.slot_at(extents, 0));
    Steps<Status> writing = write_pages(port_, old_, {.first = first, .count = old.pages() - first});
    const Status written = co_await writing;
    TIERCEL_CO_TRY(written);
    const Pending sync = port_.sync();
    const Status synced = co_await port_.wait(sync);
    co_return synced;
  }

  /// Writes the whole region, syncs, and makes both superblocks name it.
  Steps<Status> switch_to(std::shared_ptr<Metadata> region) {
    Steps<Status> writing = write_pages(port_, region, {.first = 0, .count = region->layout().pages()});
    const Status written = co_await writing;
    TIERCEL_CO_TRY(written);
    const Pending sync = port_.sync();
    const Status synced = co_await port_.wait(sync);
    TIERCEL_CO_TRY(synced);
    SuperblockUpdate next{.superblock = region->superblock(), .copy = 1 - outcome_.copy};
    next.superblock.sequence = outcome_.superblock.sequence + 1;
    Steps<Status> switching = write_both_superblocks(port_, next, &next);
    const Status switched = co_await switching;
    TIERCEL_CO_TRY(switched);
    outcome_.superblock = next.superblock;
    outcome_.copy = next.copy;
    co_return Status{};
  }

  Steps<Status> move_region_down(std::shared_ptr<Metadata> region) {
    const Layout& far = region->layout();
    if (far.data_end() + far.meta_bytes() > far.meta_begin()) co_return Status{};
    region->move_to(far.data_end());
    Steps<Status> switching = switch_to(region);
    const Status switched = co_await switching;
    co_return switched;
  }

  IoPort& port_;
  std::shared_ptr<Metadata> old_;
  ResizeOutcome& outcome_;
  BlocksByExtent blocks_;
  RegionReader reader_;
};

}  // namespace

Steps<Status> resize(IoPort& port, const Clock& clock, std::shared_ptr<Metadata> old, std::uint32_t extents,
                     ResizeOutcome* outcome) {
  Resizer resizer(port, clock, std::move(old), outcome);
  Steps<Status> running = resizer.run(extents);
  const Status status = co_await running;
  co_return status;
}

}  // namespace tiercel::disk
