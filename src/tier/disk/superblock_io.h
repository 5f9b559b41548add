// Writing of superblock updates and whole regions: what opening, changes of size and repair share.
#pragma once

#include "tier/disk/io_sequence.h"
#include "tier/disk/metadata.h"

#include <memory>

namespace tiercel::disk {

/// Memory for IO, aligned to pages; kept by the operations that use it.
[[nodiscard]] std::shared_ptr<std::byte[]> page_buffer(std::uint64_t bytes);

/// Writes and syncs an update. Nothing is known about the file after an error.
[[nodiscard]] Steps<Status> write_superblock(IoPort& port, SuperblockUpdate update);

/// Makes both copies say `wanted`, one after the other. `last` is the update that counts afterwards.
[[nodiscard]] Steps<Status> write_both_superblocks(IoPort& port, SuperblockUpdate first, SuperblockUpdate* last);

/// Writes pages of the image to their places in the file; 1 MiB at a time, 4 at once. Not synced.
[[nodiscard]] Steps<Status> write_pages(IoPort& port, std::shared_ptr<Metadata> metadata, PageRange range);

}  // namespace tiercel::disk
