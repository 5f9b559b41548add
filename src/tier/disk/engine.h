// DiskTier::Engine: composes the disk tier: opens the file and tries again where that fails, recovers it, runs the
// lanes over it, watches the device, and closes it.
//
// Life of a file: kNone (waiting to try) -> kOpening (-> kRaising the epoch) -> kRecovering -> kUp -> kClosing. A file
// that is lost or does not open goes back to kNone. All of it happens in step(), on the driver's thread; the mailbox is
// the only part that other threads touch, apart from two atomics.
#pragma once

#include "base/mutex.h"
#include "tier/disk/breaker.h"
#include "tier/disk/device.h"
#include "tier/disk/disk_mailbox.h"
#include "tier/disk/disk_tier.h"
#include "tier/disk/file_watch.h"
#include "tier/disk/memory_registration.h"
#include "tier/disk/opening.h"
#include "tier/disk/recovery.h"
#include "tier/disk/volume.h"
#include "tier/disk/write_pacer.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace tiercel {

class DiskTier::Engine final : private disk::RecoverySink {
 public:
  Engine(DiskOptions options, FileSystem& files, const Clock& clock, DiskEvents& events);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine() override;

  [[nodiscard]] disk::DiskMailbox& mailbox() noexcept { return mailbox_; }
  [[nodiscard]] DiskState state() const noexcept { return state_.load(std::memory_order_acquire); }
  [[nodiscard]] DiskCounters counters() const;
  [[nodiscard]] bool idle() const noexcept;
  void discard() noexcept { discard_wanted_ = true; }
  void give_up(const std::string& cause) { set_state(DiskState::kOff, cause); }
  bool step(std::uint64_t wait_ns);

 private:
  enum class Phase : std::uint8_t { kNone, kOpening, kRaising, kRecovering, kUp, kClosing, kClosed };

  // Life of the file.
  void advance();
  void begin_opening();
  void opened();
  void begin_recovery();
  void recovered();
  void open_failed(const Error& error);
  void lose(const std::string& cause, bool empty_it);
  void give_up_file(const Error& error, bool empty_it = false);
  void finish_closing();
  void on_region(const disk::TombstoneIndex& buried) override;
  void on_found(std::span<const DiskBlock> blocks) override;

  // The device.
  void take_mail();
  void run_lanes();
  void watch();
  void judge();
  void update_doors();
  void set_state(DiskState state, const std::string& cause);

  void excuse_absence(std::uint64_t since_ns);
  [[nodiscard]] std::uint64_t next_event_ns() const;
  void wait_and_poll(std::uint64_t wait_ns);
  void publish();

  const DiskOptions options_;
  FileSystem& files_;
  const Clock& clock_;
  DiskEvents& events_;
  disk::DiskMailbox mailbox_;

  // The driver's.
  DiskCounters counters_;
  disk::Breaker breaker_;
  disk::WritePacer pacer_;
  disk::Device device_;
  disk::FileWatch watch_;
  disk::MemoryRegistration registration_;
  Phase phase_ = Phase::kNone;
  std::unique_ptr<disk::Opening> opening_;  // after a failure too, until its operations have ended
  std::unique_ptr<FileLock> lock_;
  std::unique_ptr<disk::Recovery> recovery_;
  std::unique_ptr<disk::Volume> volume_;
  std::uint64_t epoch_ = 0;         // of the last file that was open
  std::uint64_t next_try_ns_ = 0;   // to open it, in kNone
  std::uint32_t failed_opens_ = 0;  // in a row
  bool opened_once_ = false;
  bool hurried_ = false;               // what had not begun was answered, at the end
  bool discard_wanted_ = false;        // what the file holds is to go
  bool discards_ = false;              // it goes, or went, with the opening at hand
  std::optional<Status> raised_;       // the answer to kRaising
  std::uint64_t recovered_bytes_ = 0;  // when recovery was last asked
  bool owner_is_at_it_ = false;        // what recovery has found is not taken in yet
  bool quiet_ = false;                 // it was lost while its table was read: nobody reads blocks before all of it is
  std::uint64_t away_ns_ = 0;          // between the last poll and the end of its step
  std::string cause_;                  // of the state

  std::atomic<DiskState> state_{DiskState::kStarting};  // pairs: set_state (release) with state (acquire)
  std::atomic<bool> busy_{true};  // lanes or operations; pairs: publish (release) with idle (acquire)
  mutable Mutex published_mutex_;
  DiskCounters published_ TIERCEL_GUARDED_BY(published_mutex_);
};

}  // namespace tiercel
