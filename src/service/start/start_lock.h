// StartLock: who may start the service of a path, or end it: flock on SOCKET.start.
//
// Held by the client that starts one, together with the process that it starts (both have the same open file), so that
// the lock outlives the one that dies first; and by a private service that ends, until its process is gone. The file
// stays; one that somebody removed meanwhile does not count. It holds the process that took the lock last, for people,
// and when lost services were started again. One thread.
#pragma once

#include "io/file_descriptor.h"

#include <tiercel/result.h>

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace tiercel::service::start {

class StartLock {
 public:
  explicit StartLock(const std::string& socket) : path_(socket + ".start") {}
  StartLock(const StartLock&) = delete;
  StartLock& operator=(const StartLock&) = delete;
  /// Unlocks: a child that was forked off meanwhile may have the file open, and must not keep the lock by that.
  ~StartLock();

  /// Takes it without waiting. True: it is ours. kIo: the file cannot be made.
  [[nodiscard]] Result<bool> try_take();
  [[nodiscard]] bool taken() const noexcept { return taken_; }
  void give_back() noexcept;
  /// Ours no more, but still that of the process that was started with it.
  void leave() noexcept;
  [[nodiscard]] int descriptor() const noexcept { return file_.get(); }

  /// Who took it last, by anybody's look; 0: unknown.
  [[nodiscard]] pid_t holder() const;
  /// When lost services were started again, as it was noted; for whoever holds the lock, as note_restart() is.
  [[nodiscard]] std::vector<std::uint64_t> restarts() const;
  void note_restarts(const std::vector<std::uint64_t>& times_ms);

 private:
  [[nodiscard]] std::vector<std::uint64_t> numbers() const;
  void write(const std::vector<std::uint64_t>& restarts);

  const std::string path_;
  FileDescriptor file_;
  bool taken_ = false;
};

}  // namespace tiercel::service::start
