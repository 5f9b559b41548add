#include "inspect/directory_facts.h"

#include "io/file_descriptor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

namespace tiercel::inspect {
namespace {

constexpr std::size_t kPageBytes = 4096;

std::string reason(int error) { return std::system_category().message(error); }

std::string content_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> words_of(std::string_view line) {
  std::istringstream stream{std::string(line)};
  return {std::istream_iterator<std::string>(stream), {}};
}

/// Calls `visit` with each line until it says true.
template <class Visit>
void each_line(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (visit(text.substr(0, end))) return;
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
}

/// mountinfo writes blanks and backslashes as three octal digits.
std::string unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned code = 0;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 4, code, 8).ptr == text.data() + i + 4) {
      plain += static_cast<char>(code);
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

bool lies_in(const std::string& path, const std::string& mount_point) {
  if (mount_point == "/") return true;
  return path == mount_point || path.starts_with(mount_point + "/");
}

bool has_option(std::string_view options, std::string_view option) {
  return ("," + std::string(options) + ",").find("," + std::string(option) + ",") != std::string::npos;
}

/// The block device below a filesystem: what it is called, what it hangs on, whether it turns.
void read_device(const std::string& number, DirectoryFacts& facts) {
  std::error_code error;
  std::filesystem::path device = std::filesystem::canonical("/sys/dev/block/" + number, error);
  if (error) return;
  facts.device = device.filename();
  facts.bus = bus_of(device.string());
  if (std::filesystem::exists(device / "partition", error)) device = device.parent_path();
  const std::string rotational = content_of(device / "queue" / "rotational");
  if (!rotational.empty()) facts.rotational = rotational.front() == '1';
}

/// A file in the directory that has no name, or loses it at once.
FileDescriptor nameless_file(const std::string& directory, int& error) {
  FileDescriptor fd(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (fd) return fd;
  std::string path = directory + "/tiercel-probe-XXXXXX";
  FileDescriptor named(::mkostemp(path.data(), O_CLOEXEC));
  error = errno;
  if (named) (void)unlink(path.c_str());
  return named;
}

std::uint32_t alignment_of(int fd) {
#ifdef STATX_DIOALIGN
  struct statx status{};
  if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 && (status.stx_mask & STATX_DIOALIGN) != 0) {
    return std::max(status.stx_dio_offset_align, status.stx_dio_mem_align);
  }
#else
  (void)fd;
#endif
  return 0;
}

/// Writes and reads a page as the tier does.
void try_direct(int fd, DirectoryFacts& facts) {
  facts.direct_alignment = alignment_of(fd);
  const std::unique_ptr<void, decltype(&std::free)> page(std::aligned_alloc(kPageBytes, kPageBytes), &std::free);
  if (!page) return;
  std::fill_n(static_cast<char*>(page.get()), kPageBytes, 'x');
  const auto moved = [](ssize_t bytes) { return bytes == static_cast<ssize_t>(kPageBytes); };
  if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_DIRECT) != 0 || !moved(pwrite(fd, page.get(), kPageBytes, 0)) ||
      !moved(pread(fd, page.get(), kPageBytes, 0))) {
    facts.direct_error = reason(errno);
  } else {
    facts.direct = true;
  }
}

void read_file(DirectoryFacts& facts) {
  const std::string path = facts.path + "/tiercel.kv";
  struct stat status{};
  if (stat(path.c_str(), &status) != 0) return;
  facts.file_exists = true;
  facts.file_usable = access(path.c_str(), R_OK | W_OK) == 0;
  facts.file_owner = status.st_uid;
  facts.file_bytes = static_cast<std::uint64_t>(status.st_size);
  facts.file_allocated_bytes = static_cast<std::uint64_t>(status.st_blocks) * 512;
}

void read_lock(DirectoryFacts& facts) {
  const std::string path = facts.path + "/tiercel.kv.lock";
  struct stat status{};
  if (stat(path.c_str(), &status) != 0) return;
  facts.held = is_locked(content_of("/proc/locks"), major(status.st_dev), minor(status.st_dev), status.st_ino);
  std::int32_t holder = 0;
  std::ifstream file(path);
  if (facts.held && file >> holder) facts.holder = holder;
}

}  // namespace

std::optional<Mount> mount_of(std::string_view mountinfo, const std::string& path) {
  std::optional<Mount> found;
  std::size_t longest = 0;
  each_line(mountinfo, [&](std::string_view line) {
    const std::vector<std::string> words = words_of(line);
    const auto dash = std::ranges::find(words, "-");
    if (words.size() < 6 || std::distance(dash, words.end()) < 4) return false;
    const std::string point = unescape(words[4]);
    // Of two mounts on one place the later one hides the other.
    if (!lies_in(path, point) || point.size() < longest) return false;
    longest = point.size();
    found = Mount{.filesystem = dash[1],
                  .device = words[2],
                  .read_only = has_option(words[5], "ro") || has_option(dash[3], "ro")};
    return false;
  });
  return found;
}

bool is_locked(std::string_view locks, std::uint32_t major, std::uint32_t minor, std::uint64_t inode) {
  const std::string file = fmt::format("{:02x}:{:02x}:{}", major, minor, inode);
  bool found = false;
  each_line(locks, [&](std::string_view line) {
    const std::vector<std::string> words = words_of(line);  // "1: FLOCK ADVISORY WRITE 1234 fe:00:5678 0 EOF"
    found = words.size() >= 6 && words[3] == "WRITE" && words[5] == file;
    return found;
  });
  return found;
}

std::string bus_of(std::string_view sysfs_path) {
  for (const auto& [part, bus] : {std::pair{"/nvme", "nvme"}, {"/virtio", "virtio"}, {"/host", "scsi"}}) {
    if (sysfs_path.find(part) != std::string_view::npos) return bus;
  }
  return {};
}

DirectoryFacts read_directory_facts(const std::string& path) {
  DirectoryFacts facts{.path = path, .user = geteuid()};
  struct stat status{};
  if (stat(path.c_str(), &status) != 0) {
    const int missing = errno;
    facts.write_error = reason(missing);
    facts.exists = missing != ENOENT && missing != ENOTDIR;
    return facts;
  }
  facts.exists = true;
  facts.is_directory = S_ISDIR(status.st_mode);
  if (!facts.is_directory) return facts;
  facts.owner = status.st_uid;
  facts.open_to_all = (status.st_mode & S_IWOTH) != 0 && (status.st_mode & S_ISVTX) == 0;

  std::error_code error;
  const std::filesystem::path real = std::filesystem::canonical(path, error);
  facts.mount = mount_of(content_of("/proc/self/mountinfo"), error ? path : real.string()).value_or(Mount{});
  read_device(facts.mount.device, facts);
  struct statvfs space{};
  if (statvfs(path.c_str(), &space) == 0) {
    facts.free_bytes = std::uint64_t{space.f_bavail} * space.f_frsize;
    facts.total_bytes = std::uint64_t{space.f_blocks} * space.f_frsize;
  }
  int write_error = 0;
  if (const FileDescriptor file = nameless_file(path, write_error); file) {
    facts.writable = true;
    try_direct(file.get(), facts);
  } else {
    facts.write_error = reason(write_error);
  }
  read_file(facts);
  read_lock(facts);
  return facts;
}

}  // namespace tiercel::inspect
