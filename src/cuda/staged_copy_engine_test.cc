// Goal: the contract of CopyEngine on a GPU engine over a test's device, and what options it takes.
#include "cuda/staged_copy_engine.h"

#include "cuda/testing/failing_device.h"
#include "cuda/testing/fake_device.h"
#include "cuda/testing/stage_options.h"
#include "transfer/testing/copy_engine_contract.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tiercel::gpu {
namespace {

using transfer_contract::kMaxJobs;

constexpr GpuCopyOptions kOptions =
    with_stages({.stage_bytes = 65'536, .chunk_bytes = 16'384},
                {.max_jobs = kMaxJobs, .store_bytes_per_second = 0, .merge_bytes = 16'384});

class FakeGpu {
 public:
  using Memory = transfer_contract::HostMemory;
  static constexpr bool kStands = false;
  CopyEngine& engine() { return *engine_; }
  void drop_engine() { engine_.reset(); }
  bool settle(const std::function<bool()>& ready) { return executor_.wait_until(ready, UINT64_MAX); }

 private:
  SteadyClock clock_;
  ThreadedExecutor executor_{{.threads = 2}, clock_};
  std::optional<StagedCopyEngine> engine_{std::in_place, executor_, clock_, std::make_unique<FakeDevice>(kOptions, 7),
                                          kOptions};
};

}  // namespace
}  // namespace tiercel::gpu

namespace tiercel::transfer_contract {
INSTANTIATE_TYPED_TEST_SUITE_P(FakeGpu, CopyEngineContract, gpu::FakeGpu);
}  // namespace tiercel::transfer_contract

namespace tiercel::gpu {
namespace {

TEST(StagedCopyEngine, a_dead_device_is_told_and_refuses) {
  SteadyClock clock;
  ThreadedExecutor executor({.threads = 1}, clock);
  StagedCopyEngine engine(executor, clock,
                          std::make_unique<FailingDevice>(std::make_unique<FakeDevice>(kOptions, 1), 2), kOptions);
  EXPECT_TRUE(engine.health().has_value());
  std::vector<std::byte> from(100'000);
  std::vector<std::byte> to(100'000);
  std::atomic<int> failed{0};
  ASSERT_TRUE(engine.submit({.work = ByteCopy{to.data(), from.data(), from.size()}, .done = [&](const Status& status) {
                               EXPECT_FALSE(status.has_value());
                               failed.fetch_add(1);
                             }}));
  ASSERT_TRUE(executor.wait_until([&] { return engine.in_flight() == 0; }, UINT64_MAX));
  EXPECT_EQ(failed.load(), 1);
  ASSERT_FALSE(engine.health().has_value());
  EXPECT_EQ(engine.health().error().message, "planted: the device failed");
  EXPECT_FALSE(engine.submit({.work = ByteCopy{to.data(), from.data(), from.size()}}));
}

TEST(StagedCopyEngine, a_store_waits_until_its_memory_is_registered_and_a_load_does_not) {
  SteadyClock clock;
  ThreadedExecutor executor({.threads = 1}, clock);
  auto owned = std::make_unique<FakeDevice>(kOptions, 1);
  FakeDevice& device = *owned;
  std::vector<std::byte> arena(300'000, std::byte{1});
  std::vector<std::byte> tensor(100'000, std::byte{2});
  device.let_pins_wait(true);
  StagedCopyEngine engine(executor, clock, std::move(owned), kOptions);
  engine.register_memory(arena.data(), arena.size());
  std::atomic<int> stored{0};
  std::atomic<int> late{0};
  std::atomic<int> loaded{0};
  ASSERT_TRUE(engine.submit({.work = ByteCopy{arena.data(), tensor.data(), tensor.size()},
                             .direction = CopyDirection::kStore,
                             .done = [&](const Status& status) { stored.fetch_add(status ? 1 : 100); }}));
  ASSERT_TRUE(engine.submit({.work = ByteCopy{arena.data() + 100'000, tensor.data(), tensor.size()},
                             .direction = CopyDirection::kStore,
                             .done =
                                 [&](const Status& status) {
                                   EXPECT_FALSE(status.has_value());
                                   late.fetch_add(1);
                                 },
                             .deadline_ns = clock.now_ns()}));
  std::vector<std::byte> pages(1000);
  ASSERT_TRUE(engine.submit({.work = ByteCopy{pages.data(), arena.data() + 200'000, pages.size()},
                             .direction = CopyDirection::kLoad,
                             .done = [&](const Status& status) { loaded.fetch_add(status ? 1 : 100); }}));
  ASSERT_TRUE(executor.wait_until([&] { return loaded.load() == 1 && late.load() == 1; }, UINT64_MAX));
  EXPECT_EQ(pages, std::vector<std::byte>(1000, std::byte{1}));
  EXPECT_EQ(stored.load(), 0);
  EXPECT_EQ(arena.front(), std::byte{1});
  device.let_pins_wait(false);
  ASSERT_TRUE(executor.wait_until([&] { return engine.in_flight() == 0; }, UINT64_MAX));
  EXPECT_EQ(stored.load(), 1);
  EXPECT_TRUE(std::equal(tensor.begin(), tensor.end(), arena.begin()));
  EXPECT_EQ(arena[100'000], std::byte{1});
}

TEST(StagedCopyEngine, options_out_of_their_range_are_named) {
  const auto error = [](const GpuCopyOptions& options) { return check_options(options).error().message; };
  EXPECT_TRUE(check_options({}).has_value());
  EXPECT_EQ(error({.load_stage_bytes = 1000}), "GPU copies: load_stage_bytes is 1000; valid is 64 KiB to 32 MiB");
  EXPECT_THAT(error({.store_stages = 9}), testing::HasSubstr("within 64 MiB"));
  EXPECT_THAT(error({.store_chunk_bytes = 100}), testing::HasSubstr("store_chunk_bytes is 100"));
  EXPECT_THAT(error({.register_threads = 0}), testing::HasSubstr("register_threads is 0; valid is 1 to 64"));
  EXPECT_THAT(error({.depth = 0}), testing::HasSubstr("depth is 0"));
}

TEST(GpuLibrary, without_a_library_copies_run_on_the_cpu) {
  SteadyClock clock;
  ThreadedExecutor executor({.threads = 1}, clock);
  const auto gpu = open_gpu_copy_engine(executor, clock, {}, "/nowhere/libtiercel_cuda.so");
  ASSERT_FALSE(gpu.has_value());
  EXPECT_EQ(gpu.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(gpu.error().message, testing::HasSubstr("/nowhere/libtiercel_cuda.so"));
  const auto engine = open_copy_engine(executor, clock, {}, "/nowhere/libtiercel_cuda.so");
  std::vector<std::byte> from(1000, std::byte{7});
  std::vector<std::byte> to(1000);
  ASSERT_TRUE(engine->submit({.work = ByteCopy{to.data(), from.data(), from.size()}}));
  ASSERT_TRUE(executor.wait_until([&] { return engine->in_flight() == 0; }, UINT64_MAX));
  EXPECT_EQ(to, from);
}

}  // namespace
}  // namespace tiercel::gpu
