#include "inspect/bench_file.h"

#include "base/try.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <utility>

namespace tiercel::inspect {
namespace {

constexpr std::uint64_t kTurnNs = 100'000'000;
constexpr std::chrono::milliseconds kCancelTurn(100);
constexpr std::chrono::seconds kOpeningPatience(120);  // without fallocate every byte is written
constexpr std::chrono::seconds kClosingPatience(10);

Result<std::string> make_directory(const std::string& parent) {
  std::string path = parent + "/tiercel-bench-XXXXXX";
  if (mkdtemp(path.data()) == nullptr) {
    const int error = errno;
    return fail(error == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
                fmt::format("{}: a directory cannot be made in it: {}", parent, std::system_category().message(error)),
                error);
  }
  return path;
}

}  // namespace

void BenchFile::Driven::on_opened(const Opened& opened) {
  const MutexLock lock(mutex);
  epoch = opened.epoch;
}

void BenchFile::Driven::on_state(DiskState next, const std::string& cause) {
  const MutexLock lock(mutex);
  state = next;
  why = cause;
  changed.notify_all();
}

Result<std::unique_ptr<BenchFile>> BenchFile::create(const Options& options, const std::atomic<bool>* cancel) {
  TIERCEL_TRY_ASSIGN(std::string directory, make_directory(options.directory));
  const DiskOptions tier{.directory = directory,
                         .capacity = options.bytes,
                         .extent_bytes = options.extent_bytes,
                         .min_slot_bytes = options.min_slot_bytes,
                         .max_namespaces = 64,
                         .depth = options.depth,
                         .io_deadline_ns = options.io_deadline_ns,
                         .direct = options.direct,
                         .memory = options.memory};
  std::unique_ptr<BenchFile> file(new BenchFile(std::move(directory), std::make_shared<Driven>(options.engine, tier)));
  TIERCEL_TRY(file->wait_until_on(cancel));
  return file;
}

BenchFile::BenchFile(std::string directory, std::shared_ptr<Driven> driven)
    : directory_(std::move(directory)), driven_(std::move(driven)), thread_([driven = driven_] {
        while (driven->tier.step(kTurnNs)) {
        }
        const MutexLock lock(driven->mutex);
        driven->ended = true;
        driven->changed.notify_all();
      }) {}

BenchFile::~BenchFile() {
  driven_->tier.close();
  const auto end = std::chrono::steady_clock::now() + kClosingPatience;
  {
    MutexLock lock(driven_->mutex);
    while (!driven_->ended && driven_->changed.wait_until(lock.native(), end) != std::cv_status::timeout) {
    }
    if (!driven_->ended) thread_.detach();
  }
  if (thread_.joinable()) thread_.join();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

std::uint64_t BenchFile::epoch() {
  const MutexLock lock(driven_->mutex);
  return driven_->epoch;
}

std::string BenchFile::cause() {
  const MutexLock lock(driven_->mutex);
  return driven_->why;
}

Status BenchFile::wait_until_on(const std::atomic<bool>* cancel) {
  const auto end = std::chrono::steady_clock::now() + kOpeningPatience;
  MutexLock lock(driven_->mutex);
  while (driven_->state == DiskState::kStarting) {
    if (cancel != nullptr && cancel->load()) return fail(ErrorCode::kClosed, "interrupted");
    if (std::chrono::steady_clock::now() > end) {
      return fail(ErrorCode::kTimeout,
                  fmt::format("{}: the file was not ready after {} s", directory_, kOpeningPatience.count()));
    }
    (void)driven_->changed.wait_for(lock.native(), kCancelTurn);
  }
  if (driven_->state == DiskState::kOn) return {};
  return fail(ErrorCode::kIo, fmt::format("{}: {}", directory_, driven_->why));
}

}  // namespace tiercel::inspect
