// Holdings: what one session of this process holds in the arena of one run of the service: for each slot, how many
// handles use it and how many grants the service has given. The last handle gives the grants back.
//
// Keeps the arena mapped, and the member's life descriptor: the service (this run, or one that adopts the arena) sees
// by its end that nothing is held any more. Safe from any thread; its mutex is a leaf. It outlives sessions and links:
// handles keep it.
//
// Epochs: when a connection takes up the grants of an earlier one, all() tells the service what is still held, and
// begins a new epoch. A reply of the earlier connection that nobody had looked at until then grants nothing any more:
// the service has ended what was not told. So whoever counts a grant says from which epoch its reply is.
#pragma once

#include "base/mapping.h"
#include "base/mutex.h"
#include "io/file_descriptor.h"
#include "service/wire/messages.h"

#include <tiercel/session.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace tiercel::service {

class Holdings final : public detail::SlotKeeper, public std::enable_shared_from_this<Holdings> {
 public:
  /// `returned` is called after something was given back while nothing else waited to be sent; from any thread.
  Holdings(std::shared_ptr<const Mapping> arena, std::uint32_t slots, std::function<void()> returned)
      : arena_(std::move(arena)), returned_(std::move(returned)), counts_(slots) {}

  enum class Grant : std::uint8_t { kTaken, kStale, kOutside };
  /// A grant has arrived: one handle uses it. Else nothing is counted: its epoch is over, or it lies outside the arena.
  [[nodiscard]] Grant granted(const wire::Place& place, std::uint64_t epoch);
  [[nodiscard]] std::span<std::byte> bytes(const wire::Place& place) const noexcept {
    return {arena_->data() + place.offset(), place.length()};
  }
  [[nodiscard]] const std::shared_ptr<const Mapping>& arena() const noexcept { return arena_; }
  /// In place of the one before.
  void keep_life(FileDescriptor life) noexcept;
  [[nodiscard]] CopyPin adopt(std::uint32_t slot) { return {shared_from_this(), slot}; }

  void retain(std::uint32_t slot) noexcept override;
  void release(std::uint32_t slot) noexcept override;

  /// Where one handle with one grant is all there is: both end here, and the caller tells the service.
  [[nodiscard]] bool hand_back(std::uint32_t slot, std::uint64_t epoch) noexcept;
  /// The service did not take it after all. False: its epoch is over, and the slot is not ours any more.
  [[nodiscard]] bool take_again(std::uint32_t slot, std::uint64_t epoch) noexcept;

  /// After hand_back(): the service has taken it, or nobody knows.
  void handed_over() noexcept;

  /// What is to be given back, once; nothing for an epoch that is over.
  [[nodiscard]] std::vector<wire::Grants> take_returned(std::uint64_t epoch);
  struct All {
    std::vector<wire::Grants> grants;
    std::uint64_t epoch = 0;  ///< that begins with this
  };
  /// All that is still held; forgets what is to be given back, as this says it too.
  [[nodiscard]] All all();
  [[nodiscard]] bool empty() const;

 private:
  struct Count {
    std::uint32_t handles = 0;
    std::uint32_t grants = 0;
  };
  const std::shared_ptr<const Mapping> arena_;
  const std::function<void()> returned_;
  mutable Mutex mutex_;
  FileDescriptor life_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<Count> counts_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<wire::Grants> to_return_ TIERCEL_GUARDED_BY(mutex_);
  std::size_t held_slots_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint64_t epoch_ TIERCEL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tiercel::service
