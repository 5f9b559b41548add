// Goal: a slot that a copy moves bytes into or out of is never reused: not after its writer was dropped, its block
// deleted, its session closed, its pin's time was over, or its extent was to change sides.
//
// Method: every copy goes through a copy engine that keeps jobs back and lets them go at random, long after whoever
// asked for them is gone; the copies that arrive late bring poison. Tasks are run by hand in random order. Loads must
// be exactly what was committed; late readers must read what they were promised. One seed is one run.
#include "base/random.h"
#include "cache/core.h"
#include "cache/local_session.h"
#include "transfer/held_copy_engine.h"
#include "transfer/host_copy_engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <optional>
#include <vector>

namespace tiercel {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kSmall = 64_KiB;
constexpr std::uint64_t kLarge = 256_KiB;

class World {
 public:
  explicit World(std::uint64_t seed)
      : random_(seed),
        executor_(clock_),
        inner_(executor_),
        copies_(inner_, executor_),
        core_(*detail::CacheCore::create(
            {.host = {.capacity = 8_MiB, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = 64_KiB},
             .limits = {.handover_deadline = 10'000ms}},
            {.clock = clock_, .executor = executor_, .copies = copies_, .seed = seed})),
        cache_(core_, nullptr) {
    reopen(0);
    reopen(1);
  }

  void step() {
    clock_.advance(random_.below(400'000'000));
    choose();
    switch (random_.below(12)) {
      case 0:
      case 1:
      case 2:
      case 3:
        store();
        break;
      case 4:
      case 5:
        load();
        break;
      case 6:
        EXPECT_TRUE(session().drop(*chain_, random_.below(chain_->size())));
        break;
      case 7:
        if (random_.below(6) == 0) reopen(size_);
        break;
      case 8:
        if (auto pin = session().pin(*chain_, chain_->size(), 1s)) pins_.push_back(std::move(*pin));
        if (pins_.size() > 3) pins_.erase(pins_.begin());
        break;
      case 9:
      case 10:
        if (copies_.held() > 0) copies_.release(random_.below(copies_.held()));
        break;
      default:
        executor_.run(random_.below(executor_.queued() + 1));
    }
    if (copies_.held() > 20) copies_.release(random_.below(copies_.held()));
    if (random_.below(4) == 0) executor_.run_all();
  }

  void finish() {
    pins_.clear();
    while (copies_.held() > 0) copies_.release(random_.below(copies_.held()));
    for (int i = 0; i < 100 && (executor_.run_all() > 0 || copies_.held() > 0); ++i) copies_.release_all();
    core_->check_consistency();
    const Stats stats = cache_.stats();
    EXPECT_EQ(stats.copy_pins, 0U);
    EXPECT_EQ(stats.logical_pins, 0U);
    EXPECT_EQ(stats.tiers[0].quarantined_slots, 0U);
    EXPECT_TRUE(late_reads_.empty()) << "every copy that was taken has completed";
    most_ = stats;
    EXPECT_TRUE(cache_.close(0ns));
  }
  [[nodiscard]] const Stats& stats() const { return most_; }

 private:
  Session& session() { return *sessions_[size_]; }
  void reopen(std::size_t size) {
    sessions_[size].reset();
    auto opened = cache_.open_session(
        {.model = {.kv_dtype = "f16"}, .block_tokens = 2, .layout = Layout::blob(size == 0 ? kSmall : kLarge)});
    ASSERT_TRUE(opened) << opened.error().message;
    sessions_[size].emplace(std::move(*opened));
  }
  void choose() {
    ++steps_;
    size_ = (random_.below(10) == 0) == (steps_ / 500 % 2 == 0) ? 1 : 0;  // the favoured size changes
    const std::uint64_t conversation = random_.below(20);
    std::vector<TokenId> tokens;
    for (std::size_t i = 0; i < 2 * (1 + random_.below(8)); ++i)
      tokens.push_back(static_cast<TokenId>(100 * conversation + i));
    chain_.emplace(hash_blocks(session().space(), tokens));
  }
  /// A block's content: one byte that its name decides.
  [[nodiscard]] std::byte content(std::size_t block) const { return (*chain_)[block].bytes[7]; }

  void store() {
    Reservation room = session().reserve(*chain_, 0);
    for (std::size_t i = 0; i < room.size(); ++i) {
      if (room.outcome(i) != Reserved::kYes) continue;
      Writer& writer = room.writer(i);
      if (random_.below(5) == 0) {  // the writer goes; its copy, of poison, comes later
        auto pin = std::make_shared<CopyPin>(writer.begin_copy());
        (void)copies_.submit({.work = ByteCopy{.to = writer.bytes().data(), .from = poison_.data(), .bytes = kSmall},
                              .direction = CopyDirection::kStore,
                              .done = [pin](const Status&) {}});
        if (random_.below(2) == 0) writer.abort();
        continue;
      }
      std::ranges::fill(writer.bytes(), content(i));
      const Status status = writer.commit();
      EXPECT_TRUE(status || status.error().code == ErrorCode::kNoParent) << status.error().message;
    }
    if (random_.below(10) == 0) {  // the session is lost under its writers
      reopen(size_);
      executor_.run_all();
    }
  }

  void load() {
    Load load = session().load(*chain_, chain_->size(), 1s);
    const auto blocks = load.wait();
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const auto whole = [&](std::byte b) { return b == content(i); };
      ASSERT_TRUE(std::ranges::all_of(blocks[i].bytes(), whole)) << "block " << i << ", step " << steps_;
      if (random_.below(6) != 0) continue;
      // A copy out of the block that runs long after the load is gone.
      const auto target = late_reads_.emplace(late_reads_.end(), kSmall);
      auto pin = std::make_shared<CopyPin>(blocks[i].begin_copy());
      const bool taken =
          copies_.submit({.work = ByteCopy{.to = target->data(), .from = blocks[i].bytes().data(), .bytes = kSmall},
                          .direction = CopyDirection::kLoad,
                          .done = [this, pin, target, expected = content(i)](const Status&) {
                            EXPECT_TRUE(std::ranges::all_of(*target, [&](std::byte b) { return b == expected; }));
                            late_reads_.erase(target);
                          }});
      if (!taken) late_reads_.erase(target);
    }
  }

  Random random_;
  ManualClock clock_;
  ManualExecutor executor_;
  HostCopyEngine inner_;
  HeldCopyEngine copies_;
  std::shared_ptr<detail::CacheCore> core_;
  Cache cache_;
  std::optional<Session> sessions_[2];
  std::size_t size_ = 0;
  std::uint64_t steps_ = 0;
  std::optional<BlockChain> chain_;
  std::vector<Pin> pins_;
  std::list<std::vector<std::byte>> late_reads_;
  std::vector<std::byte> poison_ = std::vector<std::byte>(kLarge, std::byte{0xEE});
  Stats most_;
};

TEST(HeldCopies, a_slot_under_a_copy_is_never_reused) {
  std::uint64_t moved = 0;
  std::uint64_t aborted = 0;
  std::uint64_t dropped = 0;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    World world(seed);
    for (int i = 0; i < 1'500 && !testing::Test::HasFailure(); ++i) world.step();
    world.finish();
    moved += world.stats().moved_blocks;
    aborted += world.stats().aborted_blocks;
    dropped += world.stats().dropped_blocks;
  }
  EXPECT_GT(moved, 0U);
  EXPECT_GT(aborted, 0U);
  EXPECT_GT(dropped, 0U);
}

}  // namespace
}  // namespace tiercel
