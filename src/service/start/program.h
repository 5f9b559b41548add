// What is run as a private service: which program, with which words, and what of the environment it gets. Functions
// without state; they read the environment, so nobody may change it meanwhile.
#pragma once

#include "service/start/launch.h"

#include <tiercel/client.h>

#include <string>
#include <vector>

namespace tiercel::service::start {

/// As StartOptions::program says. kNotFound: where it was looked for, and how to name it.
[[nodiscard]] Result<std::string> find_program(const StartOptions& start);

/// Of this process's environment: PATH, HOME, USER, LOGNAME, LANG, LC_*, TZ, TMPDIR, XDG_RUNTIME_DIR and TIERCEL_*
/// (without TIERCEL_API_KEY). The rest (LD_PRELOAD, CUDA_*, secrets of the engine) is not the service's.
[[nodiscard]] std::vector<std::string> clean_environment();

[[nodiscard]] Result<Command> command_of(const StartOptions& start, const std::string& socket);

}  // namespace tiercel::service::start
