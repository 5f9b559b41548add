#include "inspect/findings.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace tiercel::inspect {
namespace {

constexpr std::uint64_t kTightPercent = 5;  // of the filesystem: what should stay free
constexpr double kSlowBytesPerSecond = 200e6;

bool one_of(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::ranges::find(words, word) != words.end();
}

Finding judge_filesystem(const DirectoryFacts& directory) {
  const std::string& kind = directory.mount.filesystem;
  Finding finding{.subject = "filesystem",
                  .text = fmt::format("{}: {}", directory.path, kind.empty() ? "filesystem unknown" : kind)};
  if (!directory.device.empty()) {
    finding.text +=
        fmt::format(" on {}{}", directory.device, directory.bus.empty() ? "" : fmt::format(" ({})", directory.bus));
  }
  const auto warn = [&](std::string_view why, std::string_view advice) {
    finding.severity = Severity::kWarn;
    finding.text += fmt::format(": {}", why);
    finding.advice = advice;
  };
  if (one_of(kind, {"tmpfs", "ramfs"})) {
    warn("this is memory, and empty after a restart", "a directory on a local disk");
  } else if (one_of(kind, {"nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "lustre", "fuse.sshfs"}) ||
             kind.starts_with("fuse")) {
    warn("not a local disk: its stalls and its speed are the network's", "a directory on a local disk");
  } else if (kind == "overlay") {
    warn("a container's own layer: slower, and gone with the container", "a volume or a bind mount of a local disk");
  } else if (one_of(kind, {"btrfs", "zfs", "bcachefs", "f2fs", "nilfs2"})) {
    warn("copy on write: each write moves the block, and deleted bytes stay until they are reused",
         kind == "btrfs" ? "chattr +C on the empty directory, or ext4 or xfs" : "ext4 or xfs");
  } else if (directory.rotational.value_or(false) && directory.bus != "virtio") {  // virtio says so of every disk
    warn("the disk turns: loads of scattered blocks will be slow", "an SSD");
  }
  return finding;
}

Finding judge_direct_io(const DirectoryFacts& directory, bool direct) {
  Finding finding{.subject = "direct_io"};
  if (!direct) {
    finding.text = fmt::format("{}: O_DIRECT not wanted (disk.direct = false)", directory.path);
  } else if (directory.direct_alignment > 4096) {
    finding.severity = Severity::kWarn;
    finding.text = fmt::format(
        "{}: O_DIRECT asks for multiples of {} bytes, more than the 4096 of the file's format: "
        "its IO goes through the page cache",
        directory.path, directory.direct_alignment);
    finding.advice = "a filesystem on a device with sectors of at most 4096 bytes";
  } else if (!directory.direct) {
    finding.severity = Severity::kWarn;
    finding.text = fmt::format("{}: no O_DIRECT ({}): its IO goes through the page cache, which takes memory and CPU",
                               directory.path, directory.direct_error.empty() ? "refused" : directory.direct_error);
    finding.advice = "a filesystem with O_DIRECT, such as ext4 or xfs";
  } else {
    finding.text = fmt::format("{}: O_DIRECT, 4 KiB aligned", directory.path);
  }
  return finding;
}

Finding judge_access(const DirectoryFacts& directory) {
  Finding finding{.subject = "access"};
  const auto fail_with = [&](std::string text, std::string advice) {
    finding.severity = Severity::kFail;
    finding.text = fmt::format("{}: {}", directory.path, text);
    finding.advice = std::move(advice);
  };
  if (directory.mount.read_only) {
    fail_with("mounted read-only", fmt::format("mount -o remount,rw, and see in the kernel's log why it is"));
  } else if (!directory.writable) {
    fail_with(fmt::format("no file can be made in it as user {}: {}", directory.user, directory.write_error),
              fmt::format("chown {} {}", directory.user, directory.path));
  } else if (directory.file_exists && !directory.file_usable) {
    fail_with(fmt::format("tiercel.kv belongs to user {} and cannot be written as user {}", directory.file_owner,
                          directory.user),
              fmt::format("chown {} {}/tiercel.kv", directory.user, directory.path));
  } else if (directory.held) {
    finding.severity = Severity::kWarn;
    finding.text = fmt::format("{}: in use by {}; a second cache is refused", directory.path,
                               directory.holder ? fmt::format("process {}", *directory.holder) : "another process");
    finding.advice = "nothing if that is the service; else another directory";
  } else if (directory.open_to_all) {
    finding.severity = Severity::kWarn;
    finding.text = fmt::format("{}: every user of this machine may put files into it", directory.path);
    finding.advice = fmt::format("chmod o-w {}", directory.path);
  } else if (directory.owner != directory.user && directory.user != 0) {
    finding.text = fmt::format("{}: writable, belongs to user {}", directory.path, directory.owner);
  } else {
    finding.text = fmt::format("{}: writable", directory.path);
  }
  return finding;
}

Finding judge_space(const DirectoryFacts& directory, std::uint64_t wanted_bytes) {
  // What an existing file has already is not needed again.
  const std::uint64_t more =
      wanted_bytes > directory.file_allocated_bytes ? wanted_bytes - directory.file_allocated_bytes : 0;
  const std::string has =
      directory.file_exists ? fmt::format(", {} of it in tiercel.kv", size_text(directory.file_allocated_bytes)) : "";
  Finding finding{.subject = "space",
                  .text = fmt::format("{}: {} free, disk.capacity takes {}{}", directory.path,
                                      size_text(directory.free_bytes), size_text(wanted_bytes), has)};
  const std::uint64_t spare = directory.total_bytes * kTightPercent / 100;
  if (more > directory.free_bytes) {
    finding.severity = Severity::kFail;
    finding.advice = fmt::format("disk.capacity at most {} in this directory, or {} freed",
                                 size_text(directory.free_bytes + directory.file_allocated_bytes),
                                 size_text(more - directory.free_bytes));
  } else if (directory.free_bytes - more < spare) {
    finding.severity = Severity::kWarn;
    finding.text += fmt::format(": less than {} % of the filesystem stays free", kTightPercent);
    finding.advice = "a smaller disk.capacity: a full filesystem and a full SSD are slow";
  }
  return finding;
}

}  // namespace

std::uint64_t file_share(const Config& config, std::size_t index) {
  const std::uint64_t directories = config.disk.directories.size();
  if (directories == 0) return 0;
  const std::uint64_t extents = config.disk.capacity / config.host.extent_bytes;
  const std::uint64_t mine = extents / directories + (index < extents % directories ? 1 : 0);
  const std::uint64_t headers = mine * (config.host.extent_bytes / config.host.min_slot_bytes) * 128;
  return mine * config.host.extent_bytes + headers + 4_MiB;  // superblocks, log and tables
}

std::vector<Finding> judge_directory(const DirectoryFacts& directory, std::uint64_t wanted_bytes, bool direct) {
  if (!directory.exists) {
    return {{.severity = Severity::kFail,
             .subject = "access",
             .text = fmt::format("{}: does not exist: the cache serves without it", directory.path),
             .advice = fmt::format("mkdir -p {}", directory.path)}};
  }
  if (!directory.is_directory) {
    return {{.severity = Severity::kFail,
             .subject = "access",
             .text = directory.write_error.empty() ? fmt::format("{}: is not a directory", directory.path)
                                                   : fmt::format("{}: {}", directory.path, directory.write_error),
             .advice = "name a directory that this user can reach in disk.directories"}};
  }
  std::vector<Finding> findings{judge_filesystem(directory), judge_access(directory)};
  if (directory.writable) findings.push_back(judge_direct_io(directory, direct));
  if (wanted_bytes != 0) findings.push_back(judge_space(directory, wanted_bytes));
  return findings;
}

Finding judge_speed(const DirectoryFacts& directory, const DiskSpeed& read, const DiskSpeed& write) {
  Finding finding{.subject = "speed",
                  .text = fmt::format("{}: read {}, write {}", directory.path, speed_text(read.bytes_per_second()),
                                      speed_text(write.bytes_per_second()))};
  if (read.bytes_per_second() < kSlowBytesPerSecond) {
    finding.severity = Severity::kWarn;
    finding.text += ": many engines compute a prompt sooner than this loads it";
    finding.advice = "a faster disk, or see `tiercel bench disk` for what takes the time";
  }
  return finding;
}

std::vector<Finding> judge_together(const std::vector<DirectoryFacts>& directories) {
  std::vector<Finding> findings;
  for (std::size_t i = 0; i < directories.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (directories[i].mount.device.empty() || directories[i].mount.device != directories[j].mount.device) continue;
      findings.push_back({.severity = Severity::kWarn,
                          .subject = "filesystem",
                          .text = fmt::format("{} and {} are on one filesystem: they share its space and its speed",
                                              directories[j].path, directories[i].path),
                          .advice = "one directory a disk"});
      break;
    }
  }
  return findings;
}

}  // namespace tiercel::inspect
