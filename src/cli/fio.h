// fio: the program that `tiercel bench disk` measures itself against, run as a child on a file of its own.
//
// The same size, block, depth, direction and kind of IO, O_DIRECT, one job, in a random order over the whole file, as
// our own measurement. Blocks the calling thread.
#pragma once

#include <tiercel/disk_bench.h>
#include <tiercel/result.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::cli {

struct FioJob {
  std::string program = "fio";
  std::string file;
  std::string engine;  ///< "io_uring" or "libaio"
  std::uint64_t file_bytes = 0;
  std::uint64_t block_bytes = 0;
  std::uint32_t depth = 1;
  DiskDirection direction = DiskDirection::kRead;
  std::chrono::milliseconds duration{0};  ///< 0: every byte of the file is written once, in order
};

/// kNotFound: fio is not installed.
[[nodiscard]] Result<DiskSpeed> run_fio(const FioJob& job, const std::atomic<bool>* cancel);

[[nodiscard]] std::vector<std::string> fio_arguments(const FioJob& job);
/// What fio says with --output-format=json.
[[nodiscard]] Result<DiskSpeed> read_fio_output(std::string_view output, DiskDirection direction);

}  // namespace tiercel::cli
