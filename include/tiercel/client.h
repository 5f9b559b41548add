// Client: a cache that another process of this machine serves (`tiercel serve`), reached over its Unix socket.
//
// Sessions are those of session.h, with the same answers and the same errors; blocks are read and written in the
// service's arena, which this process maps. No call waits longer than `call_deadline` (a load: than its own deadline)
// for a service that does not answer: it says that nothing is there (no match, kDeadline, kBusy), and so do further
// calls, at once, until the service is heard of again. While there is no service, calls answer kClosed or no match at
// once, and a thread of the client connects again. A forked child must not use what its parent opened. Safe from
// several threads.
//
// With `start`, a service of this user's own is started where none answers, by whichever process comes first; all that
// ask at once get the same one, or the same error. It serves whoever asks for the same path, ends after its last client
// (service.idle_grace), and is started again when it is lost. docs/operations.md, "A private service".
#pragma once

#include <tiercel/export.h>
#include <tiercel/result.h>
#include <tiercel/session.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tiercel {

namespace detail {
class ClientCore;
}

/// How a private service is started: `PROGRAM serve --private [--config FILE] [ARGUMENTS]`.
struct StartOptions {
  /// The program `tiercel`. Empty: $TIERCEL_PROGRAM, else beside this library or program, in ../bin of it, or in PATH.
  std::string program{};
  std::string config{};                  ///< file of settings; empty: none
  std::vector<std::string> arguments{};  ///< flags of `tiercel serve`; paths in them must be absolute
  /// For starting and connecting together, from the first call on. 100 ms to 5 min.
  std::chrono::milliseconds deadline{30'000};
  /// How often within an hour a service that was lost is started again without anybody calling. 0 to 60.
  std::uint32_t restarts_an_hour = 6;
};

struct ClientOptions {
  std::string socket;  ///< the service's path; empty: default_socket_path(), or with `start` as it says
  /// How long a call waits for a service that does not answer. 1 ms to 60 s.
  std::chrono::milliseconds call_deadline{500};
  /// The first pause before connecting again; it doubles up to 32 times this, each with up to a half more by chance.
  std::chrono::milliseconds reconnect_pause{50};
  /// Start a service at `socket` where none answers. With an empty `socket`: at private_socket_path(); but where
  /// $TIERCEL_SOCKET names a service, that is used and none is started.
  std::optional<StartOptions> start{};
};

/// $TIERCEL_SOCKET, else $XDG_RUNTIME_DIR/tiercel/tiercel.sock, else /run/tiercel/tiercel.sock.
[[nodiscard]] TIERCEL_API std::string default_socket_path();

/// Where a private service of this user is, one for each configuration: in $XDG_RUNTIME_DIR/tiercel where that
/// directory exists, else in /tmp/tiercel-UID.
[[nodiscard]] TIERCEL_API std::string private_socket_path(const StartOptions& start);

class TIERCEL_API Client {
 public:
  /// Connects once, to see that a service is there. kNotFound: none is; kUnsupported: it speaks another version (both
  /// are in the sentence); kLimit: it has too many clients. A service that was restarted and waits for the arena of the
  /// run before it is waited for; kTimeout: it still waits at `call_deadline` (the sentence says for whom), or does not
  /// answer. With `start`: also why it could not be started, within the deadline of `start`, which then holds for all
  /// of this, and for open_session too.
  [[nodiscard]] static Result<Client> connect(const ClientOptions& options);

  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();  ///< sessions and handles may outlive it

  /// As Cache::open_session.
  [[nodiscard]] Result<Session> open_session(const SessionOptions& options);

  /// The path that it connects to.
  [[nodiscard]] const std::string& socket() const;

  /// Waits until the service has seen all that this client's handles have given back so far. False: it did not answer.
  bool sync();

 private:
  explicit Client(std::shared_ptr<detail::ClientCore> core);
  std::shared_ptr<detail::ClientCore> core_;
};

}  // namespace tiercel
