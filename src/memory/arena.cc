#include "memory/arena.h"

#include "base/log.h"
#include "base/try.h"

#include <fmt/format.h>
#include <numa.h>

#include <algorithm>
#include <new>

namespace tiercel {
namespace {

/// Node n of k gets the n-th part of the range. Preferred, not bound: a full node must not kill the process.
void spread_over_numa_nodes(const Mapping& mapping) {
  if (numa_available() < 0) return;
  const int nodes = numa_num_configured_nodes();
  if (nodes < 2) return;
  const std::uint64_t part = mapping.bytes() / static_cast<std::uint64_t>(nodes) / kHugePageBytes * kHugePageBytes;
  for (int node = 0; node < nodes; ++node) {
    const std::uint64_t begin = part * static_cast<std::uint64_t>(node);
    const std::uint64_t end = node + 1 == nodes ? mapping.bytes() : begin + part;
    numa_tonode_memory(mapping.data() + begin, end - begin, node);
  }
}

}  // namespace

Result<std::shared_ptr<Arena>> Arena::create(const HostConfig& host) {
  TIERCEL_TRY_ASSIGN(
      Mapping mapping,
      Mapping::create(
          {.bytes = host.capacity, .huge_pages = host.huge_pages, .kind = host.arena, .name = "host.capacity"}));
  if (numa_available() >= 0) numa_set_strict(0);
  spread_over_numa_nodes(mapping);
  if (mapping.page_kind() == PageKind::kOrdinary && host.huge_pages == HugePages::kAuto) {
    log_line(LogLevel::kInfo, "huge_pages",
             fmt::format("host arena of {} on ordinary 4 KiB pages: the system gives no huge ones "
                         "(sysctl vm.nr_hugepages={} reserves them)",
                         fmt::format("{} MiB", host.capacity >> 20U), host.capacity / kHugePageBytes));
  }
  return std::make_shared<Arena>(std::move(mapping));
}

void Arena::start_prefault(Executor& executor, std::uint64_t piece_bytes) {
  std::size_t chains = 0;
  for (std::size_t i = 0; i < executor.concurrency(); ++i) {
    chains += queue_prefault(shared_from_this(), executor, piece_bytes) ? 1U : 0U;
  }
  if (chains == 0) {
    log_line(LogLevel::kWarn, "prefault",
             "host arena: pages are not provided ahead of use: no worker's queue has room for it");
  }
}

bool Arena::queue_prefault(const std::shared_ptr<Arena>& arena, Executor& executor,
                           std::uint64_t piece_bytes) noexcept {
  try {
    return executor.submit([arena, &executor, piece_bytes] { prefault_pieces(arena, executor, piece_bytes); });
  } catch (const std::bad_alloc&) {
    return false;
  }
}

/// One task touches one piece and queues the next, so that other work of the executor gets its turn between pieces.
/// Where the queue has no room (or the task no memory) it goes on in its own place: the chain ends with the arena.
void Arena::prefault_pieces(const std::shared_ptr<Arena>& arena, Executor& executor, std::uint64_t piece_bytes) {
  do {
    const std::uint64_t offset = arena->next_.fetch_add(piece_bytes, std::memory_order_relaxed);
    if (offset >= arena->bytes() || arena->stop_.load(std::memory_order_acquire)) return;
    const std::uint64_t bytes = std::min(piece_bytes, arena->bytes() - offset);
    if (const Status status = arena->mapping_.populate(offset, bytes); !status) {
      arena->stop_prefault();
      log_line(LogLevel::kWarn, "prefault",
               fmt::format("host arena: pages are not provided ahead of use from {} MiB on: {}", offset >> 20U,
                           status.error().message));
      return;
    }
    arena->prefaulted_.fetch_add(bytes, std::memory_order_acq_rel);
  } while (!queue_prefault(arena, executor, piece_bytes));
}

}  // namespace tiercel
