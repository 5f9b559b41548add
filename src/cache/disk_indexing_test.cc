// Goal: the order in which a file's table names its blocks costs no block and holds up nobody.
// Method: a small cache turned by hand, on a file whose table is made by the test.
#include "cache/testing/disk_world.h"
#include "tier/disk/device.h"
#include "tier/disk/metadata.h"
#include "tier/disk/opening.h"

#include <gtest/gtest.h>

namespace tiercel {
namespace {

using testing::DiskWorld;

constexpr std::uint64_t kBytes = 16_KiB;
constexpr std::size_t kBlocks = 4'000;

/// The table of a closed file, made anew: one chain, of which the last block lies first.
class TailFirst {
 public:
  TailFirst(FileSystem& files, const Clock& clock, const BlockChain& chain)
      : file_(std::move(*files.open(disk::file_path("/disk"), {})), clock) {
    disk::Superblock superblock;
    move(IoKind::kRead, 0, pages_.get(), disk::kPageBytes);
    EXPECT_EQ(disk::decode(disk::ConstPageSpan(pages_.get(), disk::kPageBytes), superblock), disk::Fault::kNone);
    const auto metadata = *disk::Metadata::create(superblock, 0);
    const disk::Layout& layout = metadata->layout();
    const BlockHash fingerprint = chain.space().fingerprint();
    (void)*metadata->add_namespace(fingerprint);
    for (std::uint32_t extent = 0; extent < layout.extents(); ++extent) (void)metadata->cut(extent, kBytes);
    const std::uint32_t slots = layout.slots_of(kBytes);
    for (std::size_t i = 0; i < chain.size(); ++i) {
      const auto place = static_cast<std::uint32_t>(chain.size() - 1 - i);
      (void)metadata->put({.fingerprint = fingerprint,
                           .hash = chain[i],
                           .parent = i == 0 ? fingerprint : chain[i - 1],
                           .slot = layout.slot_at(place / slots, place % slots),
                           .slot_bytes = kBytes,
                           .length = kBytes,
                           .generation = (std::uint64_t{1} << disk::kEpochShift) + i});
    }
    move(IoKind::kWrite, layout.meta_begin(), metadata->page_memory(0), layout.meta_bytes());
  }

 private:
  void move(IoKind kind, std::uint64_t offset, std::byte* memory, std::uint64_t bytes) {
    IoJob job{.kind = kind, .offset = offset, .segment_count = 1};
    job.segments[0] = {.data = memory, .bytes = bytes};
    EXPECT_TRUE(file_.run(std::move(job)));
  }

  File file_;
  std::shared_ptr<std::byte> pages_ = disk::allocate_pages(disk::kPageBytes);
};

class DiskIndexing : public ::testing::Test {
 protected:
  static Config config() {
    Config config = DiskWorld::config(4_MiB, 64_MiB);
    config.host.min_slot_bytes = kBytes;
    return config;
  }
  DiskWorld world_{config(), kBytes};
};

TEST_F(DiskIndexing, a_chain_that_waits_for_its_head_comes_in_over_many_turns) {
  const BlockChain chain = world_.chain(kBlocks);
  world_.settle();
  world_.stop();
  {
    const TailFirst file(world_.memory(), world_.clock(), chain);
  }
  world_.start();
  std::size_t partly = 0;
  for (int turn = 0; turn < 1'000 && !world_.core().disks_settled(); ++turn) {
    const std::size_t before = world_.session().match(chain).blocks();
    const std::uint64_t sign = world_.core().disk_sign_of_life(0);
    (void)world_.step();
    const std::size_t there = world_.session().match(chain).blocks();
    EXPECT_TRUE(there == before || world_.core().disk_sign_of_life(0) != sign);
    partly += there > 0 && there < kBlocks ? 1U : 0U;
  }
  EXPECT_TRUE(world_.core().disks_settled());
  EXPECT_GE(partly, 3U) << "no turn takes in more than a thousand or so";
  EXPECT_EQ(world_.session().match(chain).blocks(), kBlocks);
  EXPECT_EQ(world_.stats().disk_recovered_blocks, kBlocks);
  EXPECT_EQ(world_.stats().disk_orphaned_blocks, 0U);
  world_.core().check_consistency();
}

TEST_F(DiskIndexing, a_delete_amid_it_covers_what_has_not_come_in) {
  const BlockChain chain = world_.chain(kBlocks);
  world_.settle();
  world_.stop();
  {
    const TailFirst file(world_.memory(), world_.clock(), chain);
  }
  world_.start();
  std::size_t there = 0;
  for (int turn = 0; turn < 1'000 && there <= 100; ++turn) {
    (void)world_.step();
    there = world_.session().match(chain).blocks();
  }
  ASSERT_LT(there, kBlocks);
  (void)world_.session().drop(chain, 99);
  world_.settle(1'000);
  EXPECT_TRUE(world_.core().disks_settled());
  EXPECT_EQ(world_.session().match(chain).blocks(), 99U);
  EXPECT_EQ(world_.disk().blocks, 99U);
  world_.restart();
  EXPECT_EQ(world_.session().match(chain).blocks(), 99U);
}

TEST_F(DiskIndexing, a_file_that_is_lost_amid_it_leaves_nothing) {
  const BlockChain chain = world_.chain(kBlocks);
  world_.settle();
  world_.stop();
  {
    const TailFirst file(world_.memory(), world_.clock(), chain);
  }
  world_.start();
  for (int turn = 0; turn < 1'000 && world_.session().match(chain).blocks() == 0; ++turn) (void)world_.step();
  ASSERT_LT(world_.session().match(chain).blocks(), kBlocks);
  ASSERT_TRUE((*world_.memory().open(disk::file_path("/disk"), {}))->truncate(0));
  for (int turn = 0; turn < 100; ++turn) {
    world_.advance(std::chrono::milliseconds(100));
    world_.settle(10);
  }
  EXPECT_TRUE(world_.core().disks_settled());
  EXPECT_EQ(world_.session().match(chain).blocks(), 0U);
  EXPECT_EQ(world_.disk().blocks, 0U);
  world_.core().check_consistency();
}

}  // namespace
}  // namespace tiercel
