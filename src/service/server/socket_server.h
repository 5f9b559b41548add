// SocketServer: the sessions of other processes on one cache, over a Unix socket.
//
// start() listens; connections are spread over a few threads (reactor.h), each of which serves its own without locks.
// A client that goes away ends its session at once; what had been granted to it waits until its process is proved gone,
// or until it comes back and says what it still holds. So it is across runs: the arena of an earlier run that its
// clients still map is adopted (adoption.h). Thread-safe. stop() (and destruction) ends every connection and
// joins the threads; the cache must be alive until then, and may be closed before or after.
#pragma once

#include "base/mutex.h"
#include "service/server/adoption.h"
#include "service/server/connection.h"
#include "service/server/slow_lane.h"
#include "service/start/idle_end.h"
#include "service/wire/handshake.h"

#include <tiercel/cache.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace tiercel::service {

struct SocketOptions {
  std::string path;
  std::string group;                                           ///< empty: this user alone
  std::uint32_t threads = 1;                                   ///< that serve connections
  std::uint32_t connections = 256;                             ///< at once
  std::uint64_t ring_bytes = 1 << 20;                          ///< of a connection
  std::chrono::nanoseconds greeting{std::chrono::seconds(2)};  ///< within which a caller must have said Hello
  /// After a process is gone, for what its devices may still be doing.
  std::chrono::nanoseconds settle{std::chrono::milliseconds(100)};
  MemberLimits member{};
  std::uint64_t open_blocks = std::uint64_t{4} << 20U;  ///< of all members' loads, reservations and pins together
  std::shared_ptr<start::IdleEnd> idle_end{};  ///< where it is: nobody is accepted any more after its grace time
};

/// One connected member, for people.
struct MemberReport {
  std::uint64_t member = 0;
  pid_t pid = 0;
  std::string model;
  std::string engine_id;
  std::uint32_t rank = 0;
  std::uint32_t members = 1;         ///< of its engine
  std::uint64_t connected_ns = 0;    ///< how long
  std::uint64_t departed_slots = 0;  ///< that wait in quarantine
  bool departed = false;             ///< its connection has ended, its process has not
  std::uint64_t stored_bytes = 0;
  std::uint64_t loaded_bytes = 0;
  std::uint64_t load_ns = 0;
  KvPool pool{};                      ///< all zero: never reported
  double prefill_bytes_per_second{};  ///< 0: never reported
};

struct SocketStats {
  std::uint64_t connections = 0;  ///< now
  std::uint64_t accepted = 0;
  std::uint64_t refused = 0;
  std::uint64_t protocol_errors = 0;   ///< connections that were closed for what came
  std::uint64_t departed_members = 0;  ///< now: gone, with slots that wait for their processes' end
  std::uint64_t departed_slots = 0;    ///< now
  std::uint64_t taken_up = 0;          ///< connections that took up an earlier one
};

class SocketServer {
 public:
  /// `cache`'s arena must be a memfd (host.arena = "memfd"). Errors name the key.
  [[nodiscard]] static Result<std::unique_ptr<SocketServer>> start(const Cache& cache, const SocketOptions& options);
  /// The path, before there is a cache: nobody else can take it. With an earlier arena the cache is made with
  /// Environment::arena_later.
  struct TakenPath {
    FileDescriptor lock;
    std::optional<EarlierArena> earlier;
  };
  [[nodiscard]] static Result<TakenPath> take_path(const SocketOptions& options, const HostConfig& host);
  [[nodiscard]] static Result<std::unique_ptr<SocketServer>> start(const Cache& cache, const SocketOptions& options,
                                                                   TakenPath path);
  ~SocketServer();

  void stop() noexcept;
  /// Ends a member's connection; its process may connect again. Done soon, by the connection's thread.
  void disconnect(std::uint64_t member);
  [[nodiscard]] SocketStats stats() const;
  [[nodiscard]] std::vector<MemberReport> members() const;
  [[nodiscard]] ArenaReport arena() const;
  [[nodiscard]] const std::string& path() const noexcept { return options_.path; }

 private:
  struct Lane {  // a thread and its connections
    std::unique_ptr<Reactor> reactor;
    std::map<std::uint64_t, std::unique_ptr<Connection>> connections;  // by member; the thread's own
    std::vector<std::uint64_t> with_more;      // members whose turn was over before their requests were
    std::atomic<std::uint32_t> with_loads{0};  // seq_cst with the fence in progressed(): no progress is missed
    std::atomic<bool> progressed{false};
  };
  struct Greeting {  // a caller that has not said Hello, or waits for its earlier connection to end, or for an arena
    FileDescriptor socket;
    std::uint64_t until_ns = 0;
    std::optional<wire::Hello> hello;
    FileDescriptor pidfd;
    FileDescriptor arena;  // that it shows
  };
  struct Departed {
    Caller caller;
    GrantTable grants;
    std::uint64_t gone_ns = 0;  // when it was seen that its process is gone or has let go; 0: not yet
  };

  SocketServer(const Cache& cache, const SocketOptions& options, std::optional<EarlierArena> earlier);
  [[nodiscard]] Status listen(FileDescriptor lock);

  // On the first lane's thread; of callers, in socket_greeting.cc.
  void accept_callers();
  void hear(int socket, std::uint32_t events);
  enum class Then : std::uint8_t {  // what a refused caller is told to do
    kNothing,
    kLetGo,     // of the arena that it has shown
    kAskAgain,  // what it lacks may be here soon
  };
  void refuse(int socket, const Error& error, Then then = Then::kNothing);
  [[nodiscard]] Status check_caller(const Greeting& greeting, Caller& caller) const;
  [[nodiscard]] bool needs_arena(Greeting& greeting);
  void greet(int socket);
  void greet_waiting();
  struct Earlier {  // the connection that a caller takes up
    std::shared_ptr<Departed> departed;
    bool survivor = false;  // of an earlier run
  };
  void welcome(int socket, Caller caller, const Earlier& earlier);
  [[nodiscard]] std::unique_ptr<Member> make_member(const Caller& caller, const Mapping& ring, bool claims);
  void send_off(std::uint64_t member, std::shared_ptr<Departed> departed);
  void forget_departed(std::uint64_t member);
  void has_said(std::uint64_t member);
  std::uint64_t step_adoption(std::uint64_t now_ns);
  std::uint64_t drop_silent_callers(std::uint64_t now_ns);
  std::uint64_t housekeep();
  std::uint64_t watch_idleness(std::uint64_t now_ns);

  // On a connection's thread.
  void adopt(Lane& lane, std::unique_ptr<Connection> connection);
  void ready(Lane& lane, std::uint64_t member, std::uint32_t events);
  void settle(Lane& lane, Connection& connection, const Status& status);
  void end(Lane& lane, std::uint64_t member, const Status& why);
  std::uint64_t turn(Lane& lane);
  std::uint64_t turn_of_loads(Lane& lane);

  void progressed() noexcept;
  [[nodiscard]] Lane& lane_of(std::uint64_t member) noexcept { return *lanes_[member % lanes_.size()]; }
  struct Note {  // what members() answers from
    MemberReport report;
    std::shared_ptr<MemberFigures> figures;
    std::uint64_t since_ns = 0;
  };
  void note_connected(Connection& connection);
  void note_departed(std::uint64_t member, const Departed& departed);

  const std::shared_ptr<detail::CacheCore> core_;
  const SocketOptions options_;
  const std::uint64_t service_;  // random, of this run
  Budget open_blocks_;           // outlives the members
  wire::Listening listening_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  SlowLane slow_;
  bool stopped_ = false;

  // The first lane's.
  std::map<int, Greeting> greetings_;
  std::map<std::uint64_t, std::uint64_t> connected_members_;  // and their tokens, until send_off()
  std::map<std::uint64_t, std::shared_ptr<Departed>> departed_;
  std::uint64_t accept_again_ns_ = 0;  // no more descriptors: accepting pauses
  std::uint64_t next_member_ = 0;      // of this epoch
  std::uint64_t idle_since_ns_ = 0;    // 0: somebody is there
  Adoption adoption_;

  std::atomic<std::uint64_t> accepted_{0};  // relaxed: figures, like the next ones
  std::atomic<std::uint64_t> refused_{0};
  std::atomic<std::uint64_t> protocol_errors_{0};
  std::atomic<std::uint64_t> taken_up_{0};
  std::atomic<std::uint32_t> connected_{0};
  mutable Mutex mutex_;  // a leaf
  std::map<std::uint64_t, Note> reports_ TIERCEL_GUARDED_BY(mutex_);
  ArenaReport arena_report_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel::service
