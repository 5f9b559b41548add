#include "sim/sim_file_system.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
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

SimFileSystem::SimFileSystem(const std::vector<SimDisk::Options>& disks, ManualClock& clock, Trace& trace,
                             std::uint64_t seed)
    : clock_(clock), trace_(trace), random_(seed) {
  for (const SimDisk::Options& disk : disks) disks_.push_back(std::make_shared<SimDisk>(disk));
  begin_boot();
}

SimFileSystem::~SimFileSystem() { device_->set_gone(); }

void SimFileSystem::begin_boot() {
  if (device_) device_->set_gone();
  device_ = std::make_shared<SimDevice>(clock_, trace_, random_);
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

Result<std::shared_ptr<SimDisk>> SimFileSystem::check(const std::string& path, bool changes) {
  const auto disk = std::ranges::find_if(disks_, [&](const auto& one) { return one->has(path); });
  if (disk == disks_.end() || !(*disk)->is_there()) {
    return fail(ErrorCode::kNotFound, fmt::format("{}: no such directory", path), ENOENT);
  }
  if (changes) device_->event();
  const Fault outage = (*disk)->dice().outage(clock_.now_ns());
  if (device_->gone() || outage == Fault::kDead) return os_failure("open", path, EIO);
  if (changes && outage == Fault::kReadOnly) return os_failure("open", path, EROFS);
  return *disk;
}

Result<std::unique_ptr<IoBackend>> SimFileSystem::open(const std::string& path, const OpenOptions& options) {
  const auto disk = check(path, !options.read_only);
  if (!disk) return tl::unexpected(disk.error());
  auto found = files_.find(path);
  if (found == files_.end() && !options.create) {
    return fail(ErrorCode::kNotFound, fmt::format("{}: no such file", path), ENOENT);
  }
  if (found != files_.end() && options.create && options.exclusive) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("{}: exists already", path), EEXIST);
  }
  if (found == files_.end()) found = files_.emplace(path, std::make_shared<OpenFile>()).first;
  const std::uint64_t own = found->second->bytes.size();
  const std::uint64_t others = used_bytes_of(**disk) - own;
  const std::uint64_t bytes = (*disk)->bytes();
  return std::make_unique<SimBackend>(device_, *disk, found->second,
                                      SimBackend::Options{.depth = options.depth,
                                                          .read_only = options.read_only,
                                                          .growth_limit_bytes = bytes > others ? bytes - others : 0});
}

Status SimFileSystem::rename(const std::string& from, const std::string& to) {
  const auto disk = check(from, true);
  if (!disk) return tl::unexpected(disk.error());
  const auto found = files_.find(from);
  if (found == files_.end()) return fail(ErrorCode::kNotFound, fmt::format("{}: no such file", from), ENOENT);
  if (from != to) {
    files_[to] = found->second;
    files_.erase(from);
  }
  std::erase_if(durable_names_, [&](const auto& file) { return (*disk)->has(file.first); });
  std::ranges::copy_if(files_, std::inserter(durable_names_, durable_names_.end()),
                       [&](const auto& file) { return (*disk)->has(file.first); });
  device_->event();  // a crash after it, before the caller knows
  return device_->gone() ? Status(os_failure("rename", to, EIO)) : Status();
}

Status SimFileSystem::remove(const std::string& path) {
  if (const auto disk = check(path, true); !disk) return tl::unexpected(disk.error());
  if (files_.erase(path) == 0) return fail(ErrorCode::kNotFound, fmt::format("{}: no such file", path), ENOENT);
  return {};
}

Result<bool> SimFileSystem::exists(const std::string& path) {
  if (const auto disk = check(path, false); !disk) return tl::unexpected(disk.error());
  return files_.contains(path);
}

Result<std::unique_ptr<FileLock>> SimFileSystem::lock(const std::string& path) {
  if (const auto disk = check(path, true); !disk) return tl::unexpected(disk.error());
  if (!locks_->insert(path).second) {
    return fail(ErrorCode::kLimit, fmt::format("{} is in use by process 1", path), EWOULDBLOCK);
  }
  return std::make_unique<Lock>(locks_, path);
}

Result<FreeSpace> SimFileSystem::space(const std::string& directory) {
  const auto disk = check(directory, false);
  if (!disk) return tl::unexpected(disk.error());
  const std::uint64_t used = used_bytes_of(**disk);
  const std::uint64_t bytes = (*disk)->bytes();
  return FreeSpace{.free_bytes = bytes > used ? bytes - used : 0, .total_bytes = bytes};
}

std::uint64_t SimFileSystem::used_bytes() const noexcept {
  std::uint64_t bytes = 0;
  for (const auto& [_, file] : files_) bytes += file->bytes.size();
  return bytes;
}

std::uint64_t SimFileSystem::used_bytes_of(const SimDisk& disk) const noexcept {
  std::uint64_t bytes = 0;
  for (const auto& [name, file] : files_) bytes += disk.has(name) ? file->bytes.size() : 0;
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
  for (const auto& disk : disks_) {
    disk->dice().heal();
    disk->come_back();
  }
  for (const auto& [_, file] : files_) {
    for (SimBackend* backend : file->backends) backend->end_stalls();
  }
}

std::uint64_t SimFileSystem::faults_given() const noexcept {
  std::uint64_t given = 0;
  for (const auto& disk : disks_) given += disk->dice().given();
  return given;
}

bool SimFileSystem::has_lied() const noexcept {
  return std::ranges::any_of(disks_, [](const auto& disk) { return disk->dice().has_lied(); });
}

SimFileSystem::State SimFileSystem::state_of(std::size_t disk) const {
  State state;
  for (const auto& [name, file] : files_) {
    if (disks_[disk]->has(name)) state.emplace(name, file->bytes);
  }
  return state;
}

void SimFileSystem::put_state(std::size_t disk, const State& state) {
  const auto of_disk = [&](const auto& file) { return disks_[disk]->has(file.first); };
  std::erase_if(files_, of_disk);
  std::erase_if(durable_names_, of_disk);
  for (const auto& [name, bytes] : state) {
    files_[name] = durable_names_[name] = std::make_shared<OpenFile>(OpenFile{.bytes = bytes, .backends = {}});
  }
}

// ---- the end of a boot, or of a disk

/// What is left of one disk: its files and their names.
void SimFileSystem::crash_files(const SimDisk& disk, const CrashStyle& style) {
  for (const auto& [name, file] : files_) {
    if (!disk.has(name)) continue;
    std::vector<VirtualFile::PageWrite> writes;
    for (const SimBackend* backend : file->backends) backend->collect_writes(writes);
    for (std::size_t i = writes.size(); i > 1; --i) std::swap(writes[i - 1], writes[random_.below(i)]);
    file->bytes.crash(style, writes, random_);
  }
  if (style.kind != CrashStyle::Kind::kPower) return;
  Files left = durable_names_;
  for (const auto& [name, file] : files_) {
    if (disk.has(name) && !durable_names_.contains(name) && random_.below(2) == 0) left[name] = file;
  }
  for (const auto& [name, file] : durable_names_) {
    if (disk.has(name) && !files_.contains(name) && random_.below(2) == 0) left.erase(name);
  }
  const auto of_others = [&](const auto& file) { return !disk.has(file.first); };
  Files names = left;
  std::erase_if(names, of_others);
  std::ranges::copy_if(files_, std::inserter(names, names.end()), of_others);
  files_ = std::move(names);
  durable_names_ = std::move(left);
}

void SimFileSystem::crash(const CrashStyle& style) {
  if (device_->gone()) return;
  trace_.event(
      "crash: kind {} keeping {} % ordered {} tears {}",
      {static_cast<std::uint64_t>(style.kind), style.keep_percent, style.ordered ? 1U : 0U, style.tears ? 1U : 0U});
  for (std::size_t i = 0; i < disks_.size(); ++i) {
    CrashStyle mine = style;
    if (i > 0 && random_.below(2) == 0) {  // another one's cache was fuller
      mine.keep_percent = static_cast<std::uint32_t>(random_.below(101));
      mine.ordered = random_.below(4) == 0;
    }
    crash_files(*disks_[i], mine);
  }
  device_->set_gone();
}

void SimFileSystem::pull_out(std::size_t disk, const CrashStyle& style) {
  SimDisk& out = *disks_[disk];
  trace_.event("device: disk {} is pulled out", {disk});
  for (const auto& [name, file] : files_) {  // before names go
    if (!out.has(name)) continue;
    for (SimBackend* backend : file->backends) backend->cut_off();
  }
  crash_files(out, style);
  std::erase_if(*locks_, [&](const std::string& path) { return out.has(path); });
  out.pull_out();
  out.poke();
}

void SimFileSystem::plan_crash(std::uint64_t events, const CrashStyle& style) {
  device_->plan_crash(events, [this, style] { crash(style); });
}

void SimFileSystem::end_process() {
  crash({.kind = CrashStyle::Kind::kKill, .keep_percent = static_cast<std::uint32_t>(random_.below(101))});
}

}  // namespace tiercel::sim
