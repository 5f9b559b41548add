// LocalLoad: a load in the same process. Host blocks are held at once; in paranoid mode each is checked by a worker
// before it counts as ready. Blocks that are on disk alone are being read when the constructor returns (core.h,
// acquire). Its tasks own what they read, so the load may be dropped at any time.
#pragma once

#include "cache/core.h"
#include "cache/load_planning.h"
#include "cache/session_backend.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

namespace tiercel::detail {

class LocalLoad final : public LoadBackend {
 public:
  struct Request {
    ChainRef chain;
    std::size_t blocks;        ///< at most chain.size()
    bool beyond_chain;         ///< more blocks were asked for than the chain has
    bool refused;              ///< by the mode: nothing is loaded, the outcome is kMiss
    std::uint64_t slot_bytes;  ///< of a block in the arena
    std::chrono::nanoseconds deadline;
    std::unique_ptr<LoadPlan> plan = nullptr;  ///< by which `blocks` was chosen; null: there is none
  };
  LocalLoad(std::shared_ptr<CacheCore> core, Request request);
  ~LocalLoad() override;

  [[nodiscard]] std::span<const BlockRef> wait() override;
  [[nodiscard]] bool done() override;
  [[nodiscard]] std::span<const BlockRef> so_far() override;
  [[nodiscard]] LoadOutcome outcome() const override { return outcome_; }
  [[nodiscard]] std::vector<BlockRef> take() override;
  /// After done(): the blocks that wait() gives, as the core knows them. For a server, whose client maps them itself.
  [[nodiscard]] std::span<const HeldBlock> held() const noexcept { return std::span(shared_->held).first(known_good_); }
  /// When done() may become true though nothing has come: its deadline, or when its plan is looked at again.
  [[nodiscard]] std::uint64_t next_look_ns() const noexcept { return std::min(deadline_ns_, look_ns_); }
  /// Likewise of so_far(), before done().
  [[nodiscard]] std::span<const HeldBlock> held_so_far() const {
    return std::span(shared_->held).first(leading().good);
  }

 private:
  enum class Check : std::uint8_t { kPending, kGood, kBad };
  struct Shared {  // with the checking tasks
    std::vector<HeldBlock> held;
    std::vector<std::shared_ptr<Promotion>> promotions;  ///< one a block; null: it was here
    std::vector<BlockRef> refs;
    std::vector<BlockHash> hashes;
    BlockHash fingerprint;
    std::unique_ptr<std::atomic<Check>[]> checks;  // a task's store (release) pairs with leading() (acquire)
  };
  struct Leading {
    std::size_t good = 0;
    bool final = false;                        // no later check or read can change `good`
    LoadOutcome end = LoadOutcome::kComplete;  // if final: why the block after the last good one is not
  };

  void start_checks();
  void start_check(std::size_t begin, std::size_t end);
  [[nodiscard]] Leading of_block(std::size_t i) const;
  [[nodiscard]] Leading leading() const;
  [[nodiscard]] bool given_up();
  void look_again();
  void count(std::span<const std::uint64_t, 2> blocks) const;
  void finish() noexcept;

  const std::shared_ptr<CacheCore> core_;
  const std::uint64_t started_ns_;
  const std::uint64_t deadline_ns_;
  const std::size_t asked_;
  std::uint64_t look_ns_ = UINT64_MAX;  // when the load is late by its plan
  std::unique_ptr<LoadPlan> plan_;
  bool slower_ = false;  // it was late, and the engine computes the rest sooner
  std::shared_ptr<Shared> shared_;
  LoadOutcome acquired_ = LoadOutcome::kComplete;  // why fewer were acquired than asked for
  LoadOutcome outcome_ = LoadOutcome::kMiss;
  mutable std::size_t known_good_ = 0;
  bool finished_ = false;
};

}  // namespace tiercel::detail
