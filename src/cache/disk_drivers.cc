#include "cache/disk_drivers.h"

#include <fmt/format.h>
#include <pthread.h>

#include <system_error>

namespace tiercel::detail {
namespace {
constexpr std::uint64_t kTurnNs = 100'000'000;  // new jobs end the wait; this bounds how late a deadline is noticed
constexpr auto kSilence = std::chrono::milliseconds(500);  // of a device that ends nothing: it does not answer
constexpr auto kMostOver = std::chrono::seconds(2);        // beyond the patience, for devices that answer
constexpr auto kLook = std::chrono::milliseconds(10);
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
    try {
      threads_.push_back(spawn_([core, files, index, progress = progress_] {
        while (core->step_disk(index, kTurnNs)) {
        }
        const MutexLock lock(progress->mutex);
        progress->done[index] = true;
        --progress->running;
        progress->ended.notify_all();
      }));
    } catch (const std::system_error& error) {
      threads_.emplace_back();
      {
        const MutexLock lock(progress_->mutex);
        progress_->done[index] = true;
        --progress_->running;
      }
      core->disk_without_driver(index, error.what());
      continue;
    }
    (void)pthread_setname_np(threads_.back().native_handle(), fmt::format("tiercel-disk-{}", index).c_str());
  }
}

std::vector<std::size_t> DiskDrivers::stop(const CacheCore& core, std::chrono::nanoseconds patience) {
  using Time = std::chrono::steady_clock;
  struct Life {
    std::uint64_t sign = 0;
    Time::time_point at;
  };
  const auto begun = Time::now();
  std::vector<Life> lives;
  for (std::size_t index = 0; index < threads_.size(); ++index) lives.push_back({core.disk_sign_of_life(index), begun});
  MutexLock lock(progress_->mutex);
  while (progress_->running > 0) {
    const auto now = Time::now();
    bool any_answers = false;
    for (std::size_t index = 0; index < threads_.size(); ++index) {
      if (progress_->done[index]) continue;
      if (const std::uint64_t sign = core.disk_sign_of_life(index); sign != lives[index].sign)
        lives[index] = {sign, now};
      any_answers = any_answers || now - lives[index].at < kSilence;
    }
    if (now >= begun + patience && (!any_answers || now >= begun + patience + kMostOver)) break;
    (void)progress_->ended.wait_until(lock.native(), now + kLook);
  }
  const std::vector<bool> done = progress_->done;
  lock.unlock();
  return leave(done);
}

/// Joins the threads that have ended and lets go of the others.
std::vector<std::size_t> DiskDrivers::leave(const std::vector<bool>& done) {
  std::vector<std::size_t> left;
  for (std::size_t index = 0; index < threads_.size(); ++index) {
    if (done[index]) continue;
    threads_[index].detach();
    left.push_back(index);
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
  threads_.clear();
  return left;
}

DiskDrivers::~DiskDrivers() {
  if (!threads_.empty()) (void)leave(std::vector<bool>(threads_.size(), false));
}

}  // namespace tiercel::detail
