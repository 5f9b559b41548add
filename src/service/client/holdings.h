// Holdings: what one session of this process holds in the arena of one run of the service: for each slot, how many
// handles use it and how many grants the service has given. The last handle gives the grants back.
//
// Keeps the arena mapped. Safe from any thread; its mutex is a leaf. It outlives sessions and links: handles keep it.
#pragma once

#include "base/mapping.h"
#include "base/mutex.h"
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

  /// A grant has arrived: one handle uses it. False: it lies outside the arena, and nothing is counted.
  [[nodiscard]] bool granted(const wire::Place& place);
  [[nodiscard]] std::span<std::byte> bytes(const wire::Place& place) const noexcept {
    return {arena_->data() + place.offset(), place.length()};
  }
  [[nodiscard]] CopyPin adopt(std::uint32_t slot) { return {shared_from_this(), slot}; }

  void retain(std::uint32_t slot) noexcept override;
  void release(std::uint32_t slot) noexcept override;

  /// Where one handle with one grant is all there is: both end here, and the caller tells the service.
  [[nodiscard]] bool hand_back(std::uint32_t slot) noexcept;
  /// The service did not take it after all.
  void take_again(std::uint32_t slot) noexcept;

  /// What is to be given back, once.
  [[nodiscard]] std::vector<wire::Grants> take_returned();
  /// All that is still held; forgets what is to be given back, as this says it too.
  [[nodiscard]] std::vector<wire::Grants> all();
  [[nodiscard]] bool empty() const;

 private:
  struct Count {
    std::uint32_t handles = 0;
    std::uint32_t grants = 0;
  };
  const std::shared_ptr<const Mapping> arena_;
  const std::function<void()> returned_;
  mutable Mutex mutex_;
  std::vector<Count> counts_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<wire::Grants> to_return_ TIERCEL_GUARDED_BY(mutex_);
  std::size_t held_slots_ TIERCEL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tiercel::service
