// DiskDrivers: the threads that drive the directories of the disk tier, one each.
//
// A thread keeps the core and the files alive while it runs. stop() waits for the threads to end in order: as long as
// it is told, then while their devices answer, which with nothing new to begin is short. One whose device ends no
// operation for half a second is left behind with what it holds, and ends when the device does (or with the process).
// A directory whose thread the system does not give is off, and the cache serves without it.
#pragma once

#include "base/mutex.h"
#include "cache/core.h"
#include "io/file_system.h"

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace tiercel::detail {

class DiskDrivers {
 public:
  /// Starts a thread, or throws std::system_error.
  using Spawn = std::function<std::thread(std::function<void()>)>;
  explicit DiskDrivers(Spawn spawn = [](std::function<void()> work) { return std::thread(std::move(work)); })
      : spawn_(std::move(spawn)) {}
  ~DiskDrivers();
  DiskDrivers(const DiskDrivers&) = delete;
  DiskDrivers& operator=(const DiskDrivers&) = delete;

  void start(const std::shared_ptr<CacheCore>& core, const std::shared_ptr<FileSystem>& files);
  /// After the core was closed. Answers the directories whose threads were left behind. Idempotent.
  [[nodiscard]] std::vector<std::size_t> stop(const CacheCore& core, std::chrono::nanoseconds patience);

 private:
  struct Progress {
    Mutex mutex;
    std::condition_variable ended;
    std::size_t running TIERCEL_GUARDED_BY(mutex) = 0;
    std::vector<bool> done TIERCEL_GUARDED_BY(mutex);
  };

  [[nodiscard]] std::vector<std::size_t> leave(const std::vector<bool>& done);

  const Spawn spawn_;
  std::vector<std::thread> threads_;  // one a directory; without a thread where none was given
  std::shared_ptr<Progress> progress_ = std::make_shared<Progress>();
};

}  // namespace tiercel::detail
