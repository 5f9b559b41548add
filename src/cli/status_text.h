// What `tiercel status` and `tiercel top` print: the JSON of /status as lines for a person. Pure.
#pragma once

#include <tiercel/result.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace tiercel::cli {

struct TextSize {
  std::size_t columns = 80;
  std::size_t rows = 24;
};

/// A summary of /status. kCorrupt: this is not the JSON of a service.
[[nodiscard]] Result<std::string> status_text(std::string_view json, std::size_t columns = 80);

/// One frame of `top`, at most `size`, lines that end with '\n'. `note` stands in the last line.
[[nodiscard]] Result<std::string> top_frame(std::string_view json, const TextSize& size, std::string_view note);

}  // namespace tiercel::cli
