// IdleEnd: how a service ends after its last member without losing a client that connects at that moment.
//
// The socket server's first thread alone greets callers, and it alone decides. When nobody has been there for the grace
// time (no connection, no greeting, no departed member whose process may still use its slots):
//
//   1. take SOCKET.start without waiting     taken by somebody: he starts or connects; look again soon
//   2. somebody waits in the backlog?        give the lock back, greet him, stay
//   3. remove the path, close the listening socket and SOCKET.lock, call `ended`
//   4. the lock stays until this object goes, which is when the process does: arena and disk are free then
//
// Why nobody is lost. A client is a member once it has its Welcome. Welcomes are written by the thread that decides, so
// none is written after step 2, and before it there was no member. Whoever comes too late for step 2 meets one of: no
// path (ENOENT), a socket without a process (ECONNREFUSED), or a connection that is closed before its Welcome (it came
// into the backlog between 2 and 3). All three mean to a client with ClientOptions::start that nobody answers: it waits
// for the lock, which it gets when this process is gone, and starts the next service, or meets one that another client
// has started meanwhile. And a client that has the lock tries the path again before it starts anything, while step 1
// keeps this service from ending: it is served by this one or by the next, never by none and never by two.
// Killed between the steps, the kernel gives the lock back; a path that is left refuses.
//
// A client without `start` sees that the service has ended, as with any other. One thread at a time.
#pragma once

#include "service/start/start_lock.h"

#include <tiercel/export.h>

#include <chrono>
#include <functional>
#include <string>

namespace tiercel::service::start {

class TIERCEL_API IdleEnd {
 public:
  /// `ended` runs on the server's thread.
  IdleEnd(const std::string& socket, std::chrono::nanoseconds grace, std::function<void()> ended);
  ~IdleEnd();

  [[nodiscard]] std::chrono::nanoseconds grace() const noexcept { return grace_; }
  /// False: somebody starts or connects. Where the directory is gone nobody can come: true.
  [[nodiscard]] bool try_lock();
  void unlock() noexcept { lock_.give_back(); }
  void ended() const { ended_(); }

 private:
  StartLock lock_;
  const std::chrono::nanoseconds grace_;
  const std::function<void()> ended_;
};

}  // namespace tiercel::service::start
