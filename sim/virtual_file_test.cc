// Goal: what a simulated file shows to readers, and that a crash leaves exactly what it may leave.
#include "sim/virtual_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <vector>

namespace tiercel::sim {
namespace {

PageRef filled(int value) {
  auto page = std::make_shared<Page>();
  page->fill(static_cast<std::byte>(value));
  return page;
}

class VirtualFileTest : public testing::Test {
 protected:
  void SetUp() override { file_.resize(8 * kPageBytes), sync(); }
  void sync() { file_.make_durable(file_.mark()); }
  void write(std::uint64_t page, int value) { file_.write({.page = page, .image = filled(value)}); }
  static int value_of(const VirtualFile& file, std::uint64_t page, std::uint64_t byte = 0) {
    std::byte value{};
    file.read(page * kPageBytes + byte, {&value, 1});
    return static_cast<int>(value);
  }
  /// What page 0 (or another) holds after each of many crashes of the same file.
  std::set<int> after_crashes(const CrashStyle& style, std::uint64_t page = 0,
                              const std::vector<VirtualFile::PageWrite>& in_flight = {}) {
    std::set<int> found;
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
      VirtualFile copy = file_;
      Random random(seed);
      copy.crash(style, in_flight, random);
      found.insert(value_of(copy, page));
      EXPECT_TRUE(style.kind == CrashStyle::Kind::kKill || copy.unsynced_pages() == 0);
    }
    return found;
  }

  VirtualFile file_;
};

TEST_F(VirtualFileTest, ReadersSeeWhatWasWrittenLast) {
  write(1, 7);
  write(1, 8);
  EXPECT_EQ(value_of(file_, 1), 8);
  EXPECT_EQ(value_of(file_, 2), 0);
  std::vector<std::byte> both(2 * kPageBytes);
  file_.read(0, both);
  EXPECT_EQ(both[kPageBytes - 1], std::byte{0});
  EXPECT_EQ(both[kPageBytes], std::byte{8});
}

TEST_F(VirtualFileTest, WhatIsSyncedStays) {
  write(0, 1);
  sync();
  EXPECT_EQ(after_crashes({.keep_percent = 0}), std::set<int>{1});
  EXPECT_EQ(file_.unsynced_pages(), 0U);
}

TEST_F(VirtualFileTest, APowerCutLeavesAnyImageOfAPageThatIsNotSynced) {
  write(0, 1);
  sync();
  write(0, 2);
  write(0, 3);
  EXPECT_EQ(after_crashes({.keep_percent = 50}), (std::set<int>{1, 2, 3}));
  EXPECT_EQ(after_crashes({.keep_percent = 0}), std::set<int>{1});
  EXPECT_EQ(after_crashes({.keep_percent = 50}, 0, {{.page = 0, .image = filled(4)}}), (std::set<int>{1, 2, 3, 4}));
}

TEST_F(VirtualFileTest, ASyncCoversWhatWasWrittenBeforeItBegan) {
  write(0, 1);
  const std::uint64_t mark = file_.mark();
  write(0, 2);
  file_.make_durable(mark);
  EXPECT_EQ(after_crashes({.keep_percent = 50}), (std::set<int>{1, 2}));
}

TEST_F(VirtualFileTest, PagesAreLostIndependentlyUnlessTheCrashIsOrdered) {
  write(0, 1);
  write(1, 1);
  bool only_second = false;
  for (const bool ordered : {false, true}) {
    only_second = false;
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
      VirtualFile copy = file_;
      Random random(seed);
      copy.crash({.keep_percent = 50, .ordered = ordered}, {}, random);
      only_second = only_second || (value_of(copy, 0) == 0 && value_of(copy, 1) == 1);
    }
    EXPECT_EQ(only_second, !ordered);
  }
}

TEST_F(VirtualFileTest, AKilledProcessLosesOnlyWhatWasInFlight) {
  write(0, 2);
  const CrashStyle kill{.kind = CrashStyle::Kind::kKill, .keep_percent = 50};
  EXPECT_EQ(after_crashes(kill), std::set<int>{2});
  EXPECT_EQ(after_crashes(kill, 0, {{.page = 0, .image = filled(3)}}), (std::set<int>{2, 3}));
}

TEST_F(VirtualFileTest, SectorsTear) {
  write(0, 1);
  sync();
  write(0, 2);
  bool torn = false;
  for (std::uint64_t seed = 0; seed < 200 && !torn; ++seed) {
    VirtualFile copy = file_;
    Random random(seed);
    copy.crash({.keep_percent = 50, .tears = true}, {}, random);
    for (std::uint64_t at = 0; at < kPageBytes; at += kSectorBytes) {
      torn = torn || value_of(copy, 0, at) != value_of(copy, 0, 0);
      EXPECT_EQ(value_of(copy, 0, at), value_of(copy, 0, at + kSectorBytes - 1)) << "sectors are whole";
    }
  }
  EXPECT_TRUE(torn);
}

TEST_F(VirtualFileTest, ASizeThatWasNotSyncedMayGoBack) {
  file_.resize(16 * kPageBytes);
  std::set<std::uint64_t> sizes;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    VirtualFile copy = file_;
    Random random(seed);
    copy.crash({}, {}, random);
    sizes.insert(copy.size());
  }
  EXPECT_EQ(sizes, (std::set<std::uint64_t>{8 * kPageBytes, 16 * kPageBytes}));
}

TEST_F(VirtualFileTest, AFlippedBitIsThereForEver) {
  write(0, 0);
  file_.flip_bit(0, 9);
  EXPECT_EQ(value_of(file_, 0, 1), 2);
  sync();
  EXPECT_EQ(after_crashes({}), std::set<int>{0});
  EXPECT_EQ(value_of(file_, 0, 1), 2);
}

}  // namespace
}  // namespace tiercel::sim
