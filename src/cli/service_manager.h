// The service manager that started this program, where one did that wants to know (systemd, Type=notify): a datagram
// to the Unix socket that the environment names in NOTIFY_SOCKET. Nothing is said, and nothing fails, where there is
// none. From any thread.
#pragma once

#include <string_view>

namespace tiercel::cli {

/// `state` as in sd_notify(3): "READY=1", "STOPPING=1".
void tell_service_manager(std::string_view state);

}  // namespace tiercel::cli
