// Goal: any text at all is a valid configuration or one sentence with its place; nothing in between, and no crash.
#include <tiercel/config.h>

#include "base/check.h"

#include <string_view>

// NOLINTNEXTLINE(readability-identifier-naming): the name that libFuzzer calls
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = tiercel::parse_toml(text, "fuzz");
  if (config) {
    TIERCEL_CHECK(tiercel::validate(*config).has_value(), "what was read is valid");
  } else {
    const std::string& message = config.error().message;
    TIERCEL_CHECK(message.find(": ") != std::string::npos, "an error names its place or its key");
    TIERCEL_CHECK(message.find_first_of(std::string_view("\n\r\0\x1b", 4)) == std::string::npos,
                  "an error is one line");
    TIERCEL_CHECK(message.size() < 1000, "an error is short whatever the input");
  }
  return 0;
}
