#include "inspect/findings.h"

#include <tiercel/disk_bench.h>
#include <tiercel/doctor.h>

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace tiercel {
namespace {

using inspect::DirectoryFacts;

constexpr std::uint32_t kMostDepth = 64;  // more would need a larger file than a quick look should write

Finding not_measured(const DirectoryFacts& directory, const Error& error) {
  return {.severity = error.code == ErrorCode::kLimit ? Severity::kWarn : Severity::kFail,
          .subject = "speed",
          .text = fmt::format("speed not measured: {}", error.message),
          .advice = error.code == ErrorCode::kLimit ? fmt::format("free space in {}", directory.path)
                                                    : "see the kernel's log for errors of the device"};
}

Finding measure(const DirectoryFacts& directory, const Config& config, const ExamineOptions& options) {
  auto bench = DiskBench::create({.directory = directory.path,
                                  .file_bytes = options.measured_bytes,
                                  .depth = std::min(config.disk.depth, kMostDepth),
                                  .io = config.disk.io,
                                  .direct = config.disk.direct,
                                  .cancel = options.cancel});
  if (!bench) return not_measured(directory, bench.error());
  const auto read = bench->measure(DiskDirection::kRead, options.measured_time);
  if (!read) return not_measured(directory, read.error());
  const auto write = bench->measure(DiskDirection::kWrite, options.measured_time);
  if (!write) return not_measured(directory, write.error());
  Finding finding = inspect::judge_speed(directory, *read, *write);
  finding.text += fmt::format(" (1 MiB, depth {}, {})", std::min(config.disk.depth, kMostDepth), bench->io_engine());
  return finding;
}

}  // namespace

std::string_view severity_name(Severity severity) noexcept {
  switch (severity) {
    case Severity::kOk:
      return "ok";
    case Severity::kWarn:
      return "warn";
    case Severity::kFail:
      return "fail";
  }
  return "unknown";
}

std::vector<Finding> examine(const Config& config, const ExamineOptions& options) {
  const inspect::MachineFacts machine = inspect::read_machine_facts(config.disk.io);
  std::vector<Finding> findings{inspect::judge_io_uring(config, machine), inspect::judge_memory(config, machine),
                                inspect::judge_huge_pages(config, machine), inspect::judge_memlock(config, machine),
                                inspect::judge_numa(machine)};
  std::vector<DirectoryFacts> directories;
  for (std::size_t i = 0; i < config.disk.directories.size(); ++i) {
    directories.push_back(inspect::read_directory_facts(config.disk.directories[i]));
    const DirectoryFacts& directory = directories.back();
    for (Finding& finding : inspect::judge_directory(directory, inspect::file_share(config, i), config.disk.direct)) {
      findings.push_back(std::move(finding));
    }
    const bool cancelled = options.cancel != nullptr && options.cancel->load();
    if (options.measure && directory.writable && !cancelled) findings.push_back(measure(directory, config, options));
  }
  for (Finding& finding : inspect::judge_together(directories)) findings.push_back(std::move(finding));
  return findings;
}

}  // namespace tiercel
