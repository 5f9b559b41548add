#include "inspect/findings.h"

#include <fmt/format.h>

namespace tiercel::inspect {
namespace {

constexpr std::uint64_t kHugePageBytes = 2_MiB;
constexpr std::uint64_t kSafePercent = 80;  // of the memory that is free: engines and file cache need some too

bool transparent_allowed(const Config& config, const MachineFacts& machine) {
  const std::string& word = config.host.arena == ArenaKind::kMemfd ? machine.transparent_shared : machine.transparent;
  return word == "always" || word == "madvise" || word == "advise" || word == "within_size" || word == "force";
}

}  // namespace

std::string speed_text(double bytes_per_second) {
  return bytes_per_second >= 0.95e9 ? fmt::format("{:.1f} GB/s", bytes_per_second / 1e9)
                                    : fmt::format("{:.0f} MB/s", bytes_per_second / 1e6);
}

std::string size_text(std::uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes >= 1_TiB) return fmt::format("{:.1f} TiB", value / static_cast<double>(1_TiB));
  if (bytes >= 1_GiB) return fmt::format("{:.1f} GiB", value / static_cast<double>(1_GiB));
  return fmt::format("{:.0f} MiB", value / static_cast<double>(1_MiB));
}

std::uint64_t arena_bytes(const Config& config, const MachineFacts& machine) {
  return config.host.capacity != 0 ? config.host.capacity : machine.available_bytes / 4;
}

Finding judge_io_uring(const Config& config, const MachineFacts& machine) {
  Finding finding{.subject = "io_uring"};
  if (machine.io_engine == "io_uring") {
    finding.text = "io_uring works";
    return finding;
  }
  if (config.disk.io == DiskIo::kThreads) {
    finding.text = "disk IO by threads, as disk.io says";
    return finding;
  }
  finding.severity = Severity::kWarn;
  finding.text = fmt::format("no io_uring: disk IO by threads, which takes more CPU ({})", machine.io_reason);
  if (machine.io_uring_disabled.value_or(0) != 0) {
    finding.text += fmt::format("; kernel.io_uring_disabled is {}", *machine.io_uring_disabled);
    finding.advice = "sysctl -w kernel.io_uring_disabled=0";
  } else if (machine.seccomp) {
    finding.advice =
        "this process runs under a seccomp filter: allow io_uring_setup, io_uring_enter and io_uring_register in the "
        "container's profile";
  } else {
    finding.advice = "a kernel with io_uring (5.11 or later)";
  }
  return finding;
}

Finding judge_memory(const Config& config, const MachineFacts& machine) {
  const std::uint64_t wanted = arena_bytes(config, machine);
  const bool grouped = machine.available_bytes < machine.machine_free_bytes;
  const std::string where = grouped ? "the control group leaves" : "the machine has";
  Finding finding{.subject = "memory"};
  if (machine.available_bytes == 0) {
    finding.severity = Severity::kWarn;
    finding.text = "how much memory is free cannot be found out";
    finding.advice = "set host.capacity, and mount /proc";
  } else if (wanted > machine.available_bytes) {
    finding.severity = Severity::kFail;
    finding.text =
        fmt::format("memory: host.capacity is {}, {} {} free: the process will be killed when the arena fills",
                    size_text(wanted), where, size_text(machine.available_bytes));
    finding.advice =
        fmt::format("host.capacity = \"{}GiB\" or less{}", machine.available_bytes * kSafePercent / 100 / 1_GiB,
                    grouped ? ", or a higher memory limit of the container" : "");
  } else if (wanted > machine.available_bytes * kSafePercent / 100) {
    finding.severity = Severity::kWarn;
    finding.text = fmt::format("memory: host.capacity {} is more than {} % of what {} free, {}", size_text(wanted),
                               kSafePercent, where, size_text(machine.available_bytes));
    finding.advice = "leave room for the engine and for the page cache";
  } else {
    finding.text = fmt::format("memory: {} for the arena{}, {} {} free", size_text(wanted),
                               config.host.capacity == 0 ? " (a quarter of what is free)" : "", where,
                               size_text(machine.available_bytes));
  }
  return finding;
}

Finding judge_huge_pages(const Config& config, const MachineFacts& machine) {
  const std::uint64_t wanted = arena_bytes(config, machine);
  const bool shared = config.host.arena == ArenaKind::kMemfd;
  Finding finding{.subject = "huge_pages"};
  if (config.host.huge_pages == HugePages::kOff) {
    finding.text = "huge pages: not wanted (host.huge_pages = off)";
  } else if (machine.reserved_free_bytes >= wanted) {
    finding.text = fmt::format("huge pages: {} reserved and free, the arena takes {}",
                               size_text(machine.reserved_free_bytes), size_text(wanted));
  } else if (transparent_allowed(config, machine)) {
    finding.text = fmt::format("huge pages: transparent ones{}, as the kernel finds them ({} reserved)",
                               shared ? " for shared memory" : "", size_text(machine.reserved_free_bytes));
  } else {
    finding.severity = config.host.huge_pages == HugePages::kRequire ? Severity::kFail : Severity::kWarn;
    finding.text =
        fmt::format("huge pages: {} of {} reserved, and transparent ones{} are off: {}",
                    size_text(machine.reserved_free_bytes), size_text(wanted), shared ? " for shared memory" : "",
                    finding.severity == Severity::kFail ? "host.huge_pages = require cannot be met"
                                                        : "the arena is touched page by page and starts slower");
    finding.advice = fmt::format("sysctl -w vm.nr_hugepages={}, or echo {} > /sys/kernel/mm/transparent_hugepage/{}",
                                 (wanted + kHugePageBytes - 1) / kHugePageBytes, shared ? "advise" : "madvise",
                                 shared ? "shmem_enabled" : "enabled");
  }
  return finding;
}

Finding judge_memlock(const Config& config, const MachineFacts& machine) {
  const std::uint64_t wanted = arena_bytes(config, machine);
  Finding finding{.subject = "memlock"};
  if (machine.may_lock_all || machine.memlock_bytes >= wanted) {
    finding.text = machine.may_lock_all ? "memlock: this process may lock what it likes (CAP_IPC_LOCK)"
                                        : fmt::format("memlock limit {}", machine.memlock_bytes == UINT64_MAX
                                                                              ? "unlimited"
                                                                              : size_text(machine.memlock_bytes));
    return finding;
  }
  finding.severity = Severity::kWarn;
  finding.text = fmt::format("memlock limit {}, the arena has {}: it cannot be registered for faster disk IO",
                             size_text(machine.memlock_bytes), size_text(wanted));
  finding.advice = "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit";
  return finding;
}

Finding judge_numa(const MachineFacts& machine) {
  return {.subject = "numa",
          .text = machine.numa_nodes == 1
                      ? "NUMA: one node"
                      : fmt::format("NUMA: {} nodes, the arena is spread evenly over them", machine.numa_nodes)};
}

}  // namespace tiercel::inspect
