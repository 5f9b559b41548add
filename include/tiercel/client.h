// Client: a cache that another process of this machine serves (`tiercel serve`), reached over its Unix socket.
//
// Sessions are those of session.h, with the same answers and the same errors; blocks are read and written in the
// service's arena, which this process maps. No call waits longer than `call_deadline` (a load: than its own deadline)
// for a service that does not answer: it says that nothing is there (no match, kDeadline, kBusy), and so do further
// calls, at once, until the service is heard of again. While there is no service, calls answer kClosed or no match at
// once, and a thread of the client connects again. A forked child must not use what its parent opened. Safe from
// several threads.
#pragma once

#include <tiercel/export.h>
#include <tiercel/result.h>
#include <tiercel/session.h>

#include <chrono>
#include <memory>
#include <string>

namespace tiercel {

namespace detail {
class ClientCore;
}

struct ClientOptions {
  std::string socket;  ///< the service's path; empty: default_socket_path()
  /// How long a call waits for a service that does not answer. 1 ms to 60 s.
  std::chrono::milliseconds call_deadline{500};
  /// The first pause before connecting again; it doubles up to 32 times this, each with up to a half more by chance.
  std::chrono::milliseconds reconnect_pause{50};
};

/// $TIERCEL_SOCKET, else $XDG_RUNTIME_DIR/tiercel/tiercel.sock, else /run/tiercel/tiercel.sock.
[[nodiscard]] TIERCEL_API std::string default_socket_path();

class TIERCEL_API Client {
 public:
  /// Connects once, to see that a service is there. kNotFound: none is; kUnsupported: it speaks another version (both
  /// are in the sentence); kLimit: it has too many clients.
  [[nodiscard]] static Result<Client> connect(const ClientOptions& options);

  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();  ///< sessions and handles may outlive it

  /// As Cache::open_session.
  [[nodiscard]] Result<Session> open_session(const SessionOptions& options);

  /// Waits until the service has seen all that this client's handles have given back so far. False: it did not answer.
  bool sync();

 private:
  explicit Client(std::shared_ptr<detail::ClientCore> core);
  std::shared_ptr<detail::ClientCore> core_;
};

}  // namespace tiercel
