// LocalLoad: a load in the same process. Host blocks are held at once; in paranoid mode each is checked by a worker
// before it counts as ready. Its tasks own what they read, so the load may be dropped at any time.
#pragma once

#include "cache/core.h"
#include "cache/session_backend.h"

#include <atomic>
#include <memory>
#include <vector>

namespace tiercel::detail {

class LocalLoad final : public LoadBackend {
 public:
  struct Request {
    const BlockChain& chain;
    std::size_t blocks;  ///< at most chain.size()
    bool beyond_chain;   ///< more blocks were asked for than the chain has
    std::chrono::nanoseconds deadline;
  };
  LocalLoad(std::shared_ptr<CacheCore> core, const Request& request);
  ~LocalLoad() override;

  [[nodiscard]] std::span<const BlockRef> wait() override;
  [[nodiscard]] bool done() override;
  [[nodiscard]] LoadOutcome outcome() const override { return outcome_; }
  [[nodiscard]] std::vector<BlockRef> take() override;

 private:
  enum class Check : std::uint8_t { kPending, kGood, kBad };
  struct Shared {  // with the checking tasks
    std::vector<HeldBlock> held;
    std::vector<BlockRef> refs;
    std::vector<BlockHash> hashes;
    BlockHash fingerprint;
    std::unique_ptr<std::atomic<Check>[]> checks;  // a task's store (release) pairs with leading() (acquire)
  };
  struct Leading {
    std::size_t good = 0;
    bool final = false;  // no later check can change `good`
  };

  void start_checks();
  [[nodiscard]] Leading leading() const;
  [[nodiscard]] bool given_up() const;
  void finish();

  const std::shared_ptr<CacheCore> core_;
  const std::uint64_t started_ns_;
  const std::uint64_t deadline_ns_;
  const std::size_t asked_;
  std::shared_ptr<Shared> shared_;
  std::vector<BlockName> tail_first_;  // filled by finish(), which runs in the destructor too and must not allocate
  LoadOutcome outcome_ = LoadOutcome::kMiss;
  bool finished_ = false;
};

}  // namespace tiercel::detail
