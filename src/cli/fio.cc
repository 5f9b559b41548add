#include "cli/fio.h"

#include "cli/child_process.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace tiercel::cli {
namespace {

constexpr std::chrono::seconds kFillPatience(1800);
constexpr std::chrono::seconds kMeasurePatience(60);  // beyond the time it is to run
constexpr std::size_t kShownOutput = 400;

std::string shown(std::string_view output) {
  return std::string(output.substr(0, std::min(output.size(), kShownOutput)));
}

}  // namespace

std::vector<std::string> fio_arguments(const FioJob& job) {
  const bool fill = job.duration.count() == 0;
  const char* order = fill ? "write" : job.direction == DiskDirection::kRead ? "randread" : "randwrite";
  std::vector<std::string> arguments = {job.program,
                                        "--name=bench",
                                        "--thread",
                                        "--output-format=json",
                                        "--filename=" + job.file,
                                        fmt::format("--rw={}", order),
                                        fmt::format("--bs={}", job.block_bytes),
                                        fmt::format("--size={}", job.file_bytes),
                                        fmt::format("--iodepth={}", job.depth),
                                        "--ioengine=" + job.engine,
                                        "--direct=1"};
  if (!fill) {
    arguments.emplace_back("--time_based");
    arguments.push_back(fmt::format("--runtime={}ms", job.duration.count()));
    arguments.emplace_back("--overwrite=1");  // the file stays as it was written
    arguments.emplace_back("--randrepeat=0");
  }
  return arguments;
}

Result<DiskSpeed> read_fio_output(std::string_view output, DiskDirection direction) {
  // Warnings may come first.
  const std::size_t begin = output.find('{');
  const auto json = nlohmann::json::parse(begin == std::string_view::npos ? "" : output.substr(begin), nullptr, false);
  try {
    const auto& job = json.at("jobs").at(0);
    const auto& side = job.at(direction == DiskDirection::kRead ? "read" : "write");
    DiskSpeed speed{.blocks = side.at("total_ios").get<std::uint64_t>(),
                    .bytes = side.at("io_bytes").get<std::uint64_t>(),
                    .seconds = side.at("runtime").get<double>() / 1000};
    speed.cpu_seconds = (job.at("usr_cpu").get<double>() + job.at("sys_cpu").get<double>()) / 100 * speed.seconds;
    if (speed.bytes > 0 && speed.seconds > 0) return speed;
    return fail(ErrorCode::kIo, "fio moved nothing");
  } catch (const nlohmann::json::exception&) {
    return fail(ErrorCode::kIo, fmt::format("fio's answer cannot be read: {}", shown(output)));
  }
}

Result<DiskSpeed> run_fio(const FioJob& job, const std::atomic<bool>* cancel) {
  const auto patience = job.duration.count() == 0
                            ? kFillPatience
                            : std::chrono::duration_cast<std::chrono::seconds>(job.duration) + kMeasurePatience;
  const auto outcome = run_child(fio_arguments(job), patience, cancel);
  if (!outcome) return tl::unexpected<Error>(outcome.error());
  if (outcome->exit_status != 0) {
    return fail(ErrorCode::kIo, fmt::format("fio ended with {}: {}", outcome->exit_status, shown(outcome->output)));
  }
  return read_fio_output(outcome->output, job.duration.count() == 0 ? DiskDirection::kWrite : job.direction);
}

}  // namespace tiercel::cli
