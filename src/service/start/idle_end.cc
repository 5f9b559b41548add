#include "service/start/idle_end.h"

#include "base/log.h"

#include <cerrno>
#include <utility>

namespace tiercel::service::start {

IdleEnd::IdleEnd(const std::string& socket, std::chrono::nanoseconds grace, std::function<void()> ended)
    : lock_(socket), grace_(grace), ended_(std::move(ended)) {}

IdleEnd::~IdleEnd() = default;

bool IdleEnd::try_lock() {
  const auto taken = lock_.try_take();
  if (taken) return *taken;
  if (taken.error().os_error == ENOENT) return true;
  log_line(LogLevel::kWarn, "service_idle_end", taken.error().message);
  return false;
}

}  // namespace tiercel::service::start
