// How much memory the arenas of some processes take: each memfd that any of them maps or has open, once.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace tiercel {

struct ArenaMemory {
  std::size_t arenas = 0;
  std::uint64_t bytes = 0;  ///< that are there; of one that is mapped and nowhere open, all that is mapped
};

inline constexpr const char* kArenaName = "memfd:host.capacity";

inline ArenaMemory arena_memory(std::span<const pid_t> processes) {
  std::map<ino_t, std::uint64_t> open;
  std::map<ino_t, std::uint64_t> mapped;
  for (const pid_t pid : processes) {
    std::error_code gone;
    for (std::filesystem::directory_iterator at(fmt::format("/proc/{}/fd", pid), gone), end; !gone && at != end;
         at.increment(gone)) {
      // Opened first, then asked: the process may give the number to another file between two questions.
      const int file = ::open(at->path().c_str(), O_PATH | O_CLOEXEC);
      if (file < 0) continue;
      std::error_code unknown;
      const std::string target = std::filesystem::read_symlink(fmt::format("/proc/self/fd/{}", file), unknown);
      struct stat about{};
      const bool told = ::fstat(file, &about) == 0;
      ::close(file);
      if (!told || target.find(kArenaName) == std::string::npos) continue;
      open[about.st_ino] = static_cast<std::uint64_t>(about.st_blocks) * 512;
    }
    std::ifstream maps(fmt::format("/proc/{}/maps", pid));
    for (std::string line; std::getline(maps, line);) {
      if (line.find(kArenaName) == std::string::npos) continue;
      std::uint64_t from = 0;
      std::uint64_t to = 0;
      std::uint64_t inode = 0;
      if (std::sscanf(line.c_str(), "%lx-%lx %*s %*s %*s %lu", &from, &to, &inode) == 3) mapped[inode] = to - from;
    }
  }
  ArenaMemory memory;
  for (const auto& [_, bytes] : open) {
    ++memory.arenas;
    memory.bytes += bytes;
  }
  for (const auto& [inode, bytes] : mapped) {
    if (open.contains(inode)) continue;
    ++memory.arenas;
    memory.bytes += bytes;
  }
  return memory;
}

/// How often a process maps an arena.
inline std::size_t arena_mappings(pid_t process) {
  std::size_t count = 0;
  std::ifstream maps(fmt::format("/proc/{}/maps", process));
  for (std::string line; std::getline(maps, line);) count += line.find(kArenaName) == std::string::npos ? 0U : 1U;
  return count;
}

/// Looks again and again, on a thread of its own, at the processes that it is told of.
class ArenaWatch {
 public:
  ArenaWatch() : thread_([this] { run(); }) {}
  ~ArenaWatch() { stop(); }
  ArenaWatch(const ArenaWatch&) = delete;
  ArenaWatch& operator=(const ArenaWatch&) = delete;

  void set(std::vector<pid_t> processes) {
    const std::lock_guard lock(mutex_);
    processes_ = std::move(processes);
  }
  /// The most that was seen at one time.
  ArenaMemory stop() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
    return most_;
  }
  [[nodiscard]] std::uint64_t looks() const { return looks_; }

 private:
  void run() {
    while (!stopping_) {
      std::vector<pid_t> processes;
      {
        const std::lock_guard lock(mutex_);
        processes = processes_;
      }
      const ArenaMemory now = arena_memory(processes);
      most_.arenas = std::max(most_.arenas, now.arenas);
      most_.bytes = std::max(most_.bytes, now.bytes);
      ++looks_;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }

  std::mutex mutex_;
  std::vector<pid_t> processes_;
  ArenaMemory most_;  // of the thread, until it has ended
  std::atomic<std::uint64_t> looks_{0};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace tiercel
