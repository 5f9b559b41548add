// The reference of the cache's metrics as Markdown: docs/metrics.md is this text, and a test compares the two. Its
// table is also part of docs/operations.md, where the service adds its own metrics. Pure.
#pragma once

#include <string>
#include <string_view>

namespace tiercel::metrics {

[[nodiscard]] std::string reference_markdown();
/// The two lines above the rows.
[[nodiscard]] std::string_view table_head() noexcept;
[[nodiscard]] std::string table_rows();

}  // namespace tiercel::metrics
