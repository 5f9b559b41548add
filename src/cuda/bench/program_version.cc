#include "cuda/bench/program_version.h"

#include <fmt/format.h>

#include <cstdint>
#include <fstream>
#include <vector>

namespace tiercel::gpu {

std::string program_version() {
  std::ifstream file("/proc/self/exe", std::ios::binary);
  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  std::vector<char> buffer(1U << 20U);
  do {
    file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    for (std::streamsize i = 0; i < file.gcount(); ++i) {
      hash = (hash ^ static_cast<unsigned char>(buffer[static_cast<std::size_t>(i)])) * 0x100000001b3;
    }
  } while (file);
  return fmt::format("{}-{:08x}", TIERCEL_VERSION, static_cast<std::uint32_t>(hash ^ (hash >> 32U)));
}

}  // namespace tiercel::gpu
