// Goal: a plan whose lengths, pages or slots could send a copy astray is refused by name, and costs O(blocks).
#include "transfer/copy_plan.h"

#include "model/testing/paged_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tiercel {
namespace {

using testing::HasSubstr;
using namespace testing_support;

class CopyPlanTest : public testing::Test {
 protected:
  std::string error(std::vector<std::uint32_t> pages, std::vector<std::byte*> slots) {
    const auto plan = CopyPlan::make(geometry_, std::move(pages), std::move(slots));
    return plan ? "" : plan.error().message;
  }
  EngineShape shape_{.order = {Axis::kPage, Axis::kKv, Axis::kHead, Axis::kToken}};
  PagedEngine engine_{shape_};  // pages 0 to 7
  RunTable table_ = RunTable::make(layout_of(shape_, 32).groups[0], 32).value();
  std::shared_ptr<const CopyGeometry> geometry_ =
      std::make_shared<const CopyGeometry>(CopyGeometry::make(table_, engine_.tensors()).value());
  std::vector<std::byte> slot_ = std::vector<std::byte>(table_.block_bytes());
};

TEST_F(CopyPlanTest, takes_two_pages_a_block) {
  EXPECT_EQ(error({0, 7, 3, 2}, {slot_.data(), slot_.data()}), "");
  const CopyPlan plan = CopyPlan::make(geometry_, {0, 7}, {slot_.data()}).value();
  EXPECT_EQ(plan.blocks(), 1U);
  EXPECT_EQ(plan.bytes(), table_.block_bytes());
}

TEST_F(CopyPlanTest, names_what_does_not_fit) {
  EXPECT_EQ(error({0, 7, 3}, {slot_.data(), slot_.data()}), "copy plan: 3 pages for 2 blocks; it must be 4, 2 a block");
  EXPECT_EQ(error({0, 8}, {slot_.data()}), "copy plan: pages[1] is 8; the tensors have pages 0 to 7");
  EXPECT_EQ(error({0, 1, 2, 3}, {slot_.data(), nullptr}), "copy plan: slots[1] is null");
  EXPECT_THAT(CopyPlan::make(nullptr, {}, {}).error().message, HasSubstr("no geometry"));
}

TEST_F(CopyPlanTest, a_job_knows_its_bytes) {
  EXPECT_EQ((CopyJob{.work = ByteCopy{slot_.data(), slot_.data(), 17}}.bytes()), 17U);
  EXPECT_EQ(CopyJob{.work = CopyPlan::make(geometry_, {}, {}).value()}.bytes(), 0U);
}

}  // namespace
}  // namespace tiercel
