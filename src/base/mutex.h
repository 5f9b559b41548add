// Mutex, MutexLock and the thread-safety annotations: clang checks that what a mutex guards is touched under it only.
// docs/concurrency.md lists every mutex, its rank and what it guards.
#pragma once

#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define TIERCEL_ANNOTATION(x) __attribute__((x))
#else
#define TIERCEL_ANNOTATION(x)
#endif

#define TIERCEL_CAPABILITY(x) TIERCEL_ANNOTATION(capability(x))
#define TIERCEL_SCOPED_CAPABILITY TIERCEL_ANNOTATION(scoped_lockable)
#define TIERCEL_GUARDED_BY(x) TIERCEL_ANNOTATION(guarded_by(x))
#define TIERCEL_REQUIRES(...) TIERCEL_ANNOTATION(requires_capability(__VA_ARGS__))
#define TIERCEL_ACQUIRE(...) TIERCEL_ANNOTATION(acquire_capability(__VA_ARGS__))
#define TIERCEL_RELEASE(...) TIERCEL_ANNOTATION(release_capability(__VA_ARGS__))
#define TIERCEL_TRY_ACQUIRE(...) TIERCEL_ANNOTATION(try_acquire_capability(__VA_ARGS__))
#define TIERCEL_EXCLUDES(...) TIERCEL_ANNOTATION(locks_excluded(__VA_ARGS__))
#define TIERCEL_NO_THREAD_SAFETY_ANALYSIS TIERCEL_ANNOTATION(no_thread_safety_analysis)

namespace tiercel {

class TIERCEL_CAPABILITY("mutex") Mutex {
 public:
  void lock() TIERCEL_ACQUIRE() { mutex_.lock(); }
  void unlock() TIERCEL_RELEASE() { mutex_.unlock(); }
  bool try_lock() TIERCEL_TRY_ACQUIRE(true) { return mutex_.try_lock(); }

 private:
  friend class MutexLock;
  std::mutex mutex_;
};

/// Holds a Mutex for a scope; can wait on a condition variable.
class TIERCEL_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) TIERCEL_ACQUIRE(mutex) : lock_(mutex.mutex_) {}
  ~MutexLock() TIERCEL_RELEASE() = default;
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  void unlock() TIERCEL_RELEASE() { lock_.unlock(); }
  void lock() TIERCEL_ACQUIRE() { lock_.lock(); }
  [[nodiscard]] std::unique_lock<std::mutex>& native() noexcept { return lock_; }

 private:
  std::unique_lock<std::mutex> lock_;
};

}  // namespace tiercel
