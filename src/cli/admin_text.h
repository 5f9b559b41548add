// What `tiercel mode`, `drop`, `pin` and `quota` print of a service's answers: JSON as lines for a person. Pure.
#pragma once

#include <tiercel/result.h>

#include <string>
#include <string_view>

namespace tiercel::cli {

/// The text under `key` ("done", "error"); empty: there is none.
[[nodiscard]] std::string sentence_of(std::string_view json, std::string_view key);

/// Tables; kCorrupt: this is not the JSON of a service.
[[nodiscard]] Result<std::string> mode_table(std::string_view json);
[[nodiscard]] Result<std::string> namespace_table(std::string_view json);
[[nodiscard]] Result<std::string> pin_table(std::string_view json);
[[nodiscard]] Result<std::string> quota_table(std::string_view json);
[[nodiscard]] Result<std::string> level_line(std::string_view json);

}  // namespace tiercel::cli
