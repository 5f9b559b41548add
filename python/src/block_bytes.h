// The bytes of blocks as memoryviews that keep what they show.
//
// A view of a loaded block is read-only and holds the copy pin of its slot: it stays what it is, whatever becomes of
// the load, the session and the cache, until the view is released. A view of a block that is being filled is writable
// and counted: a block is not committed while somebody could still write into it.
#pragma once

#include <nanobind/nanobind.h>
#include <tiercel/session.h>

#include <cstddef>
#include <memory>
#include <span>

namespace tiercel::python {

/// The views of one writer. Used with the interpreter's lock held.
struct WriterViews {
  std::size_t exported = 0;  ///< buffers that somebody holds
  bool sealed = false;       ///< committed, aborted or being committed: no more views
};

[[nodiscard]] nanobind::object view_of(std::shared_ptr<const BlockRef> block);
[[nodiscard]] nanobind::object view_of_writer(CopyPin pin, std::span<std::byte> bytes,
                                              std::shared_ptr<WriterViews> views);
/// Of a member's part of a block: it ends by being released, the scheduler member alone commits.
[[nodiscard]] nanobind::object view_of_part(BlockPart part);

void bind_block_bytes(nanobind::module_& module);

}  // namespace tiercel::python
