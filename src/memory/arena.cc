#include "memory/arena.h"

#include "base/log.h"
#include "base/try.h"

#include <fmt/format.h>
#include <numa.h>

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

Mapping::Options options_of(const HostConfig& host) {
  return {.bytes = host.capacity, .huge_pages = host.huge_pages, .kind = host.arena, .name = "host.capacity"};
}

void finish(const Mapping& mapping, const HostConfig& host) {
  if (numa_available() >= 0) numa_set_strict(0);
  spread_over_numa_nodes(mapping);
  if (mapping.page_kind() == PageKind::kOrdinary && host.huge_pages == HugePages::kAuto) {
    log_line(LogLevel::kInfo, "huge_pages",
             fmt::format("host arena of {} on ordinary 4 KiB pages: the system gives no huge ones "
                         "(sysctl vm.nr_hugepages={} reserves them)",
                         fmt::format("{} MiB", host.capacity >> 20U), host.capacity / kHugePageBytes));
  }
}

}  // namespace

Result<std::shared_ptr<Arena>> Arena::create(const HostConfig& host) {
  TIERCEL_TRY_ASSIGN(Mapping mapping, Mapping::create(options_of(host)));
  finish(mapping, host);
  return std::make_shared<Arena>(std::make_shared<Mapping>(std::move(mapping)));
}

Result<std::shared_ptr<Arena>> Arena::reserve(const HostConfig& host) {
  TIERCEL_TRY_ASSIGN(Mapping mapping, Mapping::reserve(host.capacity));
  return std::make_shared<Arena>(std::make_shared<Mapping>(std::move(mapping)));
}

Status Arena::fill(const HostConfig& host) {
  TIERCEL_TRY(own_->fill(options_of(host)));
  finish(*own_, host);
  return {};
}

Status Arena::adopt(int fd, const HostConfig& host) { return own_->fill_with(fd, host.huge_pages); }

}  // namespace tiercel
