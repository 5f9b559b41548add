// World of never_slower_bench: three engines with one model, two caches whose disks are held back.
//
// The caches' arenas are small: before each request its blocks are pushed out of RAM by others that go to no disk, so
// that they come from disk alone. One thread.
#pragma once

#include <tiercel/result.h>
#include <tiercel/stats.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tiercel::bench {

/// What reads are held back to.
struct Disk {
  std::uint64_t bytes_per_second = 0;
  std::uint64_t latency_ms = 0;
};

/// Milliseconds to the first token, a request.
struct Times {
  std::vector<double> computed;
  std::vector<double> loaded;
  std::vector<double> planned;
  double left_share = 0;  ///< of the planned requests' blocks
};

class World {
 public:
  /// Loads the model, computes prompts of about `tokens` tokens and waits until both caches have them on disk.
  [[nodiscard]] static Result<std::unique_ptr<World>> open(const std::string& model, std::size_t tokens);
  virtual ~World() = default;

  /// Of the engine without a cache, measured now.
  [[nodiscard]] virtual double kv_bytes_per_second() = 0;
  [[nodiscard]] virtual Times measure(const Disk& disk, std::size_t requests) = 0;
  /// Of the cache whose loads are planned.
  [[nodiscard]] virtual Stats planned_stats() = 0;
};

}  // namespace tiercel::bench
