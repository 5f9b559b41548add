#include "service/wire/handshake.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace tiercel::wire {

Result<std::uint16_t> common_version(const Hello& hello) {
  if (hello.magic != kMagic) return fail(ErrorCode::kInvalidArgument, "the caller does not speak Tiercel's protocol");
  const std::uint16_t newest = std::min(hello.newest, kVersion);
  if (newest >= hello.oldest && newest >= kOldestVersion) return newest;
  return fail(
      ErrorCode::kUnsupported,
      fmt::format("protocol versions: the client speaks {} to {}, the service {} to {}; use releases that are at "
                  "most one version apart",
                  hello.oldest, hello.newest, kOldestVersion, kVersion));
}

Welcome refusal(const tiercel::Error& error) {
  Welcome welcome{.refused = static_cast<std::uint16_t>(static_cast<unsigned>(error.code) + 1)};
  const std::size_t length = std::min(error.message.size(), sizeof(welcome.text) - 1);
  std::memcpy(welcome.text, error.message.data(), length);
  return welcome;
}

Status check_welcome(const Welcome& welcome) {
  if (welcome.magic != kMagic) return fail(ErrorCode::kUnsupported, "what answers there is no service of Tiercel");
  if (welcome.refused == 0) return {};
  const std::string_view text(welcome.text, strnlen(welcome.text, sizeof(welcome.text)));
  const unsigned code = std::min<unsigned>(welcome.refused - 1U, static_cast<unsigned>(ErrorCode::kIncomplete));
  return fail(static_cast<ErrorCode>(code), std::string(text));
}

}  // namespace tiercel::wire
