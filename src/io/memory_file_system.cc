#include "io/memory_file_system.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace tiercel {
namespace {

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string without_last_slash(const std::string& path) {
  return path.size() > 1 && path.back() == '/' ? path.substr(0, path.size() - 1) : path;
}

}  // namespace

struct MemoryFileSystem::State {
  Mutex mutex;
  const std::shared_ptr<MemoryCapacity> capacity = std::make_shared<MemoryCapacity>();
  std::map<std::string, std::shared_ptr<MemoryFile>> files TIERCEL_GUARDED_BY(mutex);
  std::set<std::string> directories TIERCEL_GUARDED_BY(mutex);
  std::set<std::string> locks TIERCEL_GUARDED_BY(mutex);
};

class MemoryFileSystem::Lock final : public FileLock {
 public:
  Lock(std::shared_ptr<State> state, std::string path) : state_(std::move(state)), path_(std::move(path)) {}
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  ~Lock() override {
    const MutexLock guard(state_->mutex);
    state_->locks.erase(path_);
  }

 private:
  const std::shared_ptr<State> state_;
  const std::string path_;
};

MemoryFileSystem::MemoryFileSystem(std::uint64_t capacity_bytes) : state_(std::make_shared<State>()) {
  set_capacity(capacity_bytes);
}

void MemoryFileSystem::make_directory(const std::string& path) {
  const MutexLock guard(state_->mutex);
  state_->directories.insert(without_last_slash(path));
}

void MemoryFileSystem::set_capacity(std::uint64_t capacity_bytes) {
  state_->capacity->total_bytes.store(capacity_bytes, std::memory_order_relaxed);
}

Result<std::unique_ptr<IoBackend>> MemoryFileSystem::open(const std::string& path, const OpenOptions& options) {
  const MutexLock guard(state_->mutex);
  if (!state_->directories.contains(directory_of(path))) {
    return fail(ErrorCode::kNotFound, directory_of(path) + " does not exist", ENOENT);
  }
  auto found = state_->files.find(path);
  if (found == state_->files.end()) {
    if (!options.create) return fail(ErrorCode::kNotFound, path + " does not exist", ENOENT);
    found = state_->files.emplace(path, std::make_shared<MemoryFile>(state_->capacity)).first;
  } else if (options.create && options.exclusive) {
    return fail(ErrorCode::kInvalidArgument, path + " exists already", EEXIST);
  }
  return std::make_unique<MemoryBackend>(found->second, MemoryBackendOptions{.depth = options.depth,
                                                                             .alignment = options.direct ? 4096U : 1U,
                                                                             .read_only = options.read_only});
}

Status MemoryFileSystem::rename(const std::string& from, const std::string& to) {
  std::shared_ptr<MemoryFile> replaced;  // ends after the lock
  const MutexLock guard(state_->mutex);
  const auto found = state_->files.find(from);
  if (found == state_->files.end()) return fail(ErrorCode::kNotFound, from + " does not exist", ENOENT);
  if (!state_->directories.contains(directory_of(to))) {
    return fail(ErrorCode::kNotFound, directory_of(to) + " does not exist", ENOENT);
  }
  if (from == to) return {};
  std::shared_ptr<MemoryFile> file = std::move(found->second);
  state_->files.erase(found);
  replaced = std::exchange(state_->files[to], std::move(file));
  return {};
}

Status MemoryFileSystem::remove(const std::string& path) {
  std::shared_ptr<MemoryFile> removed;
  const MutexLock guard(state_->mutex);
  const auto found = state_->files.find(path);
  if (found == state_->files.end()) return fail(ErrorCode::kNotFound, path + " does not exist", ENOENT);
  removed = std::move(found->second);
  state_->files.erase(found);
  return {};
}

Result<bool> MemoryFileSystem::exists(const std::string& path) {
  const MutexLock guard(state_->mutex);
  return state_->files.contains(path);
}

Result<std::unique_ptr<FileLock>> MemoryFileSystem::lock(const std::string& path) {
  const MutexLock guard(state_->mutex);
  if (!state_->directories.contains(directory_of(path))) {
    return fail(ErrorCode::kNotFound, directory_of(path) + " does not exist", ENOENT);
  }
  if (!state_->locks.insert(path).second) {
    return fail(ErrorCode::kLimit, fmt::format("{} is locked by process {}", path, getpid()));
  }
  return std::make_unique<Lock>(state_, path);
}

Result<FreeSpace> MemoryFileSystem::space(const std::string& directory) {
  const MutexLock guard(state_->mutex);
  if (!state_->directories.contains(without_last_slash(directory))) {
    return fail(ErrorCode::kNotFound, directory + " does not exist", ENOENT);
  }
  const std::uint64_t total = state_->capacity->total_bytes.load(std::memory_order_relaxed);
  const std::uint64_t used = state_->capacity->used_bytes.load(std::memory_order_relaxed);
  return FreeSpace{.free_bytes = total > used ? total - used : 0, .total_bytes = total};
}

}  // namespace tiercel
