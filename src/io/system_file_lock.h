// An exclusive lock between processes, and between two holders in one process: flock on a file that says who holds it.
#pragma once

#include "io/file_system.h"

#include <memory>
#include <string>

namespace tiercel {

/// FileSystem::lock. The file stays when the lock is given back, emptied; one that somebody removed meanwhile does not
/// count.
[[nodiscard]] Result<std::unique_ptr<FileLock>> lock_system_file(const std::string& path);

}  // namespace tiercel
