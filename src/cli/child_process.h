// run_child: runs a program to its end and collects what it prints. Its own process group is not changed, so that a
// Ctrl-C ends it too. Blocks the calling thread; any thread, as long as nobody else waits for children.
#pragma once

#include <tiercel/result.h>

#include <atomic>
#include <chrono>
#include <span>
#include <string>

namespace tiercel::cli {

struct ChildOutcome {
  int exit_status = 0;  ///< or 128 + the signal that ended it
  std::string output;   ///< of stdout and stderr
};

/// `arguments[0]` is looked for in PATH. kNotFound: it is not there. kTimeout: it was killed. kClosed: *cancel.
[[nodiscard]] Result<ChildOutcome> run_child(std::span<const std::string> arguments, std::chrono::seconds patience,
                                             const std::atomic<bool>* cancel);

}  // namespace tiercel::cli
