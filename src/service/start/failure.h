// Why the last start of a path's service failed, in SOCKET.failed, so that those who waited for it get its sentence
// instead of trying one after the other. Written by who holds the start lock (whole, by rename); read by anybody.
#pragma once

#include <tiercel/result.h>

#include <optional>
#include <string>

namespace tiercel::service::start {

struct Failure {
  std::string number;  ///< another one each time
  Error error;
};

[[nodiscard]] std::optional<Failure> last_failure(const std::string& socket);
void note_failure(const std::string& socket, const Error& error);
void forget_failure(const std::string& socket);

}  // namespace tiercel::service::start
