// Goal: whatever the order in which a device runs what it may, overlapping stores and loads move the right bytes;
// events and deadlines hold; after an error at any call every job ends once and nothing moves afterwards.
#include "cuda/feeder.h"

#include "cuda/testing/failing_device.h"
#include "cuda/testing/fake_device.h"
#include "cuda/testing/plan_world.h"
#include "cuda/testing/stage_options.h"
#include "transfer/testing/copy_engine_contract.h"

#include <gtest/gtest.h>

namespace tiercel::gpu {
namespace {

using transfer_contract::HostMemory;

GpuCopyOptions small_options(Random& random) {
  GpuCopyOptions options = with_stages({.stage_bytes = 4096 * (1 + random.below(4)),
                                        .stages = static_cast<std::uint32_t>(1 + random.below(3)),
                                        .chunk_bytes = 64 * (1 + random.below(60))},
                                       {.depth = static_cast<std::uint32_t>(1 + random.below(3)),
                                        .store_queues = static_cast<std::uint32_t>(1 + random.below(2)),
                                        .load_queues = static_cast<std::uint32_t>(1 + random.below(2)),
                                        .store_bytes_per_second = random.below(2) * 1'000'000'000,
                                        .merge_bytes = 2048,
                                        .path = static_cast<CopyPath>(random.below(3))});
  options.load_chunk_bytes = 64 * (1 + random.below(60));
  return options;
}

class FeederTest : public testing::Test {
 protected:
  /// Passes until nothing is left, at most `limit` of them.
  static void settle(Feeder& feeder, std::vector<FinishedJob>& finished, std::uint64_t& now_ns, int limit = 2'000'000) {
    while (feeder.active() && limit-- > 0) {
      feeder.pass(now_ns, finished);
      now_ns += 1000;
    }
    ASSERT_FALSE(feeder.active()) << "the feeder does not come to an end";
  }
  std::vector<std::byte> arena_ = std::vector<std::byte>(1U << 20U);
  std::uint64_t now_ns_ = 1;
};

TEST_F(FeederTest, overlapping_stores_and_loads_move_what_the_host_engine_does) {
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    PlanWorld<HostMemory> world(seed, arena_.data(), arena_.size());
    Random& random = world.random();
    const GpuCopyOptions options = small_options(random);
    FakeDevice device(options, seed);
    Feeder feeder(device, options);
    std::vector<FinishedJob> finished;
    const auto arena_before = world.arena_bytes();
    const auto storage_before = world.storage();
    std::vector<std::array<std::size_t, 3>> jobs;  // begin, end, direction
    for (std::size_t begin = 0; begin < world.blocks();) {
      const std::size_t end = begin + random.below(world.blocks() - begin + 1);
      const auto direction = static_cast<CopyDirection>(random.below(2));
      jobs.push_back({begin, end, static_cast<std::size_t>(direction)});
      const bool ahead = direction == CopyDirection::kLoad && random.below(3) == 0;
      feeder.take({.work = world.plan(begin, end),
                   .direction = direction,
                   .ahead = ahead ? std::make_shared<QueuedAhead>() : nullptr},
                  std::nullopt);
      for (std::uint64_t passes = random.below(3); passes > 0; --passes) feeder.pass(now_ns_++, finished);
      begin = end + (end == begin ? 1 : 0);
    }
    settle(feeder, finished, now_ns_);
    if (HasFatalFailure()) FAIL() << "seed " << seed;
    ASSERT_EQ(finished.size(), jobs.size());
    for (const FinishedJob& job : finished) ASSERT_TRUE(job.status.has_value());
    ASSERT_EQ(device.pending(), 0U) << "reported before its last copy";
    ASSERT_EQ(device.tickets(), 0) << "tickets leaked, seed " << seed;
    ASSERT_LE(device.longest_chunk(), std::max(options.store_chunk_bytes, options.load_chunk_bytes) * 5 / 4);
    const auto arena_after = world.arena_bytes();
    const auto storage_after = world.storage();
    world.restore(arena_before, storage_before);
    for (const auto& [begin, end, direction] : jobs)
      world.run_on_host(begin, end, static_cast<CopyDirection>(direction));
    ASSERT_TRUE(arena_after == world.arena_bytes()) << "seed " << seed;
    ASSERT_TRUE(storage_after == world.storage()) << "seed " << seed;
  }
}

TEST_F(FeederTest, pages_are_touched_behind_the_event_alone) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    PlanWorld<HostMemory> world(seed, arena_.data(), arena_.size());
    const GpuCopyOptions options = small_options(world.random());
    const auto direction = static_cast<CopyDirection>(seed % 2);
    FakeDevice device(options, seed);
    Feeder feeder(device, options);
    FakeEvent event;
    event.record();
    std::vector<FinishedJob> finished;
    const auto arena_before = world.arena_bytes();
    const auto storage_before = world.storage();
    feeder.take({.work = world.plan(0, world.blocks()), .direction = direction},
                device.gate(direction, &event).value());
    event.record();  // again, for something else: the copy waits for the first
    for (int i = 0; i < 3000; ++i) feeder.pass(now_ns_ += 1000, finished);
    ASSERT_TRUE(finished.empty());
    ASSERT_TRUE(arena_before == world.arena_bytes()) << "stored pages that were not written yet, seed " << seed;
    ASSERT_TRUE(storage_before == world.storage()) << "loaded into pages that are still read, seed " << seed;
    event.happened.store(1);
    settle(feeder, finished, now_ns_);
    ASSERT_EQ(finished.size(), 1U);
    ASSERT_EQ(device.tickets(), 0);
    ASSERT_FALSE(arena_before == world.arena_bytes() && storage_before == world.storage());
  }
}

TEST_F(FeederTest, a_stream_that_waits_for_a_load_goes_on_when_all_of_it_is_there) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    PlanWorld<HostMemory> world(seed, arena_.data(), arena_.size());
    const GpuCopyOptions options = small_options(world.random());
    FakeDevice device(options, seed);
    Feeder feeder(device, options);
    std::vector<FinishedJob> finished;
    const auto arena_before = world.arena_bytes();
    const auto storage_before = world.storage();
    world.run_on_host(0, world.blocks(), CopyDirection::kLoad);
    const auto storage_loaded = world.storage();
    world.restore(arena_before, storage_before);
    const auto ahead = std::make_shared<QueuedAhead>();
    feeder.take({.work = world.plan(0, world.blocks()), .direction = CopyDirection::kLoad, .ahead = ahead},
                std::nullopt);
    FakeDevice::FakeStream stream;
    const auto wait = [&] {
      return ahead->wait(std::chrono::nanoseconds(0), [&](Ticket t) { return device.wait_in_stream(&stream, t); });
    };
    ASSERT_EQ(wait().error().code, ErrorCode::kTimeout);
    feeder.pass(now_ns_, finished);
    ASSERT_TRUE(wait()) << "all of it is queued by one pass, seed " << seed;
    while (!device.goes_on(stream)) feeder.pass(now_ns_ += 1000, finished);
    ASSERT_TRUE(storage_loaded == world.storage()) << "the stream went on too early, seed " << seed;
    settle(feeder, finished, now_ns_);
    ASSERT_EQ(finished.size(), 1U);
    ASSERT_EQ(device.tickets(), 0);
    ASSERT_TRUE(wait()) << "of a job that has ended";
  }
}

TEST_F(FeederTest, a_deadline_acts_before_a_job_begins_and_not_after) {
  PlanWorld<HostMemory> world(5, arena_.data(), arena_.size());
  const GpuCopyOptions options = with_stages({.stage_bytes = 4096, .stages = 1, .chunk_bytes = 4096},
                                             {.store_bytes_per_second = 0, .path = CopyPath::kStaged});
  FakeDevice device(options, 1);
  Feeder feeder(device, options);
  FakeEvent event;
  event.record();
  std::vector<FinishedJob> finished;
  const auto submit = [&](std::uint64_t deadline_ns, std::optional<Ticket> gate) {
    feeder.take({.work = world.plan(0, 1), .direction = CopyDirection::kStore, .deadline_ns = deadline_ns}, gate);
  };
  submit(100, device.gate(CopyDirection::kStore, &event).value());
  submit(100, std::nullopt);  // waits for the only stage
  feeder.pass(50, finished);
  feeder.pass(99, finished);
  EXPECT_TRUE(finished.empty());
  feeder.pass(100, finished);
  ASSERT_EQ(finished.size(), 1U);
  EXPECT_EQ(finished[0].status.error().code, ErrorCode::kTimeout);
  event.happen();
  now_ns_ = 200;
  settle(feeder, finished, now_ns_);
  ASSERT_EQ(finished.size(), 2U);
  EXPECT_TRUE(finished[1].status.has_value()) << "what has begun ends by itself";
  EXPECT_EQ(feeder.stats().timed_out, 1U);
}

TEST_F(FeederTest, an_error_at_any_call_ends_every_job_once_and_nothing_moves_afterwards) {
  std::uint64_t failures = 0;
  for (std::uint64_t fail_at = 0; fail_at < 400; ++fail_at) {
    PlanWorld<HostMemory> world(fail_at % 13, arena_.data(), arena_.size());
    const GpuCopyOptions options = with_stages({.stage_bytes = 4096, .stages = 2, .chunk_bytes = 2048},
                                               {.store_bytes_per_second = 0, .path = CopyPath::kStaged});
    auto inner = std::make_unique<FakeDevice>(options, fail_at);
    FakeDevice& fake = *inner;
    FailingDevice device(std::move(inner), fail_at);
    Feeder feeder(device, options);
    std::vector<FinishedJob> finished;
    const std::size_t middle = world.blocks() / 2;
    feeder.take({.work = world.plan(0, middle), .direction = CopyDirection::kStore}, std::nullopt);
    feeder.take({.work = world.plan(middle, world.blocks()), .direction = CopyDirection::kLoad}, std::nullopt);
    settle(feeder, finished, now_ns_);
    ASSERT_EQ(finished.size(), 2U);
    if (!device.failed()) continue;
    ++failures;
    ASSERT_TRUE(feeder.error().has_value());
    ASSERT_EQ(fake.pending(), 0U) << "a job has ended whose bytes still move";
    feeder.take({.work = world.plan(0, middle), .direction = CopyDirection::kStore}, std::nullopt);
    settle(feeder, finished, now_ns_);
    ASSERT_EQ(finished.size(), 3U);
    ASSERT_FALSE(finished[2].status.has_value());
    EXPECT_EQ(finished[2].status.error().message, "planted: the device failed");
    ASSERT_EQ(fake.pending(), 0U) << "a dead device was used";
  }
  EXPECT_GT(failures, 50U);
}

TEST_F(FeederTest, what_no_kernel_reaches_is_merged) {
  GpuCopyOptions options = with_stages({.stage_bytes = 65'536, .chunk_bytes = 65'536}, {.path = CopyPath::kStaged});
  PlanWorld<HostMemory> world(2, arena_.data(), arena_.size());
  std::vector<FinishedJob> finished;
  FakeDevice device(options, 1);
  Feeder feeder(device, options);
  feeder.take({.work = world.plan(0, 1)}, std::nullopt);
  feeder.take({.work = world.plan(0, 1)}, std::nullopt, TensorPlace::kHost);
  settle(feeder, finished, now_ns_);
  EXPECT_EQ(feeder.stats().staged_jobs, 1U);
  EXPECT_EQ(feeder.stats().merged_jobs, 1U);
  options.store_stages = 0;  // as where the GPU's memory is taken
  FakeDevice bare(options, 1);
  Feeder without(bare, options);
  without.take({.work = world.plan(0, 1)}, std::nullopt);
  settle(without, finished, now_ns_);
  EXPECT_EQ(without.stats().merged_jobs, 1U);
}

TEST_F(FeederTest, tables_of_geometries_that_are_gone_make_room) {
  const GpuCopyOptions options =
      with_stages({.stage_bytes = 65'536, .chunk_bytes = 65'536}, {.path = CopyPath::kStaged});
  FakeDevice device(options, 1);
  Feeder feeder(device, options);
  std::vector<FinishedJob> finished;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    PlanWorld<HostMemory> world(seed, arena_.data(), arena_.size());
    feeder.take({.work = world.plan(0, world.blocks())}, std::nullopt);
    settle(feeder, finished, now_ns_);
  }
  EXPECT_EQ(finished.size(), 60U);
  EXPECT_LE(device.tables(), 16U);
}

PathCosts same_costs(std::uint64_t fixed_ns) {
  PathCosts costs;
  for (auto& direction : costs.of) {
    for (auto& path : direction) path.fill({fixed_ns, 18'000});
  }
  return costs;
}

TEST_F(FeederTest, what_plans_take_alone_corrects_the_choice) {
  PlanWorld<HostMemory> world(7, arena_.data(), arena_.size());
  const GpuCopyOptions options =
      with_stages({.stage_bytes = 16384, .stages = 2, .chunk_bytes = 4096}, {.store_bytes_per_second = 0});
  FakeDevice device(options, 7);
  Feeder feeder(device, options, same_costs(1000));
  std::vector<FinishedJob> finished;
  const auto corrected = [&](CopyDirection direction, GpuLoad load) {
    double most = 0;
    for (std::size_t run = 0; run < kCalibratedRuns.size(); ++run) {
      for (const CopyPath path : {CopyPath::kMerged, CopyPath::kStaged}) {
        most = std::max(most, std::abs(feeder.choice().correction(direction, path, run, load) - 1));
      }
    }
    return most;
  };
  const auto run = [&](CopyDirection direction, bool ahead) {
    feeder.take({.work = world.plan(0, world.blocks()),
                 .direction = direction,
                 .ahead = ahead ? std::make_shared<QueuedAhead>() : nullptr},
                std::nullopt);
  };
  // Two at once, then one each way at once: nothing is learnt.
  run(CopyDirection::kStore, false);
  run(CopyDirection::kStore, false);
  settle(feeder, finished, now_ns_);
  run(CopyDirection::kLoad, false);
  run(CopyDirection::kStore, false);
  settle(feeder, finished, now_ns_);
  for (const GpuLoad load : {GpuLoad::kIdle, GpuLoad::kBusy}) {
    EXPECT_EQ(corrected(CopyDirection::kStore, load), 0);
    EXPECT_EQ(corrected(CopyDirection::kLoad, load), 0);
  }
  run(CopyDirection::kLoad, true);
  settle(feeder, finished, now_ns_);
  EXPECT_GT(corrected(CopyDirection::kLoad, GpuLoad::kIdle), 0);
  EXPECT_EQ(corrected(CopyDirection::kLoad, GpuLoad::kBusy), 0);
  run(CopyDirection::kStore, false);
  settle(feeder, finished, now_ns_);
  EXPECT_GT(corrected(CopyDirection::kStore, GpuLoad::kBusy), 0);
  EXPECT_EQ(device.tickets(), 0);
}

TEST_F(FeederTest, what_moves_nothing_or_goes_through_the_cpu_teaches_nothing) {
  PlanWorld<HostMemory> world(7, arena_.data(), arena_.size());
  const GpuCopyOptions options =
      with_stages({.stage_bytes = 16384, .stages = 2, .chunk_bytes = 4096}, {.store_bytes_per_second = 0});
  FakeDevice device(options, 7);
  Feeder feeder(device, options, same_costs(1000));
  std::vector<FinishedJob> finished;
  feeder.take({.work = world.plan(0, 0), .direction = CopyDirection::kLoad}, std::nullopt);
  settle(feeder, finished, now_ns_);
  feeder.take({.work = world.plan(0, world.blocks()), .direction = CopyDirection::kLoad}, std::nullopt,
              TensorPlace::kGpu, false);
  settle(feeder, finished, now_ns_);
  EXPECT_NE(feeder.choice().text().find("corrected by 0 plans"), std::string::npos);
}

TEST_F(FeederTest, a_store_with_a_pace_or_behind_an_event_teaches_nothing) {
  PlanWorld<HostMemory> world(7, arena_.data(), arena_.size());
  const GpuCopyOptions paced = with_stages({.stage_bytes = 16384, .stages = 2, .chunk_bytes = 4096});
  const GpuCopyOptions options =
      with_stages({.stage_bytes = 16384, .stages = 2, .chunk_bytes = 4096}, {.store_bytes_per_second = 0});
  for (const bool behind_event : {false, true}) {
    FakeDevice device(behind_event ? options : paced, 7);
    Feeder feeder(device, behind_event ? options : paced, same_costs(1000));
    std::vector<FinishedJob> finished;
    FakeEvent event;
    event.record();
    std::optional<Ticket> gate;
    if (behind_event) gate = device.gate(CopyDirection::kStore, &event).value();
    feeder.take({.work = world.plan(0, world.blocks()), .direction = CopyDirection::kStore}, gate);
    for (int i = 0; i < 100; ++i) feeder.pass(now_ns_++, finished);
    event.happen();
    settle(feeder, finished, now_ns_);
    EXPECT_NE(feeder.choice().text().find("corrected by 0 plans"), std::string::npos);
  }
}

}  // namespace
}  // namespace tiercel::gpu
