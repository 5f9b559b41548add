#include "cli/commands.h"

#include <fmt/format.h>

#include <csignal>
#include <cstdio>

namespace tiercel::cli {
namespace {
std::atomic<bool> interrupted{false};  // pairs with nothing: it is looked at now and then
}  // namespace

int complain(const Error& error, int status) {
  std::fflush(stdout);
  std::fputs(fmt::format("error: {}\n", error.message).c_str(), stderr);
  return status;
}

void say(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

const std::atomic<bool>& watch_interrupts() {
  struct sigaction action{};
  action.sa_handler = [](int) { interrupted.store(true); };
  (void)sigaction(SIGINT, &action, nullptr);
  (void)sigaction(SIGTERM, &action, nullptr);
  return interrupted;
}

}  // namespace tiercel::cli
