// The commands of `tiercel`. Each takes the words behind its name, prints its answer to stdout, errors to stderr, and
// answers the exit status. Blocking; the main thread.
#pragma once

#include <tiercel/result.h>

#include <atomic>
#include <span>
#include <string>

namespace tiercel::cli {

inline constexpr int kUsageStatus = 64;  // sysexits.h: none of the statuses that a command answers with

/// 0; 1: something could not be measured.
[[nodiscard]] int run_bench(std::span<const std::string> arguments);
/// 0: all is well; 1: a warning; 2: a failure.
[[nodiscard]] int run_doctor(std::span<const std::string> arguments);
/// As fsck(8): 0 all is well; 1 damage, repaired; 4 damage that is left; 8 the file could not be checked.
[[nodiscard]] int run_fsck(std::span<const std::string> arguments);

/// 0; 1: a trace could not be read or replayed.
[[nodiscard]] int run_replay(std::span<const std::string> arguments);

/// 0: ended in order; 1: it could not start, or something did not end in time.
[[nodiscard]] int run_serve(std::span<const std::string> arguments);

/// 0: it answers and is well; 1: it answers and is not; 2: it does not answer.
[[nodiscard]] int run_status(std::span<const std::string> arguments);
/// 0; 2: it does not answer (without a terminal; with one it is waited for).
[[nodiscard]] int run_top(std::span<const std::string> arguments);

/// Of people, to a running service. 0: done; 1: it refused; 2: it does not answer, or may not be operated by this user.
[[nodiscard]] int run_mode(std::span<const std::string> arguments);
[[nodiscard]] int run_drop(std::span<const std::string> arguments);
[[nodiscard]] int run_pin(std::span<const std::string> arguments);
[[nodiscard]] int run_quota(std::span<const std::string> arguments);
[[nodiscard]] int run_log_level(std::span<const std::string> arguments);
[[nodiscard]] int run_reload(std::span<const std::string> arguments);

/// "error: ..." to stderr; answers `status`.
[[nodiscard]] int complain(const Error& error, int status);
void say(const std::string& text);

/// Becomes true on SIGINT and SIGTERM from here on, instead of the end of the process, so that files are removed.
[[nodiscard]] const std::atomic<bool>& watch_interrupts();

}  // namespace tiercel::cli
