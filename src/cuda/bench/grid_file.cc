#include "cuda/bench/grid_file.h"

#include "base/try.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

namespace tiercel::gpu {
namespace {

struct Close {
  void operator()(std::FILE* file) const noexcept { (void)std::fclose(file); }
};

tl::unexpected<Error> file_error(const std::string& path) {
  const int error = errno;
  return fail(error == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
              fmt::format("{}: {}", path, std::strerror(error)), error);
}

Result<std::string> content_of(const std::string& path) {
  const std::unique_ptr<std::FILE, Close> file(std::fopen(path.c_str(), "rbe"));
  if (file == nullptr) return file_error(path);
  std::string content;
  std::array<char, 65536> buffer{};
  while (const std::size_t bytes = std::fread(buffer.data(), 1, buffer.size(), file.get())) {
    content.append(buffer.data(), bytes);
  }
  if (std::ferror(file.get()) != 0) return file_error(path);
  return content;
}

struct Content {
  std::vector<GridRow> rows;
  std::size_t good_bytes = 0;  ///< up to the end of the last whole cell; 0: not even the header
};

bool same_cell(const GridRow& a, const GridRow& b) { return a.key == b.key && a.identity == b.identity; }

/// Rows of one cell, of which `cell` has all so far.
void take_cell(Content& content, std::vector<GridRow>& cell, std::size_t end) {
  if (cell.size() != cell.front().cell_rows) return;
  content.rows.insert(content.rows.end(), std::make_move_iterator(cell.begin()), std::make_move_iterator(cell.end()));
  cell.clear();
  content.good_bytes = end;
}

Result<Content> parse(const std::string& path, std::string_view text) {
  const std::string header = grid_header() + "\n";
  Content content;
  if (std::string_view(header).starts_with(text) && text.size() < header.size()) return content;
  if (!text.starts_with(header)) {
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("{} is not a CSV of this grid (its first line has other columns); it is left as it is: name "
                    "another file or move it away",
                    path));
  }
  content.good_bytes = header.size();
  std::vector<GridRow> cell;
  std::size_t number = 1;
  for (std::size_t at = header.size(), end = 0; (end = text.find('\n', at)) != std::string_view::npos; at = end + 1) {
    ++number;
    auto row = parse_grid_line(text.substr(at, end - at));
    if (!row) {
      return fail(row.error().code, fmt::format("{}:{}: {}; it is left as it is: name another file or move it away",
                                                path, number, row.error().message));
    }
    if (!cell.empty() && !same_cell(cell.front(), *row)) cell.clear();
    cell.push_back(*std::move(row));
    take_cell(content, cell, end + 1);
  }
  return content;
}

}  // namespace

Result<std::vector<GridRow>> read_grid(const std::string& path) {
  TIERCEL_TRY_ASSIGN(const std::string text, content_of(path));
  TIERCEL_TRY_ASSIGN(Content content, parse(path, text));
  return std::move(content.rows);
}

std::vector<GridRow> last_identity(const std::vector<GridRow>& rows) {
  std::vector<GridRow> own;
  std::ranges::copy_if(rows, std::back_inserter(own),
                       [&](const GridRow& row) { return row.identity == rows.back().identity; });
  return own;
}

Result<GridFile> GridFile::open(const std::string& path) {
  GridFile grid;
  grid.path_ = path;
  Content content;
  if (auto text = content_of(path)) {
    TIERCEL_TRY_ASSIGN(content, parse(path, *text));
  } else if (text.error().code != ErrorCode::kNotFound) {
    return tl::unexpected<Error>(text.error());
  }
  grid.file_.reset(std::fopen(path.c_str(), "abe"));
  if (grid.file_ == nullptr || ftruncate(fileno(grid.file_.get()), static_cast<off_t>(content.good_bytes)) != 0) {
    return file_error(path);
  }
  if (content.good_bytes == 0 &&
      (std::fputs((grid_header() + "\n").c_str(), grid.file_.get()) < 0 || std::fflush(grid.file_.get()) != 0)) {
    return file_error(path);
  }
  grid.rows_ = std::move(content.rows);
  return grid;
}

bool GridFile::has(const GridIdentity& identity, const GridKey& key) const {
  return std::ranges::any_of(rows_, [&](const GridRow& row) { return row.key == key && row.identity == identity; });
}

Status GridFile::append(const GridIdentity& identity, std::vector<GridRow> cell) {
  std::string text;
  for (GridRow& row : cell) {
    row.identity = identity;
    row.cell_rows = static_cast<std::uint32_t>(cell.size());
    text += grid_line(row) + "\n";
  }
  if (std::fwrite(text.data(), 1, text.size(), file_.get()) != text.size() || std::fflush(file_.get()) != 0) {
    return file_error(path_);
  }
  rows_.insert(rows_.end(), std::make_move_iterator(cell.begin()), std::make_move_iterator(cell.end()));
  return {};
}

}  // namespace tiercel::gpu
