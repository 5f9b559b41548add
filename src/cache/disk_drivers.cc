#include "cache/disk_drivers.h"

#include <fmt/format.h>
#include <pthread.h>

namespace tiercel::detail {
namespace {
constexpr std::uint64_t kTurnNs = 100'000'000;  // new jobs end the wait; this bounds how late a deadline is noticed
}  // namespace

void DiskDrivers::start(const std::shared_ptr<CacheCore>& core, const std::shared_ptr<FileSystem>& files) {
  {
    MutexLock lock(progress_->mutex);
    progress_->done.assign(core->disks(), false);
  }
  threads_.reserve(core->disks());
  for (std::size_t index = 0; index < core->disks(); ++index) {
    {
      MutexLock lock(progress_->mutex);
      ++progress_->running;
    }
    threads_.emplace_back([core, files, index, progress = progress_] {
      while (core->step_disk(index, kTurnNs)) {
      }
      const MutexLock lock(progress->mutex);
      progress->done[index] = true;
      --progress->running;
      progress->ended.notify_all();
    });
    (void)pthread_setname_np(threads_.back().native_handle(), fmt::format("tiercel-disk-{}", index).c_str());
  }
}

bool DiskDrivers::stop(std::chrono::nanoseconds patience) {
  const auto end = std::chrono::steady_clock::now() + patience;
  MutexLock lock(progress_->mutex);
  while (progress_->running > 0 && progress_->ended.wait_until(lock.native(), end) != std::cv_status::timeout) {
  }
  bool all = true;
  for (std::size_t index = 0; index < threads_.size(); ++index) {
    if (progress_->done[index]) continue;
    threads_[index].detach();
    all = false;
  }
  lock.unlock();
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
  threads_.clear();
  return all;
}

}  // namespace tiercel::detail
