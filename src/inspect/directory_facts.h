// DirectoryFacts: what a directory of the disk tier lies on and what is in it, as far as the system tells without
// writing anything that stays. Values; reading them is anyone's. What cannot be found out keeps its default.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tiercel::inspect {

/// A mounted filesystem, from a line of /proc/self/mountinfo.
struct Mount {
  std::string filesystem;  ///< "ext4"
  std::string device;      ///< "major:minor"
  bool read_only = false;
};

struct DirectoryFacts {
  std::string path;
  bool exists = false;
  bool is_directory = false;
  bool writable = false;     ///< files can be made in it
  std::string write_error;   ///< why not
  std::uint32_t owner = 0;   ///< user id
  std::uint32_t user = 0;    ///< of this process
  bool open_to_all = false;  ///< other users may write into it
  Mount mount;
  std::string device;  ///< "nvme0n1", "vda"; empty where there is no block device
  std::string bus;     ///< "nvme", "virtio", "scsi", or empty
  std::optional<bool> rotational;
  std::uint64_t free_bytes = 0;
  std::uint64_t total_bytes = 0;
  bool direct = false;                 ///< O_DIRECT works
  std::uint32_t direct_alignment = 0;  ///< what it asks of offsets, buffers and lengths; 0: not known
  std::string direct_error;

  // The file of the tier, where there is one.
  bool file_exists = false;
  bool file_usable = false;  ///< can be opened for reading and writing
  std::uint32_t file_owner = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t file_allocated_bytes = 0;
  bool held = false;                   ///< a process has its lock
  std::optional<std::int32_t> holder;  ///< its process id, as the lock file names it
};

[[nodiscard]] DirectoryFacts read_directory_facts(const std::string& path);

/// The mount that an absolute path lies in.
[[nodiscard]] std::optional<Mount> mount_of(std::string_view mountinfo, const std::string& path);
/// Does /proc/locks name an exclusive lock on this file?
[[nodiscard]] bool is_locked(std::string_view locks, std::uint32_t major, std::uint32_t minor, std::uint64_t inode);
/// "nvme", "virtio", "scsi" or "", from where /sys/dev/block/MAJOR:MINOR points to.
[[nodiscard]] std::string bus_of(std::string_view sysfs_path);

}  // namespace tiercel::inspect
