// JournalFileSystem: files in memory that remember every write, so that a test can see what any crash leaves.
//
// crash_after(n, ...) gives a file system as it is when the power goes after the n-th event (a 4 KiB page written, a
// sync, a change of length or of name). Changes of length and of name are durable at once; pages written since the last
// sync are kept or lost as the caller says. Operations complete at the next reap. Not thread-safe.
#pragma once

#include "base/random.h"
#include "io/file_system.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace tiercel::disk::testing_support {

using Bytes = std::vector<std::byte>;

struct Event {
  enum class Kind : std::uint8_t { kWrite, kSync, kLength, kCreate, kRename, kRemove };
  Kind kind = Kind::kSync;
  std::string path;
  std::string to;            ///< of a rename
  std::uint64_t offset = 0;  ///< of a write; the length of kLength
  Bytes bytes;
};

class JournalFileSystem final : public FileSystem {
 public:
  struct World {
    std::map<std::string, std::shared_ptr<Bytes>> files;
    std::map<std::string, bool> locked;
    std::vector<Event> journal;
    std::uint64_t capacity = std::uint64_t{1} << 40U;
    std::map<std::string, int> errors;  ///< by call ("open", "lock", "allocate"): errno
    std::function<int(const IoOperation&)> operation_error = [](const IoOperation&) { return 0; };
    bool answer_stalled = false;  ///< what stalled ends with the next reap
    std::function<bool(const IoOperation&)> stall = [](const IoOperation&) { return false; };
  };

  JournalFileSystem() = default;
  explicit JournalFileSystem(std::map<std::string, Bytes> files) : base_(std::move(files)) {
    for (const auto& [path, bytes] : base_) world_->files[path] = std::make_shared<Bytes>(bytes);
  }

  [[nodiscard]] World& world() { return *world_; }
  [[nodiscard]] Bytes& bytes(const std::string& path) { return *world_->files.at(path); }
  [[nodiscard]] std::size_t events() const { return world_->journal.size(); }
  /// From here on the journal begins anew: what is there now survives every crash.
  void begin_journal() {
    base_.clear();
    for (const auto& [path, bytes] : world_->files) base_[path] = *bytes;
    world_->journal.clear();
  }

  /// `keep` is asked once for each page written since the last sync before event `n`.
  [[nodiscard]] std::unique_ptr<JournalFileSystem> crash_after(std::size_t n, const std::function<bool()>& keep) const {
    std::map<std::string, Bytes> files = base_;
    std::size_t synced = 0;
    for (std::size_t i = 0; i < n; ++i) {
      if (world_->journal[i].kind == Event::Kind::kSync) synced = i;
    }
    for (std::size_t i = 0; i < n; ++i) {
      const Event& event = world_->journal[i];
      if (event.kind == Event::Kind::kWrite && i >= synced && !keep()) continue;
      replay(event, files);
    }
    return std::make_unique<JournalFileSystem>(std::move(files));
  }
  [[nodiscard]] std::unique_ptr<JournalFileSystem> crash_after(std::size_t n) const {
    return crash_after(n, [] { return true; });
  }

  [[nodiscard]] Result<std::unique_ptr<IoBackend>> open(const std::string& path, const OpenOptions& options) override;
  Status rename(const std::string& from, const std::string& to) override {
    world_->files[to] = world_->files.at(from);
    world_->files.erase(from);
    world_->journal.push_back({.kind = Event::Kind::kRename, .path = from, .to = to});
    return {};
  }
  Status remove(const std::string& path) override {
    world_->files.erase(path);
    world_->journal.push_back({.kind = Event::Kind::kRemove, .path = path});
    return {};
  }
  [[nodiscard]] Result<bool> exists(const std::string& path) override {
    return world_->files.contains(path) || world_->locked.contains(path);
  }
  [[nodiscard]] Result<std::unique_ptr<FileLock>> lock(const std::string& path) override {
    if (const int error = world_->errors["lock"]; error != 0) return fail(ErrorCode::kIo, path + ": no lock", error);
    if (world_->locked[path]) return fail(ErrorCode::kLimit, path + ": process 4711 has it");
    world_->locked[path] = true;
    return std::make_unique<Lock>(world_, path);
  }
  [[nodiscard]] Result<FreeSpace> space(const std::string& directory) override {
    if (directory != "/kv") return fail(ErrorCode::kNotFound, directory + " does not exist", ENOENT);
    return FreeSpace{.free_bytes = world_->capacity - used(*world_), .total_bytes = world_->capacity};
  }

 private:
  class Lock final : public FileLock {
   public:
    Lock(std::shared_ptr<World> world, std::string path) : world_(std::move(world)), path_(std::move(path)) {}
    ~Lock() override { world_->locked[path_] = false; }

   private:
    std::shared_ptr<World> world_;
    std::string path_;
  };
  class Backend;

  [[nodiscard]] static std::uint64_t used(const World& world) {
    std::uint64_t sum = 0;
    for (const auto& [path, bytes] : world.files) sum += bytes->size();
    return sum;
  }
  static void replay(const Event& event, std::map<std::string, Bytes>& files) {
    switch (event.kind) {
      case Event::Kind::kWrite:
        std::ranges::copy(event.bytes, files[event.path].begin() + static_cast<std::ptrdiff_t>(event.offset));
        break;
      case Event::Kind::kLength:
        files[event.path].resize(event.offset);
        break;
      case Event::Kind::kCreate:
        files[event.path] = {};
        break;
      case Event::Kind::kRename:
        files[event.to] = std::move(files[event.path]);
        files.erase(event.path);
        break;
      case Event::Kind::kRemove:
        files.erase(event.path);
        break;
      case Event::Kind::kSync:
        break;
    }
  }

  std::map<std::string, Bytes> base_;
  std::shared_ptr<World> world_ = std::make_shared<World>();
};

class JournalFileSystem::Backend final : public IoBackend {
 public:
  Backend(std::shared_ptr<World> world, std::string path, const OpenOptions& options)
      : world_(std::move(world)), path_(std::move(path)), options_(options), bytes_(world_->files.at(path_)) {}

  [[nodiscard]] bool start(const IoOperation& operation) override {
    const std::int64_t result = perform(operation);
    (world_->stall(operation) ? stalled_ : ended_).push_back({.id = operation.id, .result = result});
    return true;
  }
  [[nodiscard]] std::size_t reap(std::span<IoReaped> reaped, std::uint64_t) override {
    if (world_->answer_stalled) {
      ended_.insert(ended_.end(), stalled_.begin(), stalled_.end());
      stalled_.clear();
    }
    std::size_t count = 0;
    for (; count < reaped.size() && !ended_.empty(); ++count) {
      reaped[count] = ended_.front();
      ended_.pop_front();
    }
    return count;
  }
  void wake() noexcept override {}
  [[nodiscard]] std::uint32_t depth() const noexcept override { return options_.depth; }
  [[nodiscard]] std::uint32_t alignment() const noexcept override { return 4096; }
  [[nodiscard]] const char* name() const noexcept override { return "journal"; }
  Status register_memory(std::span<const struct iovec>) override { return {}; }
  [[nodiscard]] Result<std::uint64_t> size() override { return bytes_->size(); }
  Status allocate(std::uint64_t bytes) override {
    if (bytes <= bytes_->size()) return {};
    if (const int error = world_->errors["allocate"]; error != 0) return fail(ErrorCode::kIo, "no room", error);
    if (used(*world_) - bytes_->size() + bytes > world_->capacity) return fail(ErrorCode::kIo, "no room", ENOSPC);
    return set_length(bytes);
  }
  Status truncate(std::uint64_t bytes) override { return set_length(bytes); }

 private:
  Status set_length(std::uint64_t bytes) {
    bytes_->resize(bytes);
    world_->journal.push_back({.kind = Event::Kind::kLength, .path = name_now(), .offset = bytes});
    return {};
  }
  /// The file may have been renamed since it was opened.
  [[nodiscard]] std::string name_now() const {
    for (const auto& [path, bytes] : world_->files) {
      if (bytes == bytes_) return path;
    }
    return path_;
  }
  [[nodiscard]] std::int64_t perform(const IoOperation& operation) {
    if (const int error = world_->operation_error(operation); error != 0) return -error;
    if (operation.kind == IoKind::kSync) {
      world_->journal.push_back({.kind = Event::Kind::kSync, .path = name_now()});
      return 0;
    }
    if (operation.kind == IoKind::kWrite && options_.read_only) return -EBADF;
    std::uint64_t at = operation.offset;
    std::int64_t moved = 0;
    for (const struct iovec& buffer : operation.buffers) {
      for (std::size_t done = 0; done < buffer.iov_len; done += 4096, at += 4096, moved += 4096) {
        if (at + 4096 > bytes_->size()) return operation.kind == IoKind::kRead ? moved : -EFBIG;
        auto* memory = static_cast<std::byte*>(buffer.iov_base) + done;
        if (operation.kind == IoKind::kRead) {
          std::memcpy(memory, bytes_->data() + at, 4096);
          continue;
        }
        std::memcpy(bytes_->data() + at, memory, 4096);
        world_->journal.push_back(
            {.kind = Event::Kind::kWrite, .path = name_now(), .offset = at, .bytes = Bytes(memory, memory + 4096)});
      }
    }
    return moved;
  }

  std::shared_ptr<World> world_;
  std::string path_;
  OpenOptions options_;
  std::shared_ptr<Bytes> bytes_;
  std::deque<IoReaped> ended_;
  std::deque<IoReaped> stalled_;
};

inline Result<std::unique_ptr<IoBackend>> JournalFileSystem::open(const std::string& path, const OpenOptions& options) {
  if (const int error = world_->errors["open"]; error != 0) {
    return fail(ErrorCode::kIo, path + ": " + std::strerror(error), error);
  }
  if (!world_->files.contains(path)) {
    if (!options.create) return fail(ErrorCode::kNotFound, path + " does not exist", ENOENT);
    world_->files[path] = std::make_shared<Bytes>();
    world_->journal.push_back({.kind = Event::Kind::kCreate, .path = path});
  } else if (options.create && options.exclusive) {
    return fail(ErrorCode::kInvalidArgument, path + " exists", EEXIST);
  }
  return std::make_unique<Backend>(world_, path, options);
}

}  // namespace tiercel::disk::testing_support
