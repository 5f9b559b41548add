// file_digest of layout.h with a hook for its tests. One sequential pass with a 1 MiB buffer: as fast as SHA-256 on one
// core or the disk, whichever is slower. Safe from any thread.
#pragma once

#include <tiercel/layout.h>

#include <functional>
#include <string>

namespace tiercel {

/// `after_pass` runs when the bytes were read and before the file is looked at again; may be empty.
[[nodiscard]] Result<BlockHash> file_digest_observed(const std::string& path, const std::string& cache_directory,
                                                     const std::function<void()>& after_pass);

}  // namespace tiercel
