// The door of a service that engines enter by the Unix socket: a SocketServer, as the Service sees it.
#pragma once

#include "service/engine_door.h"
#include "service/start/idle_end.h"

#include <tiercel/config.h>
#include <tiercel/export.h>

#include <memory>
#include <string>

namespace tiercel::service {

/// For Service::open, with its `service.*` settings. With `idle_end` nobody comes in any more after its grace time.
[[nodiscard]] TIERCEL_API Door socket_door(const Config& config, std::shared_ptr<start::IdleEnd> idle_end = nullptr);
/// Where that door is.
[[nodiscard]] TIERCEL_API std::string socket_path(const Config& config);
/// Where people operate the service that listens at `socket`: beside it.
[[nodiscard]] TIERCEL_API std::string admin_path(const std::string& socket);

}  // namespace tiercel::service
