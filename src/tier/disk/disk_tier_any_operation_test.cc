// Goal: whichever operation of a file's life fails, and with whichever error, what was acknowledged is kept and what
// was deleted stays away. Method: the same life again and again, each time with another operation that fails, from the
// first write of a new file to the last of an orderly close.
#include "tier/disk/testing/disk_rig.h"

#include <cerrno>

namespace tiercel::disk::testing {
namespace {

constexpr std::uint64_t kMs = 1'000'000;

class AnyOperation : public ::testing::TestWithParam<IoFault> {
 protected:
  /// Tries until it is done, as the owner of a tier does.
  void store(const DiskBlock& block) {
    for (int attempt = 0; attempt < 20; ++attempt) {
      const Answer answer = rig_.write(block);
      rig_.pass(50 * kMs);
      if (ok(answer)) return;
    }
    ADD_FAILURE() << "block " << block.checksum << " is never written";
  }
  void remove(const DiskBlock& block) {
    for (int attempt = 0; attempt < 20; ++attempt) {
      const Answer answer = rig_.bury({block});
      rig_.pass(50 * kMs);
      if (ok(answer)) return;
    }
    ADD_FAILURE() << "block " << block.checksum << " is never deleted";
  }
  void open() {
    rig_.make_tier();
    rig_.pass(2'000 * kMs);
    ASSERT_EQ(rig_.tier->state(), DiskState::kOn) << rig_.causes.back();
  }
  void close() {
    rig_.tier->close();
    rig_.pass(2'000 * kMs);
    EXPECT_EQ(rig_.tier->state(), DiskState::kClosed);
    rig_.tier.reset();
  }
  /// Empty file to closed file.
  void live() {
    ASSERT_NO_FATAL_FAILURE(open());
    kept_ = {rig_.block(1, 0), rig_.block(2, 1), rig_.block(3, 20)};
    for (const DiskBlock& block : kept_) store(block);
    deleted_ = {rig_.block(4, 2), rig_.block(5, 3)};
    for (const DiskBlock& block : deleted_) store(block);
    for (const DiskBlock& block : deleted_) remove(block);
    (void)rig_.tier->checkpoint({0, 1, 20});
    rig_.run();
    close();
  }
  void expect_what_was_acknowledged() {
    ASSERT_NO_FATAL_FAILURE(open());
    for (const DiskBlock& block : kept_) {
      EXPECT_TRUE(rig_.has_found(block)) << block.checksum;
      EXPECT_TRUE(rig_.reads_back(block)) << block.checksum;
    }
    for (const DiskBlock& block : deleted_) {
      EXPECT_FALSE(rig_.has_found(block)) << block.checksum;
      EXPECT_FALSE(rig_.file_contains(block.checksum)) << "its bytes are still there";
    }
    close();
  }

  DiskRig rig_;
  std::vector<DiskBlock> kept_;
  std::vector<DiskBlock> deleted_;
};

std::uint64_t operations_of_a_life() {
  struct Whole : AnyOperation {
    void TestBody() override {}
    std::uint64_t count() {
      live();
      return rig_.plan->started();
    }
  };
  return Whole().count();
}

TEST_P(AnyOperation, MayFail) {
  const std::uint64_t operations = operations_of_a_life();
  ASSERT_GT(operations, 20U);
  for (std::uint64_t number = 0; number < operations; ++number) {
    SCOPED_TRACE(number);
    struct Life : AnyOperation {
      void TestBody() override {}
      void run(std::uint64_t failing, const IoFault& fault) {
        rig_.plan->add(failing, fault);
        live();
        if (!::testing::Test::HasFatalFailure()) expect_what_was_acknowledged();
      }
    } life;
    life.run(number, GetParam());
    if (HasFailure()) break;
  }
}

INSTANTIATE_TEST_SUITE_P(Errors, AnyOperation,
                         ::testing::Values(IoFault{.kind = IoFault::Kind::kFail, .error = ENOSPC},
                                           IoFault{.kind = IoFault::Kind::kFail, .error = EIO},
                                           IoFault{.kind = IoFault::Kind::kFailAfter, .error = EIO},
                                           IoFault{.kind = IoFault::Kind::kShort, .bytes = 4096}));

}  // namespace
}  // namespace tiercel::disk::testing
