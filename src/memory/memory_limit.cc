#include "memory/memory_limit.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string_view>

namespace tiercel {
namespace {

/// A number in a file of its own; nothing for "max", a missing file or cgroup v1's "no limit" (close to 2^63).
std::optional<std::uint64_t> read_number(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  if (!(file >> word) || word.find_first_not_of("0123456789") != std::string::npos) return std::nullopt;
  const std::uint64_t value = std::strtoull(word.c_str(), nullptr, 10);
  if (value >= std::uint64_t{1} << 62U) return std::nullopt;
  return value;
}

/// The number after `key` in a file of "key value" lines ("MemAvailable: 123 kB", "inactive_file 456").
std::uint64_t read_keyed(const std::string& path, std::string_view key) {
  std::ifstream file(path);
  std::string word;
  while (file >> word) {
    if (word == key) {
      std::uint64_t value = 0;
      file >> value;
      return value;
    }
    file.ignore(4096, '\n');
  }
  return 0;
}

struct GroupFiles {
  const char* limit;
  const char* usage;
  const char* inactive_key;
};
constexpr GroupFiles kV2{.limit = "/memory.max", .usage = "/memory.current", .inactive_key = "inactive_file"};
constexpr GroupFiles kV1{
    .limit = "/memory.limit_in_bytes", .usage = "/memory.usage_in_bytes", .inactive_key = "total_inactive_file"};

/// The least that any group from `path` up to the mount leaves.
std::uint64_t least_left(const std::string& mount, std::string path, const GroupFiles& files) {
  std::uint64_t least = UINT64_MAX;
  for (;;) {
    const std::string directory = mount + path;
    if (const auto limit = read_number(directory + files.limit)) {
      const std::uint64_t usage = read_number(directory + files.usage).value_or(0);
      const std::uint64_t droppable = std::min(usage, read_keyed(directory + "/memory.stat", files.inactive_key));
      const std::uint64_t used = usage - droppable;
      least = std::min(least, *limit > used ? *limit - used : 0);
    }
    if (path.empty() || path == "/") return least;
    path.resize(path.rfind('/'));
  }
}

}  // namespace

std::uint64_t available_memory_bytes(const std::string& root) {
  std::uint64_t available = read_keyed(root + "/proc/meminfo", "MemAvailable:") << 10U;
  std::ifstream groups(root + "/proc/self/cgroup");
  std::string line;
  while (std::getline(groups, line)) {  // "0::/path" for v2, "4:memory:/path" for v1
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      available = std::min(available, least_left(root + "/sys/fs/cgroup", path, kV2));
    } else if (("," + controllers + ",").find(",memory,") != std::string::npos) {
      available = std::min(available, least_left(root + "/sys/fs/cgroup/memory", path, kV1));
    }
  }
  return available;
}

}  // namespace tiercel
