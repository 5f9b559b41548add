// RawFile: the bytes of a disk file beside the cache that has it open, for tests that damage it: reads, writes, finds
// headers and blocks. Not for several threads. What it writes is in the file when the call returns.
#pragma once

#include "io/file_system.h"

#include <tiercel/block.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace tiercel::testing {

inline constexpr std::uint64_t kRawPage = 4096;
inline constexpr std::uint64_t kRawHeader = 128;      // docs/formats.md
inline constexpr std::uint64_t kRawData = 2U << 20U;  // where data begins
inline constexpr std::size_t kHashInHeader = 16;

class RawFile {
 public:
  using Page = std::array<std::byte, kRawPage>;

  explicit RawFile(FileSystem& files, const std::string& path = "/disk/tiercel.kv") {
    auto file = files.open(path, {.direct = false});
    EXPECT_TRUE(file) << path;
    if (file) file_ = std::move(*file);
  }

  [[nodiscard]] std::uint64_t size() const { return *file_->size(); }
  void truncate(std::uint64_t bytes) { EXPECT_TRUE(file_->truncate(bytes)); }
  [[nodiscard]] Page read(std::uint64_t offset) {
    Page page{};
    transfer(IoKind::kRead, offset, page);
    return page;
  }
  void write(std::uint64_t offset, Page page) { transfer(IoKind::kWrite, offset, page); }
  void flip(std::uint64_t byte, unsigned bit) {
    Page page = read(byte / kRawPage * kRawPage);
    page[byte % kRawPage] ^= static_cast<std::byte>(1U << bit);
    write(byte / kRawPage * kRawPage, page);
  }

  /// Pages of the header table that hold a header, by offset: what an old image of the table would be.
  [[nodiscard]] std::vector<std::pair<std::uint64_t, Page>> header_pages() {
    std::vector<std::pair<std::uint64_t, Page>> pages;
    for (std::uint64_t offset = kRawData; offset + kRawPage <= size(); offset += kRawPage) {
      const Page page = read(offset);
      bool any = false;
      for (std::size_t at = 0; at < kRawPage && !any; at += kRawHeader) any = is_header(page, at);
      if (any) pages.emplace_back(offset, page);
    }
    return pages;
  }
  /// Where the header of a block lies.
  [[nodiscard]] std::optional<std::uint64_t> header_of(const BlockHash& hash) {
    for (const auto& [offset, page] : header_pages()) {
      for (std::size_t at = 0; at < kRawPage; at += kRawHeader) {
        if (is_header(page, at) && std::memcmp(&page[at + kHashInHeader], hash.bytes.data(), hash.bytes.size()) == 0) {
          return offset + at;
        }
      }
    }
    return std::nullopt;
  }
  /// The first page that is nothing but `value`, from `from` on.
  [[nodiscard]] std::optional<std::uint64_t> page_of(std::byte value, std::uint64_t from = kRawData) {
    for (std::uint64_t offset = from; offset + kRawPage <= size(); offset += kRawPage) {
      const Page page = read(offset);
      if (std::ranges::all_of(page, [&](std::byte b) { return b == value; })) return offset;
    }
    return std::nullopt;
  }

 private:
  [[nodiscard]] static bool is_header(const Page& page, std::size_t at) {
    return std::memcmp(&page[at], "TKVH", 4) == 0;
  }
  void transfer(IoKind kind, std::uint64_t offset, Page& page) {
    const struct iovec buffer{page.data(), page.size()};
    ASSERT_TRUE(file_->start({.id = 0, .kind = kind, .offset = offset, .buffers = std::span(&buffer, 1)}));
    IoReaped reaped;
    while (file_->reap(std::span(&reaped, 1), 0) == 0) {
    }
    ASSERT_EQ(reaped.result, static_cast<std::int64_t>(kRawPage));
  }

  std::unique_ptr<IoBackend> file_;
};

}  // namespace tiercel::testing
