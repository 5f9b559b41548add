// Cache: the public owner. It makes the real environment (clock, threads, copy engine, seed) around a CacheCore.
#include "base/clock.h"
#include "base/executor.h"
#include "base/log.h"
#include "base/try.h"
#include "cache/cache_access.h"
#include "cache/core.h"
#include "cache/disk_drivers.h"
#include "cache/local_session.h"
#include "io/system_file_system.h"
#include "transfer/host_copy_engine.h"

#include <tiercel/cache.h>

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <random>
#include <system_error>
#include <thread>
#include <utility>

namespace tiercel {
namespace detail {

/// Never destroyed: handles that outlive their cache still ask it for the time.
static const Clock& system_clock() {
  static const SteadyClock* const kClock = new SteadyClock;
  return *kClock;
}

/// Threads and what runs on them. Destroyed after the core was closed; members in order of dependence.
class Runtime {
 public:
  explicit Runtime(const Config& config, int held = -1)
      : executor_({.name = "tiercel", .threads = threads_of(config), .queue_capacity = config.limits.queued_tasks},
                  system_clock()),
        copies_(executor_) {
    if (config.disk.directories.empty()) return;
    files_ =
        std::make_shared<SystemFileSystem>(config.disk.io == DiskIo::kThreads ? IoEngine::kThreads : IoEngine::kAuto,
                                           FileDescriptor(held < 0 ? -1 : ::fcntl(held, F_DUPFD_CLOEXEC, 0)));
  }

  [[nodiscard]] Environment environment() {
    std::random_device entropy;
    return {.clock = system_clock(),
            .executor = executor_,
            .copies = copies_,
            .seed = std::uint64_t{entropy()} << 32U | entropy(),
            .files = files_.get()};
  }

  void start(const std::shared_ptr<CacheCore>& core) { drivers_.start(core, files_); }
  /// After the core was closed. Answers the directories whose devices do not answer; their threads are left behind.
  [[nodiscard]] std::vector<std::size_t> stop(const CacheCore& core, std::chrono::nanoseconds patience) {
    return drivers_.stop(core, patience);
  }
  [[nodiscard]] Mutex& closing() noexcept { return closing_; }

 private:
  static std::size_t threads_of(const Config& config) {
    if (config.workers.threads != 0) return config.workers.threads;
    return std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, 8);
  }

  ThreadedExecutor executor_;
  HostCopyEngine copies_;
  std::shared_ptr<FileSystem> files_;
  DiskDrivers drivers_;
  Mutex closing_;
};

namespace {

/// What destruction gives the disk tier, so that what was committed just before is kept. A cache that is closed by name
/// chooses its own.
constexpr std::chrono::nanoseconds kFarewell = std::chrono::seconds(2);

Status close_all(CacheCore& core, Runtime* runtime, std::chrono::nanoseconds deadline) {
  if (runtime == nullptr) return core.close(deadline);
  const MutexLock one_at_a_time(runtime->closing());  // who comes second finds all ended, or what hangs
  const std::uint64_t start = core.clock().now_ns();
  Status status = core.close(deadline);
  const auto spent = std::chrono::nanoseconds(core.clock().now_ns() - start);
  const auto left = runtime->stop(core, std::max(deadline - spent, std::chrono::nanoseconds(0)));
  if (!status) status = core.close(std::chrono::nanoseconds(0));  // what was in flight has ended by now, or hangs
  std::string silent;
  for (const std::size_t index : left) {
    const std::string& path = core.disk_path(index);
    log_line(LogLevel::kWarn, "disk_left",
             path + ": the device does not answer; what it was asked for is left to it, and the file is not closed");
    silent += (silent.empty() ? "" : ", ") + path;
  }
  if (left.empty()) return status;
  return fail(ErrorCode::kTimeout,
              fmt::format("{}: does not answer; what it was asked for is left to it, and the memory of that stays "
                          "mapped. Everything else was closed in order",
                          silent));
}

std::chrono::nanoseconds farewell(const CacheCore& core) {
  return core.disks() == 0 ? std::chrono::nanoseconds(0) : kFarewell;
}

}  // namespace

}  // namespace detail

Result<Cache> Cache::open(const Config& config) { return detail::CacheAccess::open(config, false); }

Result<Cache> detail::CacheAccess::open(const Config& config, bool arena_later, int held) {
  try {
    TIERCEL_TRY(validate(config));
    auto runtime = std::make_shared<detail::Runtime>(config, held);
    Environment environment = runtime->environment();
    environment.arena_later = arena_later;
    TIERCEL_TRY_ASSIGN(auto core, detail::CacheCore::create(config, environment));
    try {
      runtime->start(core);
    } catch (...) {  // some of the directories' threads run already
      (void)detail::close_all(*core, runtime.get(), std::chrono::nanoseconds(0));
      throw;
    }
    return Cache(std::move(core), std::move(runtime));
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kOutOfMemory, "host.capacity, index.blocks: no memory for the cache's bookkeeping");
  } catch (const std::system_error& error) {
    return fail(ErrorCode::kIo, fmt::format("workers.threads: the system gives no more threads: {}", error.what()),
                error.code().value());
  }
}

Cache::Cache(std::shared_ptr<detail::CacheCore> core, std::shared_ptr<detail::Runtime> runtime)
    : runtime_(std::move(runtime)), core_(std::move(core)) {}
Cache::Cache(Cache&&) noexcept = default;

Cache& Cache::operator=(Cache&& other) noexcept {
  if (this != &other) {
    if (core_) (void)detail::close_all(*core_, runtime_.get(), detail::farewell(*core_));
    core_ = std::move(other.core_);
    runtime_ = std::move(other.runtime_);
  }
  return *this;
}

Cache::~Cache() {
  if (core_) (void)detail::close_all(*core_, runtime_.get(), detail::farewell(*core_));
}

Result<Session> Cache::open_session(const SessionOptions& options) {
  if (!core_) return fail(ErrorCode::kClosed, "the cache was moved away");
  try {
    TIERCEL_TRY_ASSIGN(auto session, core_->open_session(options));
    return Session(std::move(session));
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kOutOfMemory, "no memory for another session");
  }
}

void Cache::set_mode(Mode mode) {
  if (core_) core_->modes().set_all(mode);
}

Mode Cache::mode() const { return core_ ? core_->modes().all() : Mode::kOn; }

Status Cache::set_mode(std::string_view engine, Mode mode) {
  if (!core_) return fail(ErrorCode::kClosed, "the cache was moved away");
  try {
    return core_->modes().set(engine, mode);
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kOutOfMemory, "no memory for the sentence of an error");
  }
}

Mode Cache::mode(std::string_view engine) const { return core_ ? core_->modes().of(engine) : Mode::kOn; }

Status Cache::reconfigure(const Config& config) {
  if (!core_) return fail(ErrorCode::kClosed, "the cache was moved away");
  try {
    TIERCEL_TRY(validate(config));
    core_->reconfigure(config);
    return {};
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kOutOfMemory, "no memory for the settings");
  }
}

Stats Cache::stats() const { return core_ ? core_->stats() : Stats(); }

Status Cache::close(std::chrono::nanoseconds deadline) {
  if (!core_) return {};
  return detail::close_all(*core_, runtime_.get(), deadline);
}

std::vector<DiskReport> Cache::disks() const { return core_ ? core_->disk_reports() : std::vector<DiskReport>(); }

std::vector<TenantReport> Cache::tenants() const { return core_ ? core_->tenants() : std::vector<TenantReport>(); }

Status Cache::set_tenant(std::string_view name, const TenantConfig& config) {
  if (!core_) return fail(ErrorCode::kClosed, "the cache was moved away");
  try {
    return core_->set_tenant(name, config);
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kOutOfMemory, "no memory for another tenant");
  }
}

Result<Dropped> Cache::drop_tenant(std::string_view name) {
  if (!core_) return fail(ErrorCode::kClosed, "the cache was moved away");
  if (core_->closed()) return fail(ErrorCode::kClosed, "the cache is closed");
  try {
    return core_->drop_tenant(name);
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kOutOfMemory, "no memory for the delete; what it had not reached is as it was");
  }
}

bool Cache::wait_for_disks(std::chrono::nanoseconds deadline) const {
  if (!core_ || core_->disks_settled()) return true;
  const auto ns = static_cast<std::uint64_t>(std::max<std::int64_t>(0, deadline.count()));
  core_->wait_until([&] { return core_->disks_settled(); }, deadline_after(core_->clock().now_ns(), ns));
  return core_->disks_settled();
}

}  // namespace tiercel
