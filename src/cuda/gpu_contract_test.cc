// Goal: on a GPU, the contract of CopyEngine holds and random plans of every layout move what the host engine moves.
#include "cuda/testing/failing_device.h"
#include "cuda/testing/gpu_memory.h"
#include "cuda/testing/plan_world.h"
#include "cuda/testing/stage_options.h"
#include "transfer/testing/copy_engine_contract.h"

#include <gtest/gtest.h>

namespace tiercel::gpu {
namespace {

constexpr GpuCopyOptions kOptions =
    with_stages({.stage_bytes = 65'536, .chunk_bytes = 65'536},
                {.max_jobs = transfer_contract::kMaxJobs, .store_bytes_per_second = 0, .merge_bytes = 65'536});

class CudaGpu {
 public:
  using Memory = GpuMemory;
  static constexpr bool kStands = false;
  CudaGpu() {
    if (gpu_missing().empty()) gpu_.emplace(kOptions);
  }
  static std::string missing() { return gpu_missing(); }
  CopyEngine& engine() { return gpu_->engine(); }
  void drop_engine() { gpu_->drop_engine(); }
  bool settle(const std::function<bool()>& ready) { return gpu_->settle(ready); }

 private:
  std::optional<GpuEngine> gpu_;
};

}  // namespace
}  // namespace tiercel::gpu

namespace tiercel::transfer_contract {
INSTANTIATE_TYPED_TEST_SUITE_P(Gpu, CopyEngineContract, gpu::CudaGpu);
}  // namespace tiercel::transfer_contract

namespace tiercel::gpu {
namespace {

class GpuPlans : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string missing = gpu_missing(); !missing.empty()) GTEST_SKIP() << missing;
  }
};

/// Overlapping stores and loads of disjoint blocks; three kinds of engines take turns, and an arena that is pinned.
TEST_F(GpuPlans, of_every_layout_move_what_the_host_engine_does) {
  constexpr std::uint64_t kArenaBytes = 1U << 20U;
  const PinnedMemory arena = PinnedMemory::make(kArenaBytes).value();
  std::vector<std::unique_ptr<GpuEngine>> engines;
  for (const GpuCopyOptions& options :
       {GpuCopyOptions{.store_bytes_per_second = 0, .store_floor_percent = 100, .path = CopyPath::kStaged},
        with_stages({.stage_bytes = 65'536, .stages = 2, .chunk_bytes = 4096},
                    {.depth = 4, .load_queues = 2, .kernel_blocks = 3, .path = CopyPath::kStaged}),
        with_stages({.stage_bytes = 65'536, .chunk_bytes = 50'000}, {.store_queues = 1, .merge_bytes = 4096}),
        with_stages({.stage_bytes = 65'536, .chunk_bytes = 65'536},
                    {.store_bytes_per_second = 0, .path = CopyPath::kMerged})}) {
    engines.push_back(std::make_unique<GpuEngine>(options));
  }
  const std::uint64_t plans = how_many("TIERCEL_GPU_PLANS", 400);
  std::uint64_t done = 0;
  for (std::uint64_t seed = 0; done < plans; ++seed) {
    PlanWorld<GpuMemory> world(seed, arena.data(), kArenaBytes);
    GpuEngine& gpu = *engines[seed % engines.size()];
    const auto arena_before = world.arena_bytes();
    const auto storage_before = world.storage();
    std::vector<std::array<std::size_t, 3>> jobs;
    std::atomic<int> failed{0};
    for (std::size_t begin = 0; begin < world.blocks();) {
      const std::size_t end = begin + 1 + world.random().below(world.blocks() - begin);
      jobs.push_back({begin, end, world.random().below(2)});
      ASSERT_TRUE(gpu.engine().submit({.work = world.plan(begin, end),
                                       .direction = static_cast<CopyDirection>(jobs.back()[2]),
                                       .done = [&](const Status& status) { failed += status ? 0 : 1; }}));
      begin = end;
    }
    ASSERT_TRUE(gpu.settle_all());
    ASSERT_EQ(failed.load(), 0) << gpu.engine().health().error().message;
    world.memory().pull();
    const auto arena_after = world.arena_bytes();
    const auto storage_after = world.storage();
    world.restore(arena_before, storage_before);
    for (const auto& [begin, end, direction] : jobs)
      world.run_on_host(begin, end, static_cast<CopyDirection>(direction));
    ASSERT_TRUE(arena_after == world.arena_bytes()) << "seed " << seed;
    ASSERT_TRUE(storage_after == world.storage()) << "seed " << seed;
    done += jobs.size();
  }
  GpuCopyStats all;
  for (const auto& gpu : engines) {
    const GpuCopyStats stats = gpu->engine().stats();
    all.staged_jobs += stats.staged_jobs;
    all.merged_jobs += stats.merged_jobs;
    all.kernels += stats.kernels;
    all.copies += stats.copies;
  }
  std::printf("random plans: %lu, staged %lu, merged %lu, kernels %lu, copies %lu, all bytes as the host engine's\n",
              done, all.staged_jobs, all.merged_jobs, all.kernels, all.copies);
}

TEST_F(GpuPlans, an_error_at_any_call_ends_every_job_once) {
  constexpr std::uint64_t kArenaBytes = 1U << 20U;
  const PinnedMemory arena = PinnedMemory::make(kArenaBytes).value();
  for (std::uint64_t fail_at = 0; fail_at < 60; ++fail_at) {
    PlanWorld<GpuMemory> world(fail_at % 11, arena.data(), kArenaBytes);
    FailingDevice* failing = nullptr;
    GpuEngine gpu(with_stages({.stage_bytes = 65'536, .chunk_bytes = 4096},
                              {.store_bytes_per_second = 0, .path = CopyPath::kStaged}),
                  [&](std::unique_ptr<CopyDevice> inner) {
                    auto device = std::make_unique<FailingDevice>(std::move(inner), fail_at);
                    failing = device.get();
                    return device;
                  });
    std::atomic<int> ended{0};
    std::atomic<int> failed{0};
    const auto done = [&](const Status& status) {
      ++ended;
      failed += status ? 0 : 1;
    };
    const std::size_t middle = world.blocks() / 2;
    int taken =
        gpu.engine().submit({.work = world.plan(0, middle), .direction = CopyDirection::kStore, .done = done}) ? 1 : 0;
    taken += gpu.engine().submit(
                 {.work = world.plan(middle, world.blocks()), .direction = CopyDirection::kLoad, .done = done})
                 ? 1
                 : 0;
    ASSERT_TRUE(gpu.settle_all());
    ASSERT_EQ(ended.load(), taken);
    if (!failing->failed()) continue;
    ASSERT_FALSE(gpu.engine().health().has_value());
    ASSERT_FALSE(gpu.engine().submit({.work = world.plan(0, middle)}));
  }
}

TEST_F(GpuPlans, the_library_that_is_loaded_at_run_time_does_the_same) {
  SteadyClock clock;
  ThreadedExecutor executor({.threads = 1}, clock);
  auto engine = open_gpu_copy_engine(executor, clock, {.store_bytes_per_second = 0});
  ASSERT_TRUE(engine) << engine.error().message;
  std::printf("%s\n", (*engine)->describe().c_str());
  std::vector<std::byte> arena(1U << 20U);  // pageable, then registered
  (*engine)->register_memory(arena.data(), arena.size());
  ASSERT_TRUE(executor.wait_until([&] { return (*engine)->registered_bytes() == arena.size(); },
                                  deadline_after(clock.now_ns(), 10'000'000'000)));
  PlanWorld<GpuMemory> world(3, arena.data(), arena.size());
  const auto before = world.storage();
  const auto run = [&](CopyDirection direction) {
    ASSERT_TRUE((*engine)->submit({.work = world.plan(0, world.blocks()), .direction = direction}));
    ASSERT_TRUE(executor.wait_until([&] { return (*engine)->in_flight() == 0; }, UINT64_MAX));
  };
  run(CopyDirection::kStore);
  const auto stored = world.arena_bytes();
  world.run_on_host(0, world.blocks(), CopyDirection::kStore);
  EXPECT_TRUE(stored == world.arena_bytes());
  run(CopyDirection::kLoad);
  world.memory().pull();
  EXPECT_TRUE(before == world.storage());
}

TEST(GpuLibraryWithoutGpu, says_what_is_missing) {
  if (gpu_missing().empty()) GTEST_SKIP() << "there is a GPU here";
  SteadyClock clock;
  ThreadedExecutor executor({.threads = 1}, clock);
  const auto engine = open_gpu_copy_engine(executor, clock);
  ASSERT_FALSE(engine.has_value());
  EXPECT_EQ(engine.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(engine.error().message.find("cudaGetDevice: cudaError"), std::string::npos) << engine.error().message;
}

}  // namespace
}  // namespace tiercel::gpu
