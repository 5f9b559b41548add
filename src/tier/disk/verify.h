// Verify: walks a disk file that no process uses, checks all that can be checked, and says by cause what is wrong.
//
// Every header is decoded and compared with its place, its extent and its namespace; links to parents and double names
// are looked at; with read_data the bytes of every block are read and their XXH3 checksum is compared. Without `repair`
// the file is opened for reading alone and nothing is written to it. Repair clears the headers of bad copies (the cache
// then has them no more) and renews a damaged copy of the superblock. Blocks the calling thread. About 200 bytes of
// memory a block. Errors: kLimit a process has the file (its id); kCorrupt, kUnsupported as in opening.h; kIo,
// kTimeout.
#pragma once

#include "base/clock.h"
#include "io/file_system.h"
#include "tier/disk/layout.h"

#include <tiercel/result.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace tiercel::disk {

struct VerifyOptions {
  bool read_data = true;
  bool repair = false;
  bool direct = true;
  std::uint64_t io_deadline_ns = 30'000'000'000;
  std::size_t examples = 5;  ///< of each cause
  /// Bytes of blocks read so far, and in all. Called often.
  std::function<void(std::uint64_t done, std::uint64_t total)> progress{};
};

struct VerifyFinding {
  std::string cause;  ///< "crc", "checksum", "no_parent", ...
  std::uint64_t count = 0;
  bool repairable = false;            ///< repair clears it
  std::vector<std::string> examples;  ///< the first ones, a line each
};

struct VerifyReport {
  Layout layout;
  std::uint64_t boot_epoch = 0;
  bool clean = false;  ///< closed in order
  std::uint64_t cut_extents = 0;
  std::uint64_t blocks = 0;  ///< whose headers are good
  std::uint64_t block_bytes = 0;
  std::uint64_t data_bytes_read = 0;
  std::uint64_t bad_blocks = 0;         ///< of `blocks`: bytes wrong or unreadable, or an older copy of a name
  std::uint64_t buried = 0;             ///< deleted, and waiting to be cleared
  std::uint64_t tombstones = 0;         ///< in the log
  std::uint64_t written_pages = 0;      ///< by the repair
  std::vector<VerifyFinding> findings;  ///< empty: all is well
};

/// `path`: of the file itself.
[[nodiscard]] Result<VerifyReport> verify_file(const std::string& path, FileSystem& files, const Clock& clock,
                                               const VerifyOptions& options);

}  // namespace tiercel::disk
