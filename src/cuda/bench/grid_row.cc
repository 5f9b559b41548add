#include "cuda/bench/grid_row.h"

#include "base/try.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <vector>

namespace tiercel::gpu {
namespace {

constexpr std::string_view kKeyColumns = "gpu,driver,build,geometry,layout,tokens,blocks,bytes,direction,way,cell_rows";
constexpr std::size_t kKeyFields = 11;
constexpr std::array<std::string_view, kFigures> kFigureColumns = {"gb_per_s",
                                                                   "share_percent",
                                                                   "over_contiguous_us",
                                                                   "submit_us",
                                                                   "latency_p50_us",
                                                                   "latency_p99_us",
                                                                   "decode_gb_per_s",
                                                                   "decode_slower_p50_percent",
                                                                   "decode_slower_p99_percent",
                                                                   "decode_lost_percent",
                                                                   "decode_memory_percent",
                                                                   "prefill_gb_per_s",
                                                                   "prefill_slower_p50_percent",
                                                                   "prefill_slower_p99_percent",
                                                                   "prefill_lost_percent",
                                                                   "prefill_memory_percent",
                                                                   "foreign_out_p50_us",
                                                                   "foreign_out_p99_us",
                                                                   "foreign_in_p50_us",
                                                                   "foreign_in_p99_us"};
constexpr std::array<std::string_view, kGridDirections.size()> kDirectionNames = {"store", "load", "both"};
constexpr std::array<std::string_view, kGridWays.size()> kWayNames = {"contiguous", "auto",   "staged", "merged",
                                                                      "batch",      "mapped", "loop"};

std::vector<std::string_view> split(std::string_view line) {
  std::vector<std::string_view> fields;
  for (;;) {
    const std::size_t comma = line.find(',');
    fields.push_back(line.substr(0, comma));
    if (comma == std::string_view::npos) return fields;
    line.remove_prefix(comma + 1);
  }
}

template <class T>
bool read(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

/// The place of a name among names, as an enum that counts them.
template <class E, std::size_t kCount>
bool read_name(std::string_view text, const std::array<std::string_view, kCount>& names, E& value) {
  const auto* const found = std::ranges::find(names, text);
  value = static_cast<E>(found - names.begin());
  return found != names.end();
}

}  // namespace

std::string_view direction_name(GridDirection direction) noexcept {
  return kDirectionNames[static_cast<std::size_t>(direction)];
}

std::string_view way_name(GridWay way) noexcept { return kWayNames[static_cast<std::size_t>(way)]; }

std::string plain_field(std::string text) {
  std::ranges::replace_if(text, [](char c) { return c == ',' || c == '\n' || c == '\r'; }, ' ');
  return text;
}

std::string grid_header() { return fmt::format("{},{}", kKeyColumns, fmt::join(kFigureColumns, ",")); }

std::string grid_line(const GridRow& row) {
  const GridKey& key = row.key;
  std::string line = fmt::format("{},{},{},{},{},{},{},{},{},{},{}", row.identity.gpu, row.identity.driver,
                                 row.identity.build, key.model, key.layout, key.tokens, key.blocks, row.bytes,
                                 direction_name(key.direction), way_name(row.way), row.cell_rows);
  for (const auto& figure : row.figures) line += figure ? fmt::format(",{:.3f}", *figure) : ",";
  return line;
}

Result<GridRow> parse_grid_line(std::string_view line) {
  const std::vector<std::string_view> fields = split(line);
  GridRow row;
  row.identity = {std::string(fields[0]), std::string(fields.size() > 1 ? fields[1] : ""),
                  std::string(fields.size() > 2 ? fields[2] : "")};
  bool good = fields.size() == kKeyFields + kFigures;
  if (good) {
    row.key.model = fields[3];
    row.key.layout = fields[4];
    good = read(fields[5], row.key.tokens) && read(fields[6], row.key.blocks) && read(fields[7], row.bytes) &&
           read_name(fields[8], kDirectionNames, row.key.direction) && read_name(fields[9], kWayNames, row.way) &&
           read(fields[10], row.cell_rows) && row.cell_rows > 0;
  }
  for (std::size_t i = 0; good && i < kFigures; ++i) {
    const std::string_view field = fields[kKeyFields + i];
    if (!field.empty()) good = read(field, row.figures[i].emplace());
  }
  if (!good) return fail(ErrorCode::kCorrupt, "not a line of the grid");
  return row;
}

}  // namespace tiercel::gpu
