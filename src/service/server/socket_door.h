// The door of a service that engines enter by the Unix socket: a SocketServer, as the Service sees it.
#pragma once

#include "service/engine_door.h"

#include <tiercel/config.h>
#include <tiercel/export.h>

namespace tiercel::service {

/// For Service::open, with its `service.*` settings.
[[nodiscard]] TIERCEL_API Door socket_door(const Config& config);
/// Where that door is.
[[nodiscard]] TIERCEL_API std::string socket_path(const Config& config);

}  // namespace tiercel::service
