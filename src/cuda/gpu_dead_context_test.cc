// Goal: a context that dies under the engine ends every job once, and the engine says so and refuses. A program of its
// own: nothing else can use the GPU in this process afterwards.
#include "cuda/testing/gpu_memory.h"
#include "model/copy_geometry.h"
#include "model/run_table.h"

#include <gtest/gtest.h>

#include <atomic>

namespace tiercel::gpu {
namespace {

TEST(GpuDeadContext, ends_every_job_and_is_told) {
  if (const std::string missing = gpu_missing(); !missing.empty()) GTEST_SKIP() << missing;
  GpuEngine gpu({.path = CopyPath::kStaged});
  const DeviceMemory memory = DeviceMemory::make(65'536).value();
  const PinnedMemory slot = PinnedMemory::make(8192).value();
  Group group;
  std::vector<EngineTensor> tensors;
  for (std::uint32_t layer = 0; layer < 2; ++layer) {  // the second tensor lies where no memory is
    group.runs.push_back({.layer = layer, .kind = StateKind::kBlob, .opaque_bytes = 4096});
    tensors.push_back({.name = "t",
                       .base = memory.data() + (std::uint64_t{layer} << 44U),
                       .storage_bytes = 65'536,
                       .axes = {{Axis::kPage, 8, 8192}, {Axis::kInner, 4096, 1}},
                       .kind = StateKind::kBlob,
                       .first_layer = layer});
  }
  const auto geometry =
      std::make_shared<const CopyGeometry>(CopyGeometry::make(RunTable::make(group, 16).value(), tensors).value());
  std::atomic<int> ended{0};
  std::atomic<int> failed{0};
  for (int i = 0; i < 3; ++i) {
    (void)gpu.engine().submit({.work = CopyPlan::make(geometry, {0}, {slot.data()}).value(),
                               .direction = CopyDirection::kStore,
                               .done = [&](const Status& status) {
                                 ++ended;
                                 failed += status ? 0 : 1;
                               }});
  }
  ASSERT_TRUE(gpu.settle_all());
  EXPECT_EQ(failed.load(), ended.load());
  ASSERT_FALSE(gpu.engine().health().has_value());
  std::printf("a dead context says: %s\n", gpu.engine().health().error().message.c_str());
  EXPECT_NE(gpu.engine().health().error().message.find("cudaErrorIllegalAddress"), std::string::npos);
  EXPECT_FALSE(gpu.engine().submit({.work = CopyPlan::make(geometry, {0}, {slot.data()}).value()}));
}

}  // namespace
}  // namespace tiercel::gpu
