#include "sim/sim_file_system.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace tiercel::sim {
namespace {

tl::unexpected<Error> os_failure(const char* call, const std::string& path, int number) {
  return fail(ErrorCode::kIo, fmt::format("{} {}: {}", call, path, std::strerror(number)), number);
}

}  // namespace

/// Belongs to one boot: a process that is gone cannot give back what the next one has taken.
class SimFileSystem::Lock final : public FileLock {
 public:
  Lock(std::shared_ptr<std::set<std::string>> held, std::string path)
      : held_(std::move(held)), path_(std::move(path)) {}
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  ~Lock() override { held_->erase(path_); }

 private:
  std::shared_ptr<std::set<std::string>> held_;
  std::string path_;
};

SimFileSystem::SimFileSystem(const Options& options, ManualClock& clock, Trace& trace, std::uint64_t seed)
    : options_(options), clock_(clock), trace_(trace), random_(seed), faults_(options.faults) {
  begin_boot();
}

SimFileSystem::~SimFileSystem() { device_->set_gone(); }

void SimFileSystem::begin_boot() {
  if (device_) device_->set_gone();
  device_ = std::make_shared<SimDevice>(clock_, trace_, random_, faults_);
  locks_ = std::make_shared<std::set<std::string>>();
  for (auto& [_, file] : files_) {  // handles of the process before keep the old object and reach nothing
    auto fresh = std::make_shared<OpenFile>();
    fresh->bytes = std::move(file->bytes);
    for (auto& [name, durable] : durable_names_) {
      if (durable == file) durable = fresh;
    }
    file = std::move(fresh);
  }
}

Status SimFileSystem::check(const std::string& path, bool changes) {
  if (!path.starts_with(options_.directory + "/") && path != options_.directory) {
    return fail(ErrorCode::kNotFound, fmt::format("{}: no such directory", path), ENOENT);
  }
  if (changes) device_->event();
  const Fault outage = faults_.outage(clock_.now_ns());
  if (device_->gone() || outage == Fault::kDead) return os_failure("open", path, EIO);
  if (changes && outage == Fault::kReadOnly) return os_failure("open", path, EROFS);
  return {};
}

Result<std::unique_ptr<IoBackend>> SimFileSystem::open(const std::string& path, const OpenOptions& options) {
  if (const Status status = check(path, !options.read_only); !status) return tl::unexpected(status.error());
  auto found = files_.find(path);
  if (found == files_.end() && !options.create) {
    return fail(ErrorCode::kNotFound, fmt::format("{}: no such file", path), ENOENT);
  }
  if (found != files_.end() && options.create && options.exclusive) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("{}: exists already", path), EEXIST);
  }
  if (found == files_.end()) found = files_.emplace(path, std::make_shared<OpenFile>()).first;
  const std::uint64_t own = found->second->bytes.size();
  const std::uint64_t others = used_bytes() - own;
  return std::make_unique<SimBackend>(
      device_, found->second,
      SimBackend::Options{.depth = options.depth,
                          .read_only = options.read_only,
                          .growth_limit_bytes = options_.bytes > others ? options_.bytes - others : 0});
}

Status SimFileSystem::rename(const std::string& from, const std::string& to) {
  if (const Status status = check(from, true); !status) return status;
  const auto found = files_.find(from);
  if (found == files_.end()) return fail(ErrorCode::kNotFound, fmt::format("{}: no such file", from), ENOENT);
  if (from != to) {
    files_[to] = found->second;
    files_.erase(from);
  }
  durable_names_ = files_;
  device_->event();  // a crash after it, before the caller knows
  return device_->gone() ? Status(os_failure("rename", to, EIO)) : Status();
}

Status SimFileSystem::remove(const std::string& path) {
  if (const Status status = check(path, true); !status) return status;
  if (files_.erase(path) == 0) return fail(ErrorCode::kNotFound, fmt::format("{}: no such file", path), ENOENT);
  return {};
}

Result<bool> SimFileSystem::exists(const std::string& path) {
  if (const Status status = check(path, false); !status) return tl::unexpected(status.error());
  return files_.contains(path);
}

Result<std::unique_ptr<FileLock>> SimFileSystem::lock(const std::string& path) {
  if (const Status status = check(path, true); !status) return tl::unexpected(status.error());
  if (!locks_->insert(path).second) {
    return fail(ErrorCode::kLimit, fmt::format("{} is in use by process 1", path), EWOULDBLOCK);
  }
  return std::make_unique<Lock>(locks_, path);
}

Result<FreeSpace> SimFileSystem::space(const std::string& directory) {
  if (const Status status = check(directory, false); !status) return tl::unexpected(status.error());
  const std::uint64_t used = used_bytes();
  return FreeSpace{.free_bytes = options_.bytes > used ? options_.bytes - used : 0, .total_bytes = options_.bytes};
}

std::uint64_t SimFileSystem::used_bytes() const noexcept {
  std::uint64_t bytes = 0;
  for (const auto& [_, file] : files_) bytes += file->bytes.size();
  return bytes;
}

std::shared_ptr<OpenFile> SimFileSystem::find(const std::string& path) const {
  const auto found = files_.find(path);
  return found == files_.end() ? nullptr : found->second;
}

std::uint64_t SimFileSystem::next_due_ns() const noexcept {
  std::uint64_t due = UINT64_MAX;
  for (const auto& [_, file] : files_) {
    for (const SimBackend* backend : file->backends) due = std::min(due, backend->next_due_ns());
  }
  return due;
}

void SimFileSystem::heal() {
  trace_.event("device: well from now on");
  faults_.heal();
  for (const auto& [_, file] : files_) {
    for (SimBackend* backend : file->backends) backend->end_stalls();
  }
}

// ---- the end of a boot

void SimFileSystem::crash_names() {
  Files left = durable_names_;
  for (const auto& [name, file] : files_) {
    if (!durable_names_.contains(name) && random_.below(2) == 0) left[name] = file;
  }
  for (const auto& [name, file] : durable_names_) {
    if (!files_.contains(name) && random_.below(2) == 0) left.erase(name);
  }
  files_ = left;
  durable_names_ = std::move(left);
}

void SimFileSystem::crash(const CrashStyle& style) {
  if (device_->gone()) return;
  trace_.event(
      "crash: kind {} keeping {} % ordered {} tears {}",
      {static_cast<std::uint64_t>(style.kind), style.keep_percent, style.ordered ? 1U : 0U, style.tears ? 1U : 0U});
  for (const auto& [_, file] : files_) {
    std::vector<VirtualFile::PageWrite> writes;
    for (const SimBackend* backend : file->backends) backend->collect_writes(writes);
    for (std::size_t i = writes.size(); i > 1; --i) std::swap(writes[i - 1], writes[random_.below(i)]);
    file->bytes.crash(style, writes, random_);
  }
  if (style.kind == CrashStyle::Kind::kPower) crash_names();
  device_->set_gone();
}

void SimFileSystem::plan_crash(std::uint64_t events, const CrashStyle& style) {
  device_->plan_crash(events, [this, style] { crash(style); });
}

void SimFileSystem::end_process() {
  crash({.kind = CrashStyle::Kind::kKill, .keep_percent = static_cast<std::uint32_t>(random_.below(101))});
}

}  // namespace tiercel::sim
