// Goal: a byte count is read exactly or refused, and what format_bytes writes is read back as the same number.
#include <tiercel/config.h>

#include "base/check.h"

#include <string_view>

// NOLINTNEXTLINE(readability-identifier-naming): the name that libFuzzer calls
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto bytes = tiercel::parse_bytes(text);
  if (bytes) {
    const auto again = tiercel::parse_bytes(tiercel::format_bytes(*bytes));
    TIERCEL_CHECK(again.has_value() && *again == *bytes, "written and read back");
  } else {
    TIERCEL_CHECK(!bytes.error().message.empty(), "a refusal says why");
  }
  return 0;
}
