// What `tiercel serve --private` does besides serving: it undoes what it has from the engine that started it, and keeps
// its log within bounds. Called once, before any other thread; what the system refuses is left as it is.
#pragma once

#include <tiercel/config.h>
#include <tiercel/result.h>

#include <string>

namespace tiercel::cli {

/// The settings that a private service begins with, where nobody sets others: no listener, an end after 30 s alone.
[[nodiscard]] Config private_config();

/// Files are made for this user alone; all processors, ordinary scheduling and memory of all nodes; and where memory
/// runs out, the cache goes before the engines. A start that does not end is ended by an alarm.
void settle_in();
/// It serves: no alarm any more.
void settled();

/// The log "tiercel", stdout and stderr go to `path` from here on: at most 1 MiB, and as much of the past in
/// PATH with ".1" before its last suffix.
[[nodiscard]] Status log_to(const std::string& path);

}  // namespace tiercel::cli
