// Goal: the history checker says nothing about what may be, and names what may not.
#include "sim/history.h"

#include "base/clock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace tiercel::sim {
namespace {

using testing::HasSubstr;

class HistoryTest : public testing::Test {
 protected:
  static BlockHash hash(int number) {
    BlockHash made;
    made.bytes.fill(static_cast<std::byte>(number));
    return made;
  }
  std::vector<std::byte> commit(KeyId key, std::uint64_t writer = 1, std::size_t bytes = 256, bool ok = true) {
    const History::Fill fill = history_.begin_fill(key);
    std::vector<std::byte> content(bytes);
    write_content(content, history_.stamp(fill, writer, bytes));
    history_.end_fill(fill, ok);
    return content;
  }
  void drop(KeyId key, std::uint64_t pending = 0) {
    history_.end_drop(history_.begin_drop(key), Dropped{.blocks = 1, .pending = pending});
  }
  void load(KeyId key, const std::vector<std::byte>& bytes) { history_.check_block(key, bytes, history_.now()); }
  void expect_violation(const char* words) { EXPECT_THAT(history_.violation(), HasSubstr(words)); }

  ManualClock clock_;
  Trace trace_{clock_};
  History history_{trace_};
  KeyId root_ = history_.key(hash(1), std::nullopt);
  KeyId parent_ = history_.key(hash(2), root_);
  KeyId child_ = history_.key(hash(3), parent_);
};

TEST_F(HistoryTest, AKeyIsAHashBelowItsParent) {
  EXPECT_EQ(history_.key(hash(2), root_), parent_);
  EXPECT_NE(history_.key(hash(2), parent_), parent_);
}

TEST_F(HistoryTest, AnyCommitThatWasNotDeletedIsRight) {
  const auto first = commit(parent_);
  const auto second = commit(parent_, 2);
  load(parent_, first);
  load(parent_, second);
  EXPECT_FALSE(history_.failed());
  EXPECT_EQ(history_.possible_commits(parent_), 2U);
}

TEST_F(HistoryTest, EverySingleChangedByteIsSeen) {
  const auto right = commit(parent_);
  for (std::size_t at = 0; at < right.size(); ++at) {
    History copy = history_;
    auto wrong = right;
    wrong[at] ^= std::byte{1};
    copy.check_block(parent_, wrong, copy.now());
    EXPECT_THAT(copy.violation(), HasSubstr("wrong bytes")) << at;
  }
}

TEST_F(HistoryTest, ABlockOfAnotherKeyIsSeen) {
  commit(parent_);
  load(parent_, commit(child_));
  expect_violation("of key 2");
}

TEST_F(HistoryTest, AMixedBlockIsSeenAndSaysOfWhat) {
  auto mixed = commit(parent_);
  const auto other = commit(child_);
  std::memcpy(mixed.data() + 128, other.data() + 128, 128);
  load(parent_, mixed);
  expect_violation("from byte 128 on it is sequence 2 of key 2: a mixed block");
}

TEST_F(HistoryTest, AnotherLengthIsSeen) {
  auto cut = commit(parent_);
  cut.resize(128);
  load(parent_, cut);
  expect_violation("gave 128 bytes");
}

TEST_F(HistoryTest, WhatWasNotCommittedIsSeen) {
  load(parent_, commit(parent_, 1, 256, false));
  expect_violation("never committed");
}

TEST_F(HistoryTest, WhatWasDeletedBeforeTheLoadBeganIsSeen) {
  const auto bytes = commit(child_);
  const std::uint64_t before = history_.now();
  drop(parent_);  // and all below it
  history_.check_block(child_, bytes, before);
  EXPECT_FALSE(history_.failed()) << "the load had begun before the delete";
  load(child_, bytes);
  expect_violation("a resurrected delete");
}

TEST_F(HistoryTest, WhileItIsBeingDeletedBothAnswersAreRight) {
  const auto bytes = commit(child_);
  const History::Drop drop = history_.begin_drop(parent_);
  load(child_, bytes);
  history_.end_drop(drop, fail(ErrorCode::kTimeout, "nobody knows"));
  load(child_, bytes);
  history_.restart();
  load(child_, bytes);
  EXPECT_FALSE(history_.failed());
}

TEST_F(HistoryTest, ADeleteHoldsAfterARestart) {
  const auto bytes = commit(child_);
  drop(child_);
  history_.restart();
  load(child_, bytes);
  expect_violation("a resurrected delete");
}

TEST_F(HistoryTest, APendingDeleteHoldsUntilTheRestart) {
  const auto bytes = commit(child_);
  drop(child_, 1);
  History copy = history_;
  copy.check_block(child_, bytes, copy.now());
  EXPECT_THAT(copy.violation(), HasSubstr("a resurrected delete"));
  history_.restart();
  load(child_, bytes);
  EXPECT_FALSE(history_.failed());
  drop(child_);
  load(child_, bytes);
  expect_violation("a resurrected delete");
}

TEST_F(HistoryTest, ADeviceThatLiesMayLoseDeletes) {
  const auto bytes = commit(child_);
  drop(child_);
  bool lied = false;
  history_.set_device_lied([&lied] { return lied; });
  lied = true;
  History copy = history_;
  copy.check_block(child_, bytes, copy.now());
  EXPECT_THAT(copy.violation(), HasSubstr("a resurrected delete")) << "in the same process nothing is lost";
  history_.restart();
  load(child_, bytes);
  EXPECT_FALSE(history_.failed());
  lied = false;
  load(child_, bytes);
  expect_violation("a resurrected delete");
}

TEST_F(HistoryTest, ABlockThatIsDeletedWhileItIsFilledIsNotCommitted) {
  const History::Fill fill = history_.begin_fill(child_);
  (void)history_.stamp(fill, 1, 256);
  drop(parent_);
  history_.end_fill(fill, true);
  expect_violation("deleted between its reserve and its commit");
}

TEST_F(HistoryTest, ADamagedBlockIsMissingFromEveryConversationThatGoesThroughIt) {
  const std::vector<KeyId> chain{parent_, child_};
  EXPECT_EQ(history_.undamaged(chain, 2), 2U);
  history_.note_damaged(child_);
  EXPECT_EQ(history_.undamaged(chain, 2), 1U);
  EXPECT_EQ(history_.undamaged(chain, 1), 1U);
  history_.note_damaged(parent_);
  EXPECT_EQ(history_.undamaged(chain, 2), 0U);
  history_.check_run(chain, 0, {false, true});  // what a load has cut off is no orphan of the restart
  EXPECT_FALSE(history_.failed());
  history_.restart();
  EXPECT_EQ(history_.undamaged(chain, 2), 2U);
}

TEST_F(HistoryTest, WhatIsBeingDeletedNeedNotBeKeptAndWhatIsStoredAfterADeleteMust) {
  const std::vector<KeyId> chain{parent_, child_};
  EXPECT_FALSE(history_.had_deletes(child_));
  (void)commit(child_);
  const History::Drop drop = history_.begin_drop(child_);
  EXPECT_TRUE(history_.had_deletes(parent_));
  EXPECT_EQ(history_.must_be_kept(chain, 2), 1U);
  history_.end_drop(drop, Dropped{.blocks = 1, .pending = 1});
  (void)commit(child_);
  EXPECT_EQ(history_.must_be_kept(chain, 2), 2U);
  history_.restart();  // a delete that was pending may have been done, or not
  EXPECT_EQ(history_.must_be_kept(chain, 2), 1U);
}

TEST_F(HistoryTest, TimesAreJudged) {
  history_.check_wait("a load", 10, 10);
  history_.check_instant("match", 10, 10);
  EXPECT_FALSE(history_.failed());
  History copy = history_;
  copy.check_instant("match", 10, 11);
  EXPECT_THAT(copy.violation(), HasSubstr("match took 1 ns"));
  history_.check_wait("a load", 11, 10);
  expect_violation("a deadline overrun");
}

TEST_F(HistoryTest, ABlockWithoutItsParentIsAnOrphan) {
  const std::vector<KeyId> chain{parent_, child_};
  history_.check_run(chain, 2, {true, true});
  history_.check_run(chain, 1, {true, false});
  history_.check_run(chain, 0, {false, false});
  EXPECT_FALSE(history_.failed());
  history_.check_run(chain, 0, {false, true});
  expect_violation("an orphan");
}

}  // namespace
}  // namespace tiercel::sim
