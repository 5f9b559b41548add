#include "inspect/machine_facts.h"

#include "io/system_file_system.h"
#include "memory/memory_limit.h"

#include <sys/resource.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>

namespace tiercel::inspect {
namespace {

constexpr unsigned kCapIpcLock = 14;  // linux/capability.h

/// What follows `key` in a file of lines "key value ..."; empty where there is none.
std::string value_of(const std::string& path, std::string_view key) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    if (!line.starts_with(key)) continue;
    const std::size_t begin = line.find_first_not_of(" \t", key.size());
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return {};
}

std::uint64_t number_of(const std::string& path, std::string_view key, int base = 10) {
  return std::strtoull(value_of(path, key).c_str(), nullptr, base);
}

/// The word in brackets of "always [madvise] never".
std::string chosen_word(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  while (file >> word) {
    if (word.front() == '[' && word.back() == ']') return word.substr(1, word.size() - 2);
  }
  return {};
}

std::uint32_t count_nodes(const std::string& directory) {
  std::error_code error;
  std::uint32_t nodes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename();
    if (name.size() > 4 && name.starts_with("node") && name.find_first_not_of("0123456789", 4) == std::string::npos) {
      ++nodes;
    }
  }
  return nodes == 0 ? 1 : nodes;
}

}  // namespace

MachineFacts read_machine_facts(DiskIo io, const std::string& root) {
  MachineFacts facts;
  const SystemFileSystem files(io == DiskIo::kThreads ? IoEngine::kThreads : IoEngine::kAuto);
  facts.io_engine = files.engine();
  facts.io_reason = files.reason();
  if (std::ifstream file(root + "/proc/sys/kernel/io_uring_disabled"); file) {
    int value = 0;
    if (file >> value) facts.io_uring_disabled = value;
  }
  const std::string status = root + "/proc/self/status";
  facts.seccomp = number_of(status, "Seccomp:") != 0;
  facts.may_lock_all = (number_of(status, "CapEff:", 16) >> kCapIpcLock & 1U) != 0;

  const std::string memory = root + "/proc/meminfo";
  facts.memory_bytes = number_of(memory, "MemTotal:") << 10U;
  facts.machine_free_bytes = number_of(memory, "MemAvailable:") << 10U;
  facts.available_bytes = available_memory_bytes(root);
  struct rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) facts.memlock_bytes = limit.rlim_cur;

  const std::string huge = root + "/sys/kernel/mm/hugepages/hugepages-2048kB/";
  std::uint64_t pages = 0;
  if (std::ifstream(huge + "free_hugepages") >> pages) facts.reserved_free_bytes = pages << 21U;
  facts.transparent = chosen_word(root + "/sys/kernel/mm/transparent_hugepage/enabled");
  facts.transparent_shared = chosen_word(root + "/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  facts.numa_nodes = count_nodes(root + "/sys/devices/system/node");
  return facts;
}

}  // namespace tiercel::inspect
