// LocalReservation: the writers of one reserve in the same process. Its mutex guards the items and is taken before the
// core's; it is never held while a writer's bytes move.
#pragma once

#include "cache/core.h"
#include "cache/session_backend.h"

#include <memory>
#include <optional>
#include <vector>

namespace tiercel::detail {

class EngineGroup;

class LocalReservation final : public ReservationBackend {
 public:
  struct Request {
    ChainRef chain;
    std::size_t first;
    std::size_t count;
    std::uint64_t block_bytes;
    std::uint64_t slot_bytes;
    std::optional<Reserved> answer;  ///< refused: kClosed, or by the mode kBusy, for every block
  };
  LocalReservation(std::shared_ptr<CacheCore> core, const Request& request, std::shared_ptr<EngineGroup> engine);
  ~LocalReservation() override;

  [[nodiscard]] std::size_t size() const noexcept override { return outcomes_.size(); }
  [[nodiscard]] Reserved outcome(std::size_t item) const override { return outcomes_[item]; }
  [[nodiscard]] std::span<std::byte> bytes(std::size_t item) const override;
  [[nodiscard]] CopyPin begin_copy(std::size_t item) const override;
  [[nodiscard]] Status commit(std::size_t item, std::optional<std::size_t> size) override;
  void abort(std::size_t item) noexcept override;
  void finish() noexcept override;
  [[nodiscard]] std::uint64_t id() const noexcept override { return id_; }

  /// The session or a member ended: nothing here can be committed any more, while writers may still write.
  void revoke() noexcept;
  [[nodiscard]] Result<std::vector<BlockPart>> parts(std::span<const std::size_t> blocks) const;
  [[nodiscard]] Status report(std::span<const std::size_t> blocks, std::uint32_t member);
  /// Where an item with a writer lies.
  [[nodiscard]] SlotId slot(std::size_t item) const;

 private:
  enum class State : std::uint8_t { kNone, kOpen, kRevoked, kDone };
  struct Item {
    Fill fill;
    State state = State::kNone;
    std::uint64_t parts_missing = 0;  // a bit a member that has not reported
  };
  [[nodiscard]] Status check_blocks(std::span<const std::size_t> blocks) const TIERCEL_REQUIRES(mutex_);

  const std::shared_ptr<CacheCore> core_;
  const std::shared_ptr<EngineGroup> engine_;
  const BlockHash fingerprint_;
  const std::uint64_t id_;
  const std::uint64_t block_bytes_;
  const std::uint64_t started_ns_;
  std::vector<BlockHash> hashes_;  // of the blocks [0, first + size()), for the touch at the end; finish() takes them
  std::size_t first_;
  std::vector<Reserved> outcomes_;  // written by the constructor alone

  mutable Mutex mutex_;
  std::vector<Item> items_ TIERCEL_GUARDED_BY(mutex_);
  bool committed_any_ TIERCEL_GUARDED_BY(mutex_) = false;  // or tried to
};

}  // namespace tiercel::detail
