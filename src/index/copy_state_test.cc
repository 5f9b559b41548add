// Goal: the transition table is exactly the diagram: every pair of states is decided here by hand.
#include "index/copy_state.h"

#include <gtest/gtest.h>

#include <string>

namespace tiercel {
namespace {

TEST(CopyState, table_is_the_diagram) {
  //                                   to: Absent Filling Verifying Ready Moving Loading
  const std::array<std::string, kCopyStates> rows{/* Absent    */ ".x...x",
                                                  /* Filling   */ "x.xx..",
                                                  /* Verifying */ "x..x..",
                                                  /* Ready     */ "x...x.",
                                                  /* Moving    */ "x..x..",
                                                  /* Loading   */ "x..x.."};
  for (std::size_t from = 0; from < kCopyStates; ++from) {
    for (std::size_t to = 0; to < kCopyStates; ++to) {
      EXPECT_EQ(is_allowed(static_cast<CopyState>(from), static_cast<CopyState>(to)), rows[from][to] == 'x')
          << from << " -> " << to;
    }
  }
}

TEST(CopyState, readers_see_whole_blocks_only) {
  EXPECT_FALSE(is_readable(CopyState::kFilling));
  EXPECT_FALSE(is_readable(CopyState::kVerifying));
  EXPECT_FALSE(is_readable(CopyState::kLoading));
  EXPECT_TRUE(is_readable(CopyState::kReady));
  EXPECT_TRUE(is_readable(CopyState::kMoving));
  EXPECT_FALSE(is_present(CopyState::kAbsent));
}

}  // namespace
}  // namespace tiercel
