// program_version: which build of this program runs, so that figures of two builds are not taken for one.
#pragma once

#include <string>

namespace tiercel::gpu {

/// "0.1.0-1a2b3c4d": Tiercel's version and a hash of the program's bytes. Reads the program once.
[[nodiscard]] std::string program_version();

}  // namespace tiercel::gpu
