#include "cuda/bench/grid_report.h"

#include "base/try.h"
#include "cuda/bench/grid_budgets.h"
#include "cuda/bench/grid_file.h"
#include "cuda/bench/grid_plot.h"
#include "cuda/bench/measured_cell.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace tiercel::gpu {
namespace {

constexpr double kBehindPercent = 3;
constexpr std::uint64_t kMarkedBytes = 16'000'000;
constexpr std::size_t kDirections = kGridDirections.size();

/// Cells that differ in their direction alone: a line of the table.
struct Line {
  std::array<const MeasuredCell*, kDirections> cells{};
  [[nodiscard]] const MeasuredCell& any() const {
    return **std::ranges::find_if(cells, [](const MeasuredCell* cell) { return cell != nullptr; });
  }
};

bool is_marked(const MeasuredCell& cell) {
  return cell.bytes >= kMarkedBytes && cell.behind_percent().value_or(0) > kBehindPercent;
}

bool is_marked(const Line& line) {
  return std::ranges::any_of(line.cells, [](const MeasuredCell* cell) { return cell != nullptr && is_marked(*cell); });
}

char letter(GridWay way) { return way == GridWay::kMapped ? 'k' : way_name(way).front(); }

std::string geometry(const GridKey& key) { return key.model + " " + key.layout; }

std::vector<Line> lines_of(const std::vector<MeasuredCell>& cells) {
  std::vector<Line> lines;
  for (const MeasuredCell& cell : cells) {
    const auto same = [&](const Line& line) {
      GridKey key = line.any().key;
      key.direction = cell.key.direction;
      return key == cell.key;
    };
    auto line = std::ranges::find_if(lines, same);
    if (line == lines.end()) line = lines.insert(lines.end(), Line{});
    line->cells[static_cast<std::size_t>(cell.key.direction)] = &cell;
  }
  // Lines of a geometry together, geometries in the order of their first line.
  std::vector<std::string> order;
  for (const Line& line : lines) {
    if (std::ranges::find(order, geometry(line.any().key)) == order.end()) order.push_back(geometry(line.any().key));
  }
  const auto place = [&](const Line& line) {
    const auto at = std::ranges::find(order, geometry(line.any().key)) - order.begin();
    return std::tuple(at, line.any().key.tokens, line.any().key.blocks);
  };
  std::ranges::sort(lines, {}, place);
  return lines;
}

std::string share_text(const MeasuredCell* cell) {
  const auto own = cell == nullptr ? std::nullopt : cell->get(GridWay::kAuto, Figure::kShare);
  if (!own) return fmt::format("{:11}", "");
  const GridRow* best = cell->best_other();
  if (best == nullptr) return fmt::format("{:4.1f}{:7}", *own, "");
  return fmt::format("{:4.1f}/{:4.1f}{}{}", *own, (*best)[Figure::kShare].value_or(0), letter(best->way),
                     is_marked(*cell) ? '*' : ' ');
}

std::string beside_text(const Line& line, Figure slower, Figure rate) {
  std::string text;
  for (const MeasuredCell* cell : line.cells) {
    const auto percent = cell == nullptr ? std::nullopt : cell->get(GridWay::kAuto, slower);
    const auto gb = cell == nullptr ? std::nullopt : cell->get(GridWay::kAuto, rate);
    text += percent && gb ? fmt::format(" {:.1f}@{:.0f}", *percent, *gb) : "";
  }
  return text;
}

std::string line_text(const Line& line) {
  const MeasuredCell& any = line.any();
  std::string text =
      fmt::format("{:>2} x {:>4} {:>6.1f} MB", any.key.tokens, any.key.blocks, static_cast<double>(any.bytes) / 1e6);
  for (const MeasuredCell* cell : line.cells) text += " | " + share_text(cell);
  const std::string decode = beside_text(line, Figure::kDecodeSlowerP50, Figure::kDecodeGbPerS);
  const std::string prefill = beside_text(line, Figure::kPrefillSlowerP50, Figure::kPrefillGbPerS);
  text += fmt::format("|{} |{}", decode, prefill);
  text.erase(text.find_last_not_of(" |") + 1);
  return text + "\n";
}

/// The ways beside decode and foreign copies, of cells in which these were timed, one direction at a time.
std::string ways_text(const std::vector<MeasuredCell>& cells) {
  std::string text;
  std::string shown;  // the first cell of each geometry
  for (const MeasuredCell& cell : cells) {
    if (!cell.get(GridWay::kAuto, Figure::kForeignOutP99Us) || cell.key.direction == GridDirection::kBoth) continue;
    const std::string key = fmt::format("{} {}\n", geometry(cell.key), direction_name(cell.key.direction));
    if (shown.find(key) != std::string::npos) continue;
    shown += key;
    text += cell.name() + "\n";
    for (const GridWay way : kGridWays) {
      if (!cell.get(way, Figure::kForeignOutP99Us)) continue;
      const auto get = [&](Figure figure, int digits) {
        const auto value = cell.get(way, figure);
        return value ? fmt::format("{:.{}f}", *value, digits) : std::string("-");
      };
      const auto model = [&](Figure p50, Figure p99, Figure lost, Figure rate) {
        return fmt::format("{:>5}/{:>5} {:>5} {:>5} |", get(p50, 1), get(p99, 1), get(lost, 1), get(rate, 1));
      };
      text += fmt::format(
          "  {:<10} {} {} {:>5}/{:>5} {:>4}/{:>4}\n", way_name(way),
          model(Figure::kDecodeSlowerP50, Figure::kDecodeSlowerP99, Figure::kDecodeLost, Figure::kDecodeGbPerS),
          model(Figure::kPrefillSlowerP50, Figure::kPrefillSlowerP99, Figure::kPrefillLost, Figure::kPrefillGbPerS),
          get(Figure::kForeignOutP50Us, 0), get(Figure::kForeignOutP99Us, 0), get(Figure::kForeignInP50Us, 0),
          get(Figure::kForeignInP99Us, 0));
    }
  }
  if (text.empty()) return text;
  return "\nways beside decode | prefill: slower % p50/p99, replays lost %, GB/s | a foreign 4 KiB copy out, in: us "
         "p50/p99\n" +
         text;
}

std::string budgets_text(const std::vector<MeasuredCell>& cells) {
  std::string text = "\nbudgets, of auto\n";
  for (const BudgetOutcome& outcome : grid_budgets(cells)) {
    text += fmt::format("{:<7} {:<64}", outcome.verdict(), outcome.what);
    text += outcome.cells == 0 ? std::string(" not measured\n")
                               : fmt::format(" {:>3} of {:>3} cells; worst {}\n", outcome.cells - outcome.missed,
                                             outcome.cells, outcome.worst);
  }
  return text;
}

/// The lines that are kept, geometry by geometry.
std::string table_text(const std::vector<Line>& lines, const std::vector<bool>& kept) {
  std::string text;
  std::string before;
  std::size_t left_out = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (!kept[i]) {
      ++left_out;
      continue;
    }
    const std::string name = geometry(lines[i].any().key);
    if (std::exchange(before, name) != name) text += name + "\n";
    text += line_text(lines[i]);
  }
  if (left_out > 0) text += fmt::format("{} lines are left out; they are in the CSV\n", left_out);
  return text;
}

}  // namespace

std::string grid_report(const std::vector<GridRow>& rows) {
  if (rows.empty()) return "no cell was measured\n";
  const GridIdentity& identity = rows.front().identity;
  const std::vector<MeasuredCell> cells = measured_cells(rows);
  const std::string head = fmt::format(
      "{}, driver {}, build {}, {} cells\n"
      "tokens x blocks, bytes | store | load | both: auto / best other way, % of one contiguous copy of the same "
      "bytes\n"
      "(s staged, m merged, b the driver's batch copy, k kernel on mapped host memory, l loop of copies; * auto more "
      "than {:.0f} % behind, in 16 MB and more)\n"
      "| beside decode | beside prefill, of store, load, both: replays slower by % (p50) @ GB/s of auto\n\n",
      identity.gpu, identity.driver, identity.build, cells.size(), kBehindPercent);
  const std::string tail = ways_text(cells) + budgets_text(cells);
  const std::vector<Line> lines = lines_of(cells);
  std::vector<bool> kept(lines.size(), true);
  std::string table = table_text(lines, kept);
  for (const bool marked : {false, true}) {
    for (std::size_t i = lines.size(); i-- > 0 && head.size() + table.size() + tail.size() > kReportCharacters;) {
      if (is_marked(lines[i]) != marked) continue;
      kept[i] = false;
      table = table_text(lines, kept);
    }
  }
  return head + table + tail;
}

Status report_grid_file(const std::string& csv, const std::string& svg) {
  TIERCEL_TRY_ASSIGN(const std::vector<GridRow> all, read_grid(csv));
  const std::vector<GridRow> rows = last_identity(all);
  if (!svg.empty()) TIERCEL_TRY(write_grid_plot(svg, rows));
  std::fputs(grid_report(rows).c_str(), stdout);
  return {};
}

}  // namespace tiercel::gpu
