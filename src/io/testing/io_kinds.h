// IoKinds: every way to read and write a file that there is, alone and under each decorator, for tests that all of them
// must pass. Files of the system lie in a directory of their own, which is removed with its content.
#pragma once

#include "base/clock.h"
#include "io/counting_backend.h"
#include "io/delayed_backend.h"
#include "io/faulty_backend.h"
#include "io/file_system.h"
#include "io/memory_file_system.h"
#include "io/system_file_system.h"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace tiercel::testing_io {

enum class Storage : std::uint8_t { kMemory, kIoUring, kThreads };
enum class Registered : std::uint8_t { kNone, kAll, kPieces };  ///< kPieces: three pages of four, three at a time
enum class Decoration : std::uint8_t { kNone, kFaulty, kDelayed, kCounting };

struct IoVariant {
  const char* name = "";
  Storage storage = Storage::kMemory;
  bool direct = true;
  Registered registered = Registered::kNone;  ///< of the test's memory, before the first operation
  Decoration decoration = Decoration::kNone;
};

inline std::vector<IoVariant> all_variants() {
  using enum Storage;
  using enum Decoration;
  return {{.name = "memory"},
          {.name = "memory_any_offset", .direct = false},
          {.name = "io_uring", .storage = kIoUring},
          {.name = "io_uring_registered", .storage = kIoUring, .registered = Registered::kAll},
          {.name = "io_uring_registered_in_pieces", .storage = kIoUring, .registered = Registered::kPieces},
          {.name = "io_uring_page_cache", .storage = kIoUring, .direct = false},
          {.name = "threads", .storage = kThreads},
          {.name = "threads_page_cache", .storage = kThreads, .direct = false},
          {.name = "faulty_memory", .decoration = kFaulty},
          {.name = "faulty_io_uring", .storage = kIoUring, .decoration = kFaulty},
          {.name = "delayed_memory", .decoration = kDelayed},
          {.name = "delayed_threads", .storage = kThreads, .decoration = kDelayed},
          {.name = "counting_memory", .decoration = kCounting},
          {.name = "counting_io_uring", .storage = kIoUring, .decoration = kCounting}};
}

inline std::string variant_name(const testing::TestParamInfo<IoVariant>& info) { return info.param.name; }

/// A filesystem of one variant and a directory in it.
class IoPlace {
 public:
  explicit IoPlace(const IoVariant& variant) : variant_(variant) {
    if (variant.storage == Storage::kMemory) {
      auto memory = std::make_unique<MemoryFileSystem>();
      directory_ = "/disk";
      memory->make_directory(directory_);
      memory_ = memory.get();
      files_ = std::move(memory);
      return;
    }
    std::string name = testing::TempDir() + "tiercel-io-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    auto system =
        std::make_unique<SystemFileSystem>(variant.storage == Storage::kThreads ? IoEngine::kThreads : IoEngine::kAuto);
    has_engine_ = variant.storage == Storage::kThreads || system->reason().empty();
    files_ = std::move(system);
  }
  IoPlace(const IoPlace&) = delete;
  IoPlace& operator=(const IoPlace&) = delete;
  ~IoPlace() {
    files_.reset();
    if (memory_ == nullptr) std::filesystem::remove_all(directory_);
  }

  [[nodiscard]] FileSystem& files() { return *files_; }
  [[nodiscard]] MemoryFileSystem* memory() { return memory_; }
  [[nodiscard]] const std::string& directory() const { return directory_; }
  [[nodiscard]] std::string path(const std::string& name) const { return directory_ + "/" + name; }
  /// False: this machine has no io_uring, which the variant is about.
  [[nodiscard]] bool has_engine() const { return has_engine_; }

  /// The decorator of the variant, with nothing planned, over `backend`.
  [[nodiscard]] std::unique_ptr<IoBackend> decorate(std::unique_ptr<IoBackend> backend, const Clock& clock) const {
    switch (variant_.decoration) {
      case Decoration::kNone:
        break;
      case Decoration::kFaulty:
        return std::make_unique<FaultyBackend>(std::move(backend), std::make_shared<FaultPlan>());
      case Decoration::kDelayed:
        return std::make_unique<DelayedBackend>(std::move(backend), std::make_shared<DelayGate>(clock));
      case Decoration::kCounting:
        return std::make_unique<CountingBackend>(std::move(backend), std::make_shared<IoCounts>());
    }
    return backend;
  }

 private:
  const IoVariant variant_;
  std::unique_ptr<FileSystem> files_;
  MemoryFileSystem* memory_ = nullptr;  // files_, where it is one
  std::string directory_;
  bool has_engine_ = true;
};

/// Memory for transfers, aligned to pages.
class PageMemory {
 public:
  explicit PageMemory(std::size_t pages) : pages_(pages) {}
  [[nodiscard]] std::byte* at(std::size_t offset) { return pages_[offset / kPageBytes].data() + offset % kPageBytes; }
  [[nodiscard]] std::size_t bytes() const { return pages_.size() * kPageBytes; }
  [[nodiscard]] std::span<std::byte> range(std::size_t offset, std::size_t bytes) { return {at(offset), bytes}; }
  [[nodiscard]] std::vector<struct iovec> regions(Registered registered) {
    if (registered == Registered::kAll) return {{.iov_base = at(0), .iov_len = bytes()}};
    std::vector<struct iovec> pieces;
    for (std::size_t page = 0; registered == Registered::kPieces && page < pages_.size(); page += 4) {
      pieces.push_back({.iov_base = at(page * kPageBytes), .iov_len = 3 * kPageBytes});
    }
    return pieces;
  }

 private:
  static constexpr std::size_t kPageBytes = 4096;
  struct alignas(kPageBytes) Page : std::array<std::byte, kPageBytes> {};
  std::vector<Page> pages_;
};

}  // namespace tiercel::testing_io
