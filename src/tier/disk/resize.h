// Change of size: another number of extents for a file that exists, without losing what still fits.
//
// The old region is read (tombstones applied, and kept), a new one is made in memory, written to a place that nothing
// uses, and the superblock switches to it; the checkpoint begins empty. When extents are cut off, the fullest of them
// are first copied into free ones below. Everything before the switch writes only where the old state has nothing, so
// that a crash leaves the old state or the new one. A smaller file's region is then moved down by a second switch, so
// that the end can be truncated (which the caller does). Where there is no space for that (a full disk is a reason to
// shrink), the region goes over the data that is cut off, whose headers are cleared first: a crash then loses those
// blocks, and none but those. Data of blocks moves 1 MiB at a time.
#pragma once

#include "tier/disk/io_sequence.h"
#include "tier/disk/metadata.h"

#include <optional>

namespace tiercel::disk {

struct ResizeOutcome {
  Superblock superblock;  ///< that counts now, of the old or of the new size
  std::uint32_t copy = 0;
  bool changed = false;
  std::uint64_t moved_blocks = 0;
  std::uint64_t lost_blocks = 0;  ///< no room, or their data could not be read
  std::optional<Error> kept;      ///< why the size stayed
};

/// `old`: just created, nothing read yet. An error: the state of the file is not known; open it again. A file whose
/// growth finds no space keeps its size, which is no error; so does one that is full and would shrink by less than its
/// metadata region takes.
[[nodiscard]] Steps<Status> resize(IoPort& port, const Clock& clock, std::shared_ptr<Metadata> old,
                                   std::uint32_t extents, ResizeOutcome* outcome);

}  // namespace tiercel::disk
