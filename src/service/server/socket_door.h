// The door of a service that engines enter by the Unix socket: a SocketServer, as the Service sees it.
#pragma once

#include "service/engine_door.h"

#include <tiercel/config.h>

namespace tiercel::service {

/// For Service::open, with its `service.*` settings.
[[nodiscard]] MakeDoor socket_door(const Config& config);
/// Where that door is.
[[nodiscard]] std::string socket_path(const Config& config);

}  // namespace tiercel::service
