// AdminClient: asks a running service for an admin call over its Unix socket (HTTP, one request a connection).
// Blocking, bounded in time and size; one thread.
#pragma once

#include <tiercel/result.h>

#include <string>
#include <string_view>

namespace tiercel::cli {

struct AdminReply {
  int status = 0;  ///< of HTTP
  std::string body;
};

/// `path`: of the admin socket. kNotFound: nobody listens there; kInvalidArgument: this user may not; kTimeout, kIo.
[[nodiscard]] Result<AdminReply> ask_admin(const std::string& path, std::string_view call, std::string_view body);

/// What an HTTP answer says, read to its end. kCorrupt: it is none.
[[nodiscard]] Result<AdminReply> read_reply(std::string_view text);

}  // namespace tiercel::cli
