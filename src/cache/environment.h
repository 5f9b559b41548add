// Environment: what the core does not own and does not make: time, threads, copies, randomness. The public Cache::open
// fills it with the system's (cache.cc); tests and the simulator with their own.
#pragma once

#include "base/clock.h"
#include "base/executor.h"
#include "io/file_system.h"
#include "transfer/copy_engine.h"

#include <cstdint>

namespace tiercel::detail {

/// Executor and copy engine must outlive CacheCore::close(); the clock must outlive every handle. The seed decides
/// where names lie in the index: random in production.
struct Environment {
  const Clock& clock;
  Executor& executor;
  CopyEngine& copies;
  std::uint64_t seed = 0;
  FileSystem* files = nullptr;       ///< of the disk tier; null: a configured one is an error. Outlives the core
  std::uint32_t disk_log_pages = 0;  ///< of the tombstone log of a file that is made; 0: as many as usual
  /// Deletes that wait for a directory; of more, all that the directory holds is given up instead. Tests take few.
  std::size_t most_waiting_deletes = 16'384;
  /// Blocks that wait, after indexing, for a directory that is not there (22 to 25 bytes each); more are dropped. 0:
  /// index.blocks. Tests take few.
  std::size_t most_waiting_blocks = 0;
  /// The arena's memory comes after creation (CacheCore::fill_arena), and its slots are handed out later still
  /// (offer_arena).
  bool arena_later = false;
};

}  // namespace tiercel::detail
