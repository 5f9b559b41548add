// Goal: whichever allocation of a conversation with the cache fails, no call throws or ends the process, and nothing
// stays held behind it.
#include "cache/core.h"
#include "cache/local_session.h"
#include "transfer/host_copy_engine.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <new>
#include <optional>
#include <vector>

namespace {
std::int64_t allocations_left = -1;  // until one fails; below 0: none does

void* allocate(std::size_t bytes) {
  if (allocations_left >= 0 && allocations_left-- == 0) throw std::bad_alloc();
  void* memory = std::malloc(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
}  // namespace

void* operator new(std::size_t bytes) {
  return allocate(bytes);
}
void* operator new[](std::size_t bytes) {
  return allocate(bytes);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete[](void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace tiercel {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kBlocks = 40;

/// True if allocation number `failing` was reached.
bool talk(IntegrityMode mode, std::int64_t failing) {
  ManualClock clock;
  ManualExecutor executor(clock);
  HostCopyEngine copies(executor);
  const Config config{.host = {.capacity = 4_MiB, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = 64_KiB},
                      .integrity = {.mode = mode}};
  auto core = *detail::CacheCore::create(config, {.clock = clock, .executor = executor, .copies = copies, .seed = 7});
  Cache cache(core, nullptr);
  Session session = *cache.open_session(
      {.model = {.name = "test", .kv_dtype = "f16"}, .block_tokens = 1, .layout = Layout::blob(64_KiB)});
  const BlockChain a = hash_blocks(session.space(), std::vector<TokenId>(kBlocks, 1));
  const BlockChain b = hash_blocks(session.space("other"), std::vector<TokenId>(kBlocks, 2));

  allocations_left = failing;
  {
    Reservation room = session.reserve(a, 0);
    for (std::size_t i = 0; i < room.size(); ++i) {
      if (room.outcome(i) == Reserved::kYes) (void)room.writer(i).commit();
    }
    room = {};
    executor.run_all();
    (void)session.match(a);
    const auto pin = session.pin(a, 8, 1s);
    Load waited = session.load(a, kBlocks, 1s);
    Load dropped = session.load(a, kBlocks, 1s);
    executor.run_all();
    (void)waited.wait();
    dropped = {};
    room = session.reserve(b, 0);
    room = {};
    (void)session.drop(a, 3);
    (void)cache.stats();
  }
  const bool reached = allocations_left < 0;
  allocations_left = -1;
  executor.run_all();
  clock.advance(10'000'000'000);  // a pin whose handle could not be made ends with its time
  core->check_consistency();
  const Stats stats = cache.stats();
  EXPECT_EQ(stats.copy_pins, 0U) << failing;
  EXPECT_EQ(stats.logical_pins, 0U) << failing;
  EXPECT_EQ(stats.tiers[0].quarantined_slots, 0U) << failing;
  EXPECT_TRUE(session.drop(session.space())) << failing;
  EXPECT_EQ(cache.stats().tiers[0].used_bytes, 0U) << failing;
  (void)cache.close(0ns);
  return reached;
}

class Allocations : public testing::TestWithParam<IntegrityMode> {};

TEST_P(Allocations, the_one_that_fails_leaves_nothing_held) {
  std::int64_t failing = 0;
  while (talk(GetParam(), failing)) ++failing;
  EXPECT_GT(failing, 20) << "the conversation allocates";
}
INSTANTIATE_TEST_SUITE_P(Modes, Allocations, testing::Values(IntegrityMode::kNormal, IntegrityMode::kParanoid));

}  // namespace
}  // namespace tiercel
