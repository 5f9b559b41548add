// PrefillReports: the last prefills that an engine has measured, until they go along with its loads. Safe from any
// thread.
//
// Kept after they were sent: a service that was restarted is told them again.
#pragma once

#include "base/mutex.h"
#include "service/wire/messages.h"

#include <tiercel/session.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace tiercel::service {

class PrefillReports {
 public:
  static constexpr std::size_t kKept = 16;

  /// What has no tokens or no time is ignored.
  void add(const PrefillTime& prefill) noexcept {
    if (prefill.tokens == 0 || prefill.time.count() <= 0) return;
    MutexLock lock(mutex_);
    kept_[count_++ % kKept] = {prefill.context_tokens, prefill.tokens,
                               static_cast<std::uint64_t>(prefill.time.count())};
  }

  /// Those that `link` has not been given, oldest first.
  [[nodiscard]] std::vector<wire::PrefillTime> take_for(const void* link) {
    MutexLock lock(mutex_);
    if (link != link_) sent_ = 0;
    const std::uint64_t oldest = count_ - std::min<std::uint64_t>(count_, kKept);
    std::vector<wire::PrefillTime> taken;
    taken.reserve(kKept);
    for (std::uint64_t i = std::max(sent_, oldest); i < count_; ++i) taken.push_back(kept_[i % kKept]);
    link_ = link;
    sent_ = count_;
    return taken;
  }

 private:
  Mutex mutex_;
  std::array<wire::PrefillTime, kKept> kept_ TIERCEL_GUARDED_BY(mutex_){};
  std::uint64_t count_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint64_t sent_ TIERCEL_GUARDED_BY(mutex_) = 0;
  const void* link_ TIERCEL_GUARDED_BY(mutex_) = nullptr;  // never dereferenced
};

}  // namespace tiercel::service
