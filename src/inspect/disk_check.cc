#include "base/clock.h"
#include "base/try.h"
#include "io/system_file_system.h"
#include "tier/disk/verify.h"

#include <tiercel/disk_check.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

namespace tiercel {
namespace {

struct Cause {
  std::string_view name;
  std::string_view meaning;
  bool harmless = false;
};

constexpr std::array kCauses = {
    Cause{"checksum", "the block's bytes do not agree with their checksum"},
    Cause{"unreadable", "the device cannot read the block"},
    Cause{"duplicate", "an older copy of a block that is there twice", true},
    Cause{"no_parent", "the block before it is missing, so no prompt reaches it", true},
    Cause{"stale", "a header from before its extent was cut anew", true},
    Cause{"magic", "a header that is something else"},
    Cause{"crc", "a header whose bytes do not agree with its CRC"},
    Cause{"version", "a header of a version that this program does not read"},
    Cause{"reserved", "a header with bytes that must be zero and are not"},
    Cause{"range", "a header with a field out of its range"},
    Cause{"place", "a header that belongs to another slot"},
    Cause{"length", "a header whose block is longer than its slot, or empty"},
    Cause{"namespace", "a header that names a namespace which the table does not have"},
    Cause{"generation", "a header from a start that has not been yet"},
    Cause{"superblock_copy", "one of the two copies of the superblock is damaged"},
    Cause{"extent_head", "a damaged extent head: the blocks of its extent are lost"},
    Cause{"namespace_entry", "a damaged entry of the namespace table: the blocks of that namespace are lost"},
    Cause{"tombstone", "a damaged record of the delete log"},
    Cause{"metadata_page", "a page of the metadata that the device cannot read"},
};

DiskFault fault_of(disk::VerifyFinding&& finding) {
  const auto* cause = std::ranges::find(kCauses, finding.cause, &Cause::name);
  const bool known = cause != kCauses.end();
  return {.cause = std::move(finding.cause),
          .meaning = known ? std::string(cause->meaning) : std::string(),
          .count = finding.count,
          .harmless = known && cause->harmless,
          .repairable = finding.repairable,
          .examples = std::move(finding.examples)};
}

}  // namespace

Result<DiskCheckReport> check_disk_file(const std::string& path, const DiskCheckOptions& options) {
  std::error_code error;
  const std::string file = std::filesystem::is_directory(path, error) ? path + "/tiercel.kv" : path;
  SystemFileSystem files;
  const SteadyClock clock;
  TIERCEL_TRY_ASSIGN(disk::VerifyReport report, disk::verify_file(file, files, clock,
                                                                  {.read_data = options.read_data,
                                                                   .repair = options.repair,
                                                                   .examples = options.examples,
                                                                   .progress = options.progress}));
  DiskCheckReport answer{.path = file,
                         .data_bytes = report.layout.data_end() - report.layout.data_begin(),
                         .extents = report.layout.extents(),
                         .used_extents = report.cut_extents,
                         .boot_epoch = report.boot_epoch,
                         .clean = report.clean,
                         .blocks = report.blocks,
                         .block_bytes = report.block_bytes,
                         .verified_bytes = report.data_bytes_read,
                         .bad_blocks = report.bad_blocks,
                         .deleted_blocks = report.buried,
                         .tombstones = report.tombstones,
                         .repaired_pages = report.written_pages};
  for (disk::VerifyFinding& finding : report.findings) answer.faults.push_back(fault_of(std::move(finding)));
  return answer;
}

}  // namespace tiercel
