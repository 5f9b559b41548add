// DiskDrivers: the threads that drive the directories of the disk tier, one each.
//
// A thread keeps the core and the files alive while it runs. stop() waits for the threads, at most until a deadline:
// one that is in a call to a device that does not answer is left behind with what it holds, and ends when the device
// does (or with the process).
#pragma once

#include "base/mutex.h"
#include "cache/core.h"
#include "io/file_system.h"

#include <chrono>
#include <condition_variable>
#include <memory>
#include <thread>
#include <vector>

namespace tiercel::detail {

class DiskDrivers {
 public:
  DiskDrivers() = default;
  ~DiskDrivers() { (void)stop(std::chrono::nanoseconds(0)); }
  DiskDrivers(const DiskDrivers&) = delete;
  DiskDrivers& operator=(const DiskDrivers&) = delete;

  /// Throws std::system_error where the system gives no more threads.
  void start(const std::shared_ptr<CacheCore>& core, const std::shared_ptr<FileSystem>& files);
  /// After the core was closed. False: some threads were left behind. Idempotent.
  [[nodiscard]] bool stop(std::chrono::nanoseconds patience);

 private:
  struct Progress {
    Mutex mutex;
    std::condition_variable ended;
    std::size_t running TIERCEL_GUARDED_BY(mutex) = 0;
    std::vector<bool> done TIERCEL_GUARDED_BY(mutex);
  };

  std::vector<std::thread> threads_;
  std::shared_ptr<Progress> progress_ = std::make_shared<Progress>();
};

}  // namespace tiercel::detail
