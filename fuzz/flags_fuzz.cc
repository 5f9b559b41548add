// Goal: any command line (one argument a line of the input) gives a valid configuration and leaves the other arguments
// as they were, in order, or one sentence.
#include <tiercel/config.h>

#include "base/check.h"

#include <algorithm>
#include <string>
#include <vector>

namespace {

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

bool is_subsequence(const std::vector<std::string>& part, const std::vector<std::string>& whole) {
  auto at = whole.begin();
  for (const std::string& item : part) {
    at = std::find(at, whole.end(), item);
    if (at == whole.end()) return false;
    ++at;
  }
  return true;
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): the name that libFuzzer calls
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto arguments = lines_of({reinterpret_cast<const char*>(data), size});
  for (const std::string& argument : arguments) {
    if (argument.starts_with("--config")) return 0;  // would open files of the machine
  }
  const std::vector<std::string> others = {"--model", "--port"};
  const auto taken = tiercel::take_flags(arguments, others);
  if (taken) {
    TIERCEL_CHECK(tiercel::validate(taken->config).has_value(), "what was read is valid");
    TIERCEL_CHECK(is_subsequence(taken->rest, arguments), "the rest is as it was");
  } else {
    const std::string& message = taken.error().message;
    TIERCEL_CHECK(!message.empty() && message.size() < 1000, "an error is a short sentence");
    TIERCEL_CHECK(message.find_first_of(std::string_view("\n\r\0\x1b", 4)) == std::string::npos,
                  "an error is one line");
  }
  return 0;
}
