// Starter: connects to the service of a path, and starts a private one where none answers.
//
//   nobody answers -> take SOCKET.start, or wait for it; try again in each turn
//     answered by then                          -> that one
//     ours, and a start has failed meanwhile    -> its sentence: who waited together fails together
//     ours, and nobody answers                  -> launch `tiercel serve --private`, wait for its word, connect
//
// Nobody answers: the path is missing or refuses, or the other end closes before its Welcome (idle_end.h). A service
// that answers with a refusal, or that is stopped and says nothing, is there: none is started beside it.
//
// Eight processes at once: seven find the lock taken and connect as soon as the eighth's service listens, within a turn
// of 10 ms. Who dies: the starter in mid-start: the service has the lock too, goes on, and gives it back when it
// serves; the service in mid-start: its pidfd tells the starter, which passes on the end of its log; both: the kernel
// gives the lock back, and the next waiter starts. A start that takes longer than the deadline is killed by the
// starter, and without one by its own alarm. A killed service leaves a socket that refuses, and no lock.
//
// Who holds the lock keeps the service from ending (idle_end.h), so a client that starts one is always connected to it.
// Safe from several threads; no call outlasts its deadline. It is the memory of nothing: what must be remembered lies
// beside the socket, where other processes find it.
#pragma once

#include "service/client/link.h"
#include "service/start/start_lock.h"

#include <tiercel/client.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

namespace tiercel::service::start {

class Starter {
 public:
  Starter(std::string socket, StartOptions options) : socket_(std::move(socket)), options_(std::move(options)) {}

  enum class Occasion : std::uint8_t {
    kCall,  ///< somebody waits for it
    kLost,  ///< a service that was there is gone: bounded by StartOptions::restarts_an_hour
  };
  struct Attempt {
    Occasion occasion = Occasion::kCall;
    std::uint64_t answer_ns = 0;                   ///< how long a service that is there may take to answer
    const std::atomic<bool>* cancelled = nullptr;  ///< ends it soon, with kClosed
    Link::Refusal* refusal = nullptr;              ///< as of Link::open
  };
  [[nodiscard]] Result<std::shared_ptr<Link>> open(const Link::Greeting& greeting, const Attempt& attempt) const;
  /// Does an attempt to connect that failed so say that nobody is there?
  [[nodiscard]] static bool nobody_answers(const Error& error) noexcept;

 private:
  struct Turn;
  [[nodiscard]] Result<std::shared_ptr<Link>> connect(const Link::Greeting& greeting, const Attempt& attempt,
                                                      std::uint64_t deadline_ns) const;
  [[nodiscard]] Result<std::shared_ptr<Link>> start(Turn& turn) const;
  [[nodiscard]] Result<std::string> start_and_wait(Turn& turn, pid_t& pid) const;
  [[nodiscard]] Status count_restart(StartLock& lock) const;

  const std::string socket_;
  const StartOptions options_;
};

}  // namespace tiercel::service::start
