// Goal: any bytes at all are a workload that keeps its rules, and can be replayed, or one sentence with file and line.
#include "base/check.h"
#include "replay/replay.h"
#include "workload/read_workload.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <vector>

namespace {

constexpr std::uint64_t kMostReplayed = 10'000;

/// A file in memory that has a path.
class MemoryFile {
 public:
  MemoryFile()
      : descriptor_(memfd_create("trace", MFD_CLOEXEC)), path_("/proc/self/fd/" + std::to_string(descriptor_)) {
    TIERCEL_CHECK(descriptor_ >= 0, "a file in memory");
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { (void)close(descriptor_); }
  void write_all(const std::uint8_t* data, std::size_t size) {
    TIERCEL_CHECK(ftruncate(descriptor_, 0) == 0, "emptied");
    TIERCEL_CHECK(pwrite(descriptor_, data, size, 0) == static_cast<ssize_t>(size), "written");
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  int descriptor_;
  std::string path_;
};

void check_rules(const tiercel::Workload& workload) {
  std::vector<tiercel::WorkloadBlock> parents(workload.unique_blocks, tiercel::kNoWorkloadBlock - 1);
  std::uint64_t now_ns = 0;
  for (const tiercel::WorkloadRequest& request : workload.requests) {
    TIERCEL_CHECK(request.arrival_ns >= now_ns, "in order of time");
    now_ns = request.arrival_ns;
    tiercel::WorkloadBlock parent = tiercel::kNoWorkloadBlock;
    for (const tiercel::WorkloadBlock block : workload.blocks_of(request)) {
      TIERCEL_CHECK(block < workload.unique_blocks, "numbers are dense");
      TIERCEL_CHECK(parents[block] == parent || parents[block] == tiercel::kNoWorkloadBlock - 1,
                    "a block has one parent");
      parents[block] = parent;
      parent = block;
    }
  }
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): the name that libFuzzer calls
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static MemoryFile file;
  file.write_all(data, size);
  const auto workload = tiercel::read_workload(file.path());
  if (!workload) {
    const std::string& message = workload.error().message;
    TIERCEL_CHECK(message.starts_with(file.path()), "an error names its file");
    TIERCEL_CHECK(message.find('\n') == std::string::npos && message.size() < 1000, "an error is one short line");
    return 0;
  }
  check_rules(*workload);
  if (workload->block_uses.empty() || workload->block_uses.size() > kMostReplayed) return 0;
  const auto names = tiercel::replay_policy_names();
  const auto report = tiercel::replay(
      *workload, {.policies = {names.begin(), names.end()}, .capacities = {{.blocks = 3}, {.share = 0.5}}});
  TIERCEL_CHECK(report.has_value(), "what was read can be replayed");
  for (const tiercel::ReplayCell& cell : report->cells) {
    for (const tiercel::ReplayRun& run : cell.runs) {
      TIERCEL_CHECK(run.hits <= cell.run_of("optimum")->hits, "nothing is better than the optimum");
    }
  }
  return 0;
}
