// SimDisk: one disk of a simulated machine, which holds one directory: which faults it shows, whether it is there, and
// whether anything happened on it. Outlives the boots.
//
// It goes away in two ways. Away for a while: what is open fails, and works again when it is back. Pulled out: what was
// open fails for ever, and what was not synced may be lost, as in a power cut; the path finds the files again when it
// is mounted anew. One thread at a time.
#pragma once

#include "sim/fault_plan.h"

#include <cstdint>
#include <string>
#include <utility>

namespace tiercel::sim {

class SimDisk {
 public:
  struct Options {
    std::string directory = "/disk";   ///< may not be the parent of another's
    std::uint64_t bytes = UINT64_MAX;  ///< its size
    FaultPlan faults;
  };
  explicit SimDisk(const Options& options) : options_(options), dice_(options.faults) {}

  [[nodiscard]] const std::string& directory() const noexcept { return options_.directory; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return options_.bytes; }
  [[nodiscard]] bool has(const std::string& path) const noexcept {
    return path.starts_with(options_.directory) &&
           (path.size() == options_.directory.size() || path[options_.directory.size()] == '/');
  }
  [[nodiscard]] FaultDice& dice() noexcept { return dice_; }
  [[nodiscard]] const FaultDice& dice() const noexcept { return dice_; }

  [[nodiscard]] bool is_there() const noexcept { return there_; }
  void go_away() noexcept { there_ = false; }
  void come_back() noexcept { there_ = true; }
  /// What is open now is dead from here on.
  void pull_out() noexcept { there_ = false, ++mount_; }
  /// Of what is opened now; it is dead when the number is another one.
  [[nodiscard]] std::uint64_t mount() const noexcept { return mount_; }

  /// Was there anything for its driver since the last call?
  [[nodiscard]] bool take_poke() noexcept { return std::exchange(poked_, false); }
  void poke() noexcept { poked_ = true; }

 private:
  const Options options_;
  FaultDice dice_;
  bool there_ = true;
  std::uint64_t mount_ = 0;
  bool poked_ = false;
};

}  // namespace tiercel::sim
