// StatusClient: asks a service for its /status over HTTP. Blocking, bounded in time; one thread.
#pragma once

#include <tiercel/result.h>

#include <string>

namespace tiercel::cli {

/// The text that `URL/status` answers. kInvalidArgument: not "http://HOST[:PORT]"; kIo: nobody answers there, or not
/// so.
[[nodiscard]] Result<std::string> fetch_status(const std::string& url);

}  // namespace tiercel::cli
