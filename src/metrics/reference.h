// The reference of all metrics as Markdown: docs/metrics.md is this text, and a test compares the two. Pure.
#pragma once

#include <string>

namespace tiercel::metrics {

[[nodiscard]] std::string reference_markdown();

}  // namespace tiercel::metrics
