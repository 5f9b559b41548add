// BenchFile: a disk tier of its own in a directory that it makes, with a thread that drives it.
//
// Owns directory, lock, file and thread; the destructor closes the tier, waits a bounded time for a device that hangs
// (its thread is then left behind with what it holds) and removes the directory. Jobs and state: any thread.
#pragma once

#include "base/clock.h"
#include "base/mutex.h"
#include "io/system_file_system.h"
#include "tier/disk/disk_tier.h"

#include <tiercel/result.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace tiercel::inspect {

class BenchFile {
 public:
  struct Options {
    std::string directory;  ///< must exist
    std::uint64_t bytes = 0;
    std::uint64_t extent_bytes = 64U << 20U;
    std::uint64_t min_slot_bytes = 256U << 10U;
    std::uint32_t depth = 32;
    IoEngine engine = IoEngine::kAuto;
    bool direct = true;
    std::uint64_t io_deadline_ns = 30'000'000'000;
    std::vector<struct iovec> memory{};  ///< of the blocks: registered with the backend; outlives the file
  };

  /// Returns when the file is open, or why it cannot be.
  [[nodiscard]] static Result<std::unique_ptr<BenchFile>> create(const Options& options,
                                                                 const std::atomic<bool>* cancel);
  BenchFile(const BenchFile&) = delete;
  BenchFile& operator=(const BenchFile&) = delete;
  ~BenchFile();

  [[nodiscard]] DiskTier& tier() noexcept { return driven_->tier; }
  [[nodiscard]] const Clock& clock() const noexcept { return driven_->clock; }
  [[nodiscard]] const char* io_engine() const noexcept { return driven_->files.engine(); }
  [[nodiscard]] std::uint64_t epoch();
  [[nodiscard]] const std::string& directory() const noexcept { return directory_; }
  /// Why the tier is in the state it is in; empty if it is on.
  [[nodiscard]] std::string cause();

 private:
  /// What the thread keeps alive.
  struct Driven final : DiskEvents {
    Driven(IoEngine engine, const DiskOptions& options) : files(engine), tier(options, files, clock, *this) {}
    void on_opened(const Opened& opened) override;
    void on_found(std::span<const DiskBlock>) override {}
    void on_recovered(const DiskRecovery&) override {}
    void on_lost() override {}
    void on_state(DiskState next, const std::string& cause) override;

    SteadyClock clock;
    SystemFileSystem files;
    Mutex mutex;
    std::condition_variable changed;
    std::uint64_t epoch TIERCEL_GUARDED_BY(mutex) = 0;
    DiskState state TIERCEL_GUARDED_BY(mutex) = DiskState::kStarting;
    std::string why TIERCEL_GUARDED_BY(mutex);
    bool ended TIERCEL_GUARDED_BY(mutex) = false;
    DiskTier tier;  // last: it calls the events above
  };

  BenchFile(std::string directory, std::shared_ptr<Driven> driven);
  [[nodiscard]] Status wait_until_on(const std::atomic<bool>* cancel);

  std::string directory_;
  std::shared_ptr<Driven> driven_;
  std::thread thread_;
};

}  // namespace tiercel::inspect
