#include "cuda/bench/grid_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <utility>

namespace tiercel::gpu {
namespace {

constexpr std::size_t kMostGeometries = 3;
constexpr std::size_t kFewSizes = 4;  // a geometry with fewer gets a row only where none has more
constexpr double kPanelWidth = 380;
constexpr double kPanelHeight = 250;
constexpr double kLeft = 46;  // of the axes within a panel
constexpr double kRight = 14;
constexpr double kTop = 34;
constexpr double kBottom = 34;
constexpr double kLegendHeight = 36;
constexpr std::array<const char*, kGridWays.size()> kColours = {"#000000", "#0072b2", "#56b4e9", "#009e73",
                                                                "#e69f00", "#d55e00", "#cc79a7"};

using Points = std::map<std::uint64_t, double>;  // GB/s by bytes
using Lines = std::array<Points, kGridWays.size()>;

struct Geometry {
  std::string name;
  std::size_t number = 0;  ///< in the order of the rows
  std::array<Lines, kGridDirections.size()> panels;
  [[nodiscard]] std::size_t sizes() const { return panels[0][0].size(); }
};

std::vector<Geometry> geometries(const std::vector<GridRow>& rows) {
  std::vector<Geometry> all;
  for (const GridRow& row : rows) {
    if (!row[Figure::kGbPerS]) continue;
    std::string name = fmt::format("{} {}, {} tokens a block", row.key.model, row.key.layout, row.key.tokens);
    auto found = std::ranges::find(all, name, &Geometry::name);
    if (found == all.end()) found = all.insert(all.end(), {.name = std::move(name), .number = all.size()});
    found->panels[static_cast<std::size_t>(row.key.direction)][static_cast<std::size_t>(row.way)][row.bytes] =
        *row[Figure::kGbPerS];
  }
  std::ranges::sort(all, [](const Geometry& a, const Geometry& b) {
    return std::pair(b.sizes(), a.number) < std::pair(a.sizes(), b.number);
  });
  std::size_t count = std::min(kMostGeometries, all.size());
  while (count > 1 && all[count - 1].sizes() < kFewSizes) --count;
  all.resize(count);
  return all;
}

std::string escaped(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    if (c == '&')
      safe += "&amp;";
    else if (c == '<')
      safe += "&lt;";
    else
      safe += c;
  }
  return safe;
}

/// "64 KiB", "16 MiB", "4 GiB"
std::string size_text(double power) {
  const auto whole = static_cast<unsigned>(power);
  constexpr std::array<const char*, 4> kUnits = {"B", "KiB", "MiB", "GiB"};
  const unsigned unit = std::min(whole / 10, 3U);
  return fmt::format("{} {}", 1U << (whole - unit * 10), kUnits[unit]);
}

/// A rectangle of the plane with a logarithmic axis below and a linear one beside.
class Panel {
 public:
  Panel(double x, double y, const Lines& lines) : x_(x), y_(y), lines_(lines) {
    double least = 1e18;
    double most = 1;
    double rate = 1;
    for (const Points& points : lines) {
      for (const auto& [bytes, gb] : points) {
        least = std::min(least, static_cast<double>(bytes));
        most = std::max(most, static_cast<double>(bytes));
        rate = std::max(rate, gb);
      }
    }
    low_ = std::floor(std::log2(std::min(least, most)));
    high_ = std::max(low_ + 1, std::ceil(std::log2(most)));
    top_ = std::ceil(rate / 10) * 10;
  }

  [[nodiscard]] std::string draw(const std::string& title) const {
    std::string svg = fmt::format("<text x=\"{:.0f}\" y=\"{:.0f}\" font-weight=\"bold\">{}</text>\n", x_ + kLeft,
                                  y_ + kTop - 12, escaped(title));
    for (double gb = 0; gb <= top_; gb += top_ > 60 ? 20 : 10) {
      svg += rule(left(), at_rate(gb), right(), at_rate(gb));
      svg += label(left() - 6, at_rate(gb) + 4, "end", fmt::format("{:.0f}", gb));
    }
    for (double power = std::ceil(low_ / 4) * 4; power <= high_; power += 4) {
      svg += rule(at_power(power), at_rate(0), at_power(power), at_rate(top_));
      svg += label(at_power(power), at_rate(0) + 16, "middle", size_text(power));
    }
    for (std::size_t way = kGridWays.size(); way-- > 0;) svg += line(way);
    return svg;
  }

 private:
  [[nodiscard]] double left() const { return x_ + kLeft; }
  [[nodiscard]] double right() const { return x_ + kPanelWidth - kRight; }
  [[nodiscard]] double at_power(double power) const {
    return left() + (power - low_) / (high_ - low_) * (right() - left());
  }
  [[nodiscard]] double at_rate(double gb) const {
    const double bottom = y_ + kPanelHeight - kBottom;
    return bottom - gb / top_ * (bottom - y_ - kTop);
  }
  static std::string rule(double x1, double y1, double x2, double y2) {
    return fmt::format("<path d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}\" stroke=\"#ddd\"/>\n", x1, y1, x2, y2);
  }
  static std::string label(double x, double y, const char* anchor, const std::string& text) {
    return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" fill=\"#555\">{}</text>\n", x, y, anchor,
                       text);
  }
  [[nodiscard]] std::string line(std::size_t way) const {
    std::string path;
    std::string dots;
    for (const auto& [bytes, gb] : lines_[way]) {
      const double x = at_power(std::log2(static_cast<double>(bytes)));
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? 'M' : 'L', x, at_rate(gb));
      dots +=
          fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2.5\" fill=\"{}\"/>\n", x, at_rate(gb), kColours[way]);
    }
    if (path.empty()) return path;
    const char* dashes = way == 0 ? " stroke-dasharray=\"6 3\"" : "";
    return fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\"{}/>\n{}", path, kColours[way],
                       way < 2 ? 2.5 : 1.5, dashes, dots);
  }

  double x_;
  double y_;
  const Lines& lines_;
  double low_ = 0;  // powers of two
  double high_ = 0;
  double top_ = 0;  // GB/s
};

std::string legend(double y) {
  std::string svg;
  double x = kLeft;
  for (std::size_t way = 0; way < kGridWays.size(); ++way) {
    svg += fmt::format("<path d=\"M{:.0f} {:.0f}h24\" stroke=\"{}\" stroke-width=\"2.5\"/>\n", x, y, kColours[way]);
    svg += fmt::format("<text x=\"{:.0f}\" y=\"{:.0f}\">{}{}</text>\n", x + 30, y + 4, way_name(kGridWays[way]),
                       way == 0 ? " (the roof)" : "");
    x += way == 0 ? 160 : 110;
  }
  return svg;
}

}  // namespace

std::string grid_plot(const std::vector<GridRow>& rows) {
  const std::vector<Geometry> shown = geometries(rows);
  const double width = kPanelWidth * kGridDirections.size();
  const double height = kPanelHeight * static_cast<double>(shown.size()) + kLegendHeight;
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} {1:.0f}\" "
      "font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
      width, height);
  double y = 0;
  for (const Geometry& geometry : shown) {
    double x = 0;
    for (const GridDirection direction : kGridDirections) {
      const Lines& lines = geometry.panels[static_cast<std::size_t>(direction)];
      if (std::ranges::any_of(lines, [](const Points& points) { return !points.empty(); })) {
        svg += Panel(x, y, lines).draw(fmt::format("{}: {}, GB/s", geometry.name, direction_name(direction)));
      }
      x += kPanelWidth;
    }
    y += kPanelHeight;
  }
  return svg + legend(y + kLegendHeight / 2) + "</svg>\n";
}

Status write_grid_plot(const std::string& path, const std::vector<GridRow>& rows) {
  const std::string svg = grid_plot(rows);
  std::FILE* file = std::fopen(path.c_str(), "wbe");
  if (file == nullptr) return fail(ErrorCode::kIo, fmt::format("{}: {}", path, std::strerror(errno)), errno);
  const bool written = std::fwrite(svg.data(), 1, svg.size(), file) == svg.size();
  if (std::fclose(file) != 0 || !written) {
    return fail(ErrorCode::kIo, fmt::format("{}: {}", path, std::strerror(errno)), errno);
  }
  return {};
}

}  // namespace tiercel::gpu
