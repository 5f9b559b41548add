// Goal: submits from any thread reach a driver that sleeps, and nothing is lost or answered twice between them. For the
// thread sanitizer too. A wake-up that is lost shows as a test that does not end.
#include "io/memory_file_system.h"
#include "tier/disk/testing/disk_rig.h"

#include <atomic>
#include <thread>

namespace tiercel::disk::testing {
namespace {

constexpr std::uint64_t kLongWaitNs = 3'600'000'000'000;

/// Takes the events and lets threads wait for the tier to be up.
class Owner : public DiskEvents {
 public:
  void on_opened(const Opened& opened) override { epoch.store(opened.epoch, std::memory_order_release); }
  void on_found(std::span<const DiskBlock>) override {}
  void on_recovered(const DiskRecovery&) override {}
  void on_lost() override {}
  void on_state(DiskState state, const std::string&) override {
    if (state != DiskState::kOn) return;
    up.store(true, std::memory_order_release);
    up.notify_all();
  }
  std::atomic<std::uint64_t> epoch{0};  // pairs: on_opened (release) with the writers (acquire)
  std::atomic<bool> up{false};          // pairs: on_state (release) with the writers (acquire)
};

TEST(DiskTierThreads, JobsOfManyThreadsAreAllAnsweredByADriverThatSleeps) {
  constexpr std::uint32_t kThreads = 3;
  constexpr std::uint32_t kRounds = 60;
  MemoryFileSystem files;
  files.make_directory("/d");
  const SteadyClock clock;
  Owner owner;
  DiskOptions options = small_options();
  options.probe_interval_ns = kLongWaitNs;  // nothing but jobs wakes the driver
  options.io_deadline_ns = kLongWaitNs;
  DiskTier tier(options, files, clock, owner);
  std::thread driver([&] {
    while (tier.step(kLongWaitNs)) {
    }
  });
  owner.up.wait(false, std::memory_order_acquire);

  std::atomic<std::uint32_t> wrong{0};
  const auto work = [&](std::uint32_t thread) {
    const std::shared_ptr<std::byte> memory = allocate_pages(kSlotBytes);
    const std::shared_ptr<std::byte> copy = allocate_pages(kSlotBytes);
    for (std::uint32_t round = 0; round < kRounds; ++round) {
      std::atomic<int> answered{0};
      const auto done = [&](const Status& status) {
        if (!status) wrong.fetch_add(1, std::memory_order_relaxed);
        answered.store(1, std::memory_order_release);
        answered.notify_one();
      };
      const std::uint64_t number = std::uint64_t{thread} * 1000 + round + 1;
      const DiskBlock block{.fingerprint = name_of(1),
                            .hash = name_of(number),
                            .parent = name_of(1),
                            .slot = thread * kSlotsPerExtent + round % 4,
                            .slot_bytes = kSlotBytes,
                            .length = kSlotBytes,
                            .checksum = number,
                            .generation = (owner.epoch.load(std::memory_order_acquire) << kEpochShift) + number};
      fill(memory.get(), kSlotBytes, number);
      if (tier.write({.block = block, .from = memory.get(), .done = done, .owner = memory}) != DiskSubmit::kTaken) {
        wrong.fetch_add(1, std::memory_order_relaxed);
        continue;
      }
      answered.wait(0, std::memory_order_acquire);
      answered.store(0, std::memory_order_relaxed);
      if (tier.read({.slot = block.slot,
                     .slot_bytes = kSlotBytes,
                     .generation = block.generation,
                     .to = copy.get(),
                     .length = kSlotBytes,
                     .done = done,
                     .owner = copy}) == DiskSubmit::kTaken) {
        answered.wait(0, std::memory_order_acquire);
        if (!holds(copy.get(), kSlotBytes, number)) wrong.fetch_add(1, std::memory_order_relaxed);
      }
      tier.clear(block.slot);
      (void)tier.counters();
      (void)tier.state();
      (void)tier.idle();
    }
  };
  std::vector<std::thread> threads;
  for (std::uint32_t thread = 0; thread < kThreads; ++thread) threads.emplace_back(work, thread);
  for (std::thread& thread : threads) thread.join();
  tier.close();
  driver.join();
  EXPECT_EQ(wrong.load(), 0U);
  EXPECT_EQ(tier.state(), DiskState::kClosed);
  EXPECT_EQ(tier.counters().written_blocks, kThreads * kRounds);
  EXPECT_EQ(tier.counters().read_blocks, kThreads * kRounds);
}

}  // namespace
}  // namespace tiercel::disk::testing
