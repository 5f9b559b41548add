// ReplayPolicy: what one tier of a fixed number of blocks holds, under a policy, while a workload is replayed.
//
// The rules are the same for all: blocks have one size; a block is a hit only if all blocks before it in the request
// are hits; a request's blocks are used tail first, so that the head counts as used last; what is too much goes at the
// end of the request. A policy is a deterministic object: state inside, time and randomness as arguments, no IO, no
// locks. One thread at a time. replay() in replay.h drives it.
#pragma once

#include "base/check.h"
#include "base/function_ref.h"
#include "replay/slice_timer.h"
#include "workload/workload.h"

#include <cstdint>
#include <span>
#include <string>

namespace tiercel {

class ReplayPolicy {
 public:
  struct Request {
    std::span<const WorkloadBlock> blocks;  ///< head first
    std::uint64_t now_ns = 0;               ///< never goes back
    std::uint32_t output_tokens = 0;
    // Hints, where the replay gives any.
    std::uint32_t session = UINT32_MAX;  ///< UINT32_MAX: not known
    bool ends_session = false;
  };

  explicit ReplayPolicy(std::uint64_t capacity) : capacity_(capacity) {}
  ReplayPolicy(const ReplayPolicy&) = delete;
  ReplayPolicy& operator=(const ReplayPolicy&) = delete;
  virtual ~ReplayPolicy() = default;

  /// Serves the next request of the workload; answers how many of its blocks were hits.
  std::uint64_t serve(const Request& request) {
    const std::uint64_t hits = leading_held(request.blocks);
    use(request);
    TIERCEL_CHECK(held() <= capacity_, "a policy holds no more than its capacity");
    return hits;
  }
  [[nodiscard]] virtual bool holds(WorkloadBlock block) const = 0;
  [[nodiscard]] virtual std::uint64_t held() const = 0;
  [[nodiscard]] std::uint64_t capacity() const noexcept { return capacity_; }
  /// What the policy says of itself, in a sentence; empty: nothing.
  [[nodiscard]] virtual std::string state() const { return {}; }
  /// Of policies that can give up what they learn.
  [[nodiscard]] virtual bool fell_back() const { return false; }

  /// Of policies that work in slices: each is timed; `timer` outlives the policy.
  void time_slices(SliceTimer& timer) { timer_ = &timer; }

 protected:
  void run_slice(FunctionRef<void()> slice) {
    if (timer_ == nullptr) {
      slice();
    } else {
      timer_->run(slice);
    }
  }

 private:
  [[nodiscard]] virtual std::uint64_t leading_held(std::span<const WorkloadBlock> blocks) const {
    std::uint64_t count = 0;
    while (count < blocks.size() && holds(blocks[count])) ++count;
    return count;
  }
  virtual void use(const Request& request) = 0;

  std::uint64_t capacity_;
  SliceTimer* timer_ = nullptr;
};

}  // namespace tiercel
