// DiskMailbox: what other threads ask of a disk tier, until its driver takes it. The any-thread side of DiskTier.
//
// Bounded: a job counts from its submit until the driver has answered it (answered()). Writes, clears and burials keep
// their order; reads go apart. The doors say what is taken at all: the driver opens and closes them with its state. No
// call blocks but for the mutex, which is held for a push or a swap; wait() is the driver's, while it has no file.
#pragma once

#include "base/mutex.h"
#include "io/io_backend.h"
#include "tier/disk/disk_tier.h"

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <variant>
#include <vector>

namespace tiercel::disk {

struct ClearJob {
  std::uint32_t slot = 0;
};

struct BuryJob {
  std::vector<Tombstone> tombstones;
  std::vector<std::uint32_t> slots;
  std::function<void(const Status&)> done;
  BuryScope scope = BuryScope::kSlots;
};

using OrderedJob = std::variant<DiskWrite, ClearJob, BuryJob>;

struct Mail {
  std::vector<DiskRead> reads;
  std::vector<OrderedJob> ordered;
  std::optional<std::vector<std::uint32_t>> checkpoint;
  std::optional<std::uint64_t> forget_deletes;  ///< after all of it; the epoch that is to be carried on
};

class DiskMailbox {
 public:
  enum class Kind : std::uint8_t { kRead = 0, kWrite = 1, kBury = 2, kCheckpoint = 3 };

  /// `most`: jobs of a kind that are not answered.
  explicit DiskMailbox(std::uint32_t most) : most_(most) {}

  // Any thread.
  [[nodiscard]] DiskSubmit read(DiskRead&& job);
  [[nodiscard]] DiskSubmit write(DiskWrite&& job);
  void clear(std::uint32_t slot);
  void forget_deletes(std::uint64_t epoch) noexcept;
  [[nodiscard]] DiskSubmit bury(std::span<const Tombstone> tombstones, std::span<const std::uint32_t> slots,
                                std::function<void(const Status&)> done, BuryScope scope);
  [[nodiscard]] DiskSubmit checkpoint(std::vector<std::uint32_t> coldest_first);
  void wake() noexcept;
  void close() noexcept;
  void hurry() noexcept;
  [[nodiscard]] bool hurried() const noexcept { return hurried_.load(std::memory_order_acquire); }
  [[nodiscard]] bool closing() const noexcept { return closing_.load(std::memory_order_acquire); }
  /// Jobs that are not answered, and whether there is mail.
  [[nodiscard]] std::uint64_t unanswered() const noexcept;
  [[nodiscard]] bool has_mail() const noexcept;

  // The driver.
  struct Doors {
    bool reads = false;
    bool writes = false;  ///< writes, burials, checkpoints
    bool clears = false;
  };
  void set_doors(const Doors& doors);
  /// Everything that has come since the last call, in `mail` (which is empty).
  void take(Mail& mail);
  /// Answers everything in it so. Clears have nobody to tell.
  void refuse(const Mail& mail, const Error& error);
  void answered(Kind kind) noexcept { count(kind).fetch_sub(1, std::memory_order_acq_rel); }
  /// Whom to wake while the driver waits for IO; nullptr: it waits here, or nowhere.
  void set_backend(IoBackend* backend) noexcept;
  /// The driver is about to wait: false if there is mail, or a wake() has come since the last wait.
  [[nodiscard]] bool begin_wait() noexcept;
  void end_wait() noexcept;
  /// Waits for a wake() or mail, at most `wait_ns`.
  void wait(std::uint64_t wait_ns);

 private:
  [[nodiscard]] std::atomic<std::uint32_t>& count(Kind kind) noexcept {
    return counts_[static_cast<std::size_t>(kind)];
  }
  [[nodiscard]] bool room(Kind kind) noexcept { return count(kind).load(std::memory_order_acquire) < most_; }
  [[nodiscard]] bool mail_waits() const TIERCEL_REQUIRES(mutex_) {
    return !mail_.reads.empty() || !mail_.ordered.empty() || mail_.checkpoint.has_value() ||
           mail_.forget_deletes.has_value();
  }
  void rouse() noexcept TIERCEL_REQUIRES(mutex_);

  const std::uint32_t most_;
  mutable Mutex mutex_;
  std::condition_variable roused_;
  Mail mail_ TIERCEL_GUARDED_BY(mutex_);
  Doors doors_ TIERCEL_GUARDED_BY(mutex_);
  IoBackend* backend_ TIERCEL_GUARDED_BY(mutex_) = nullptr;
  bool waiting_ TIERCEL_GUARDED_BY(mutex_) = false;  // the driver waits, or is about to
  bool woken_ TIERCEL_GUARDED_BY(mutex_) = false;
  std::atomic<bool> hurried_{false};                    // pairs: hurry (release) with hurried (acquire)
  std::atomic<bool> closing_{false};                    // pairs: close (release) with closing (acquire)
  std::array<std::atomic<std::uint32_t>, 4> counts_{};  // jobs not answered; submit and answered pair (acq_rel)
};

}  // namespace tiercel::disk
