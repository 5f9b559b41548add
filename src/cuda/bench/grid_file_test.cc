// Goal: a grid's file grows by whole cells, whatever ended the program, and no other file is touched.
#include "cuda/bench/grid_file.h"

#include "cuda/bench/grid_schedule.h"
#include "cuda/bench/program_version.h"
#include "cuda/testing/made_up_grid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace tiercel::gpu {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class GridFiles : public ::testing::Test {
 protected:
  GridFiles() {
    std::string path = "grid-XXXXXX";
    folder_ = std::filesystem::absolute(mkdtemp(path.data()));
  }
  ~GridFiles() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] std::string path() const { return (folder_ / "grid.csv").string(); }
  [[nodiscard]] std::string content() const {
    std::ifstream file(path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void write(const std::string& text) const { std::ofstream(path(), std::ios::binary) << text; }
  /// A file with the first `count` cells.
  void fill(std::size_t count, const GridIdentity& identity = kIdentity) const {
    auto file = GridFile::open(path());
    ASSERT_TRUE(file) << file.error().message;
    for (std::size_t i = 0; i < count; ++i) ASSERT_TRUE(file->append(identity, made_up_rows(cells_[i])));
  }

  static inline const GridIdentity kIdentity = {"NVIDIA H200", "580.159.04", "0.1.0-12345678"};
  std::vector<GridCell> cells_ = grid_cells({});
  std::filesystem::path folder_;
};

TEST_F(GridFiles, WhatWasAppendedIsReadAgain) {
  fill(3);
  const auto rows = read_grid(path());
  ASSERT_TRUE(rows) << rows.error().message;
  std::vector<GridRow> expected;
  for (std::size_t i = 0; i < 3; ++i) {
    for (const GridRow& row : made_up_rows(cells_[i])) expected.push_back(row);
  }
  ASSERT_THAT(*rows, SizeIs(expected.size()));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ((*rows)[i].identity, kIdentity);
    EXPECT_EQ((*rows)[i].key, expected[i].key);
    EXPECT_EQ((*rows)[i].way, expected[i].way);
    EXPECT_EQ((*rows)[i].bytes, expected[i].bytes);
    EXPECT_EQ((*rows)[i].figures, expected[i].figures);
  }
}

TEST_F(GridFiles, CellsOfTheSameMachineAndBuildAreThere) {
  fill(2);
  auto file = GridFile::open(path());
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_TRUE(file->has(kIdentity, cells_[0].key()));
  EXPECT_TRUE(file->has(kIdentity, cells_[1].key()));
  EXPECT_FALSE(file->has(kIdentity, cells_[2].key()));
  for (const GridIdentity& other : {GridIdentity{"NVIDIA H100", kIdentity.driver, kIdentity.build},
                                    GridIdentity{kIdentity.gpu, "1.2", kIdentity.build},
                                    GridIdentity{kIdentity.gpu, kIdentity.driver, "0.1.0-0"}}) {
    EXPECT_FALSE(file->has(other, cells_[0].key()));
  }
}

TEST_F(GridFiles, WhereverTheFileIsTornTheWholeCellsAreKept) {
  fill(2);
  const std::string whole = content();
  std::size_t with_one_cell = 0;
  for (std::size_t bytes = 0; bytes < whole.size(); bytes += 3) {
    write(whole.substr(0, bytes));
    auto file = GridFile::open(path());
    ASSERT_TRUE(file) << bytes << ": " << file.error().message;
    EXPECT_FALSE(file->has(kIdentity, cells_[1].key())) << bytes;
    const std::size_t kept = file->has(kIdentity, cells_[0].key()) ? 1 : 0;
    with_one_cell += kept;
    for (std::size_t i = kept; i < 2; ++i) {
      ASSERT_TRUE(file->append(kIdentity, made_up_rows(cells_[i])));
    }
    ASSERT_EQ(content(), whole) << bytes;
  }
  EXPECT_GT(with_one_cell, 0U);
}

TEST_F(GridFiles, CellsOfAnotherBuildStayAndAreNotThisOnes) {
  fill(1);
  const GridIdentity later{kIdentity.gpu, kIdentity.driver, "0.2.0-87654321"};
  fill(2, later);
  const auto rows = read_grid(path());
  ASSERT_TRUE(rows);
  EXPECT_EQ(rows->front().identity, kIdentity);
  const auto last = last_identity(*rows);
  EXPECT_THAT(last, SizeIs(rows->size() - made_up_rows(cells_[0]).size()));
  for (const GridRow& row : last) EXPECT_EQ(row.identity, later);
}

TEST_F(GridFiles, AForeignFileIsRefusedAndLeftAsItIs) {
  for (const std::string& text : {std::string("layout,blocks\nhnd,1\n"), std::string("\n"), std::string("a letter"),
                                  std::string("gpu,driver,build\n")}) {
    write(text);
    const auto file = GridFile::open(path());
    ASSERT_FALSE(file) << text;
    EXPECT_EQ(file.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(file.error().message, HasSubstr(path()));
    EXPECT_THAT(file.error().message, HasSubstr("is not a CSV of this grid"));
    EXPECT_EQ(content(), text);
  }
}

TEST_F(GridFiles, ALineThatIsNotOfTheGridIsTold) {
  fill(1);
  const std::string whole = content();
  const std::string rows = whole.substr(grid_header().size() + 1);
  for (const std::string& bad : {std::string("what?"), rows.substr(0, rows.find('\n')) + ",1",
                                 "x,y,z,m,hnd,16,1,1,sideways,auto,1" + std::string(kFigures, ',')}) {
    std::string text = grid_header();
    text.append("\n").append(bad).append("\n").append(rows);
    write(text);
    const auto file = GridFile::open(path());
    ASSERT_FALSE(file) << bad;
    EXPECT_THAT(file.error().message, HasSubstr(path() + ":2: not a line of the grid"));
    EXPECT_EQ(content(), text);
  }
}

TEST_F(GridFiles, NoFileAndNoFolder) {
  EXPECT_EQ(read_grid(path()).error().code, ErrorCode::kNotFound);
  EXPECT_THAT(GridFile::open((folder_ / "nowhere" / "grid.csv").string()).error().message, HasSubstr("nowhere"));
  write("");
  EXPECT_TRUE(GridFile::open(path()));
  EXPECT_EQ(content(), grid_header() + "\n");
  EXPECT_THAT(*read_grid(path()), IsEmpty());
}

TEST(ProgramVersion, IsOneFieldAndTheSameEachTime) {
  const std::string version = program_version();
  EXPECT_THAT(version, ::testing::MatchesRegex("[0-9]+[.][0-9]+[.][0-9]+-[0-9a-f]{8}"));
  EXPECT_EQ(program_version(), version);
}

TEST(GridLine, AFieldEndsNeitherItselfNorTheLine) {
  EXPECT_EQ(plain_field("NVIDIA H200, 141 GB\n"), "NVIDIA H200  141 GB ");
}

}  // namespace
}  // namespace tiercel::gpu
