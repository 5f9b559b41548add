// check_disk_file: verifies a file of the disk tier that no cache has open, and says by cause what is wrong with it.
//
// Every header is checked against its place, its extent and its namespace, links to parents and double names are looked
// at, and the bytes of every block are read and compared with their checksum. Nothing is written without `repair`. A
// cache needs none of this: it drops what is wrong when it comes across it. Blocks the calling thread; any thread.
#pragma once

#include <tiercel/export.h>
#include <tiercel/result.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace tiercel {

struct DiskCheckOptions {
  bool read_data = true;     ///< false: headers alone, which takes seconds
  bool repair = false;       ///< clear the headers of bad copies, renew a damaged superblock
  std::size_t examples = 5;  ///< of each cause
  /// Bytes of blocks read so far, and in all. Called often.
  std::function<void(std::uint64_t done, std::uint64_t total)> progress;
};

struct DiskFault {
  std::string cause;    ///< a short constant: "crc", "checksum", "no_parent", ...
  std::string meaning;  ///< a sentence
  std::uint64_t count = 0;
  bool harmless = false;              ///< left by ordinary use or a crash, and cleaned up by the next start
  bool repairable = false;            ///< repair clears it
  std::vector<std::string> examples;  ///< the first ones
};

struct DiskCheckReport {
  std::string path;
  std::uint64_t data_bytes = 0;  ///< room for blocks
  std::uint64_t extents = 0;
  std::uint64_t used_extents = 0;  ///< cut into slots
  std::uint64_t boot_epoch = 0;    ///< rises at each start, also to the highest of the cache's other directories
  bool clean = false;              ///< closed in order the last time
  std::uint64_t blocks = 0;        ///< with a good header
  std::uint64_t block_bytes = 0;
  std::uint64_t verified_bytes = 0;  ///< read and compared with their checksum
  std::uint64_t bad_blocks = 0;      ///< of `blocks`: what no load would serve
  std::uint64_t deleted_blocks = 0;  ///< that wait to be cleared
  std::uint64_t tombstones = 0;
  std::uint64_t repaired_pages = 0;
  std::vector<DiskFault> faults;  ///< empty: all is well
};

/// `path`: the file, or the directory that it lies in. kNotFound; kLimit: a process has it open, the sentence names its
/// id; kCorrupt, kUnsupported: no file of Tiercel, or one of another version; kIo, kTimeout: of the device.
[[nodiscard]] TIERCEL_API Result<DiskCheckReport> check_disk_file(const std::string& path,
                                                                  const DiskCheckOptions& options);

}  // namespace tiercel
