// The reference of all settings as Markdown: docs/configuration.md is this text, and a test compares the two. Pure.
#pragma once

#include <string>

namespace tiercel::config {

[[nodiscard]] std::string reference_markdown();

}  // namespace tiercel::config
