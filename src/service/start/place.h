// Where a private service lies, and that nobody else could have put it there.
//
// SOCKET is the path; beside it lie SOCKET.lock (of the service that listens, wire/unix_socket.h), SOCKET.start (of who
// starts or ends one, start_lock.h), SOCKET.failed (why the last start failed, failure.h) and SOCKET.log. The directory
// must belong to this user and be writable by nobody else: else another user could put a socket of his own there and
// be sent what engines store. Functions without state.
#pragma once

#include <tiercel/client.h>
#include <tiercel/result.h>

#include <string>

namespace tiercel::service::start {

/// "private.sock", and for other configurations than the default "private-<16 digits of their hash>.sock".
[[nodiscard]] std::string socket_name(const StartOptions& start);

/// $XDG_RUNTIME_DIR/tiercel, where that directory exists; else /tmp/tiercel-UID.
[[nodiscard]] std::string private_directory();

/// Makes the directory of `socket` where it is missing (the last one of its path, mode 0700) and checks it.
/// kInvalidArgument: it is somebody else's, others may write into it, or it is none.
[[nodiscard]] Status prepare_directory(const std::string& socket);

/// `path`, seen from the current directory of this process.
[[nodiscard]] std::string absolute(const std::string& path);

[[nodiscard]] inline std::string log_path(const std::string& socket) { return socket + ".log"; }

}  // namespace tiercel::service::start
