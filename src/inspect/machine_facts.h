// MachineFacts: what the machine and the control groups of this process give a cache: memory, huge pages, limits,
// io_uring. Values. What cannot be found out keeps its default.
#pragma once

#include <tiercel/config.h>

#include <cstdint>
#include <optional>
#include <string>

namespace tiercel::inspect {

struct MachineFacts {
  std::string io_engine;                 ///< "io_uring" or "threads": what a cache will use
  std::string io_reason;                 ///< why threads
  std::optional<int> io_uring_disabled;  ///< sysctl kernel.io_uring_disabled: 0, 1 or 2
  bool seccomp = false;                  ///< system calls of this process are filtered

  std::uint64_t memory_bytes = 0;            ///< of the machine
  std::uint64_t machine_free_bytes = 0;      ///< what the machine has available
  std::uint64_t available_bytes = 0;         ///< to this process: also under the limits of its control groups
  std::uint64_t memlock_bytes = UINT64_MAX;  ///< RLIMIT_MEMLOCK
  bool may_lock_all = false;                 ///< CAP_IPC_LOCK: the limit does not count

  std::uint64_t reserved_free_bytes = 0;  ///< free pages of 2 MiB of vm.nr_hugepages
  std::string transparent;                ///< the chosen word of transparent_hugepage/enabled
  std::string transparent_shared;         ///< of shmem_enabled: for memfds

  std::uint32_t numa_nodes = 1;
};

/// `root` is "" on a real system; tests put a small tree of /proc and /sys files there.
[[nodiscard]] MachineFacts read_machine_facts(DiskIo io, const std::string& root = "");

}  // namespace tiercel::inspect
