// The contract of CopyEngine, run by every implementation.
//
// An implementation adds an environment: it makes an engine with room for kMaxJobs jobs, and settle() lets time pass
// until a condition holds. `Memory` puts an engine's tensors where the implementation finds them: push() takes what the
// test wrote there, pull() brings it back. kStands: nothing moves before settle() is called. An environment that is not
// to be had everywhere says in missing() why, and may then be made but not used.
#pragma once

#include "model/testing/paged_engine.h"
#include "transfer/copy_engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace tiercel::transfer_contract {

using namespace testing_support;

inline constexpr std::size_t kMaxJobs = 8;

/// Tensors that lie in host memory stay where they are.
class HostMemory {
 public:
  explicit HostMemory(std::vector<EngineTensor> tensors) : tensors_(std::move(tensors)) {}
  [[nodiscard]] const std::vector<EngineTensor>& tensors() const { return tensors_; }
  void push() {}
  void pull() {}

 private:
  std::vector<EngineTensor> tensors_;
};

template <class Env>
class CopyEngineContract : public testing::Test {
 protected:
  void SetUp() override {
    if constexpr (requires { Env::missing(); }) {
      if (const std::string missing = Env::missing(); !missing.empty()) GTEST_SKIP() << missing;
    }
  }
  CopyEngine& engine() { return env_->engine(); }
  bool settle(const std::function<bool()>& ready) { return env_->settle(ready); }
  bool settle_all() {
    return settle([this] { return engine().in_flight() == 0; });
  }
  /// A copy of `from` to `to` that counts its completions.
  CopyJob counted(std::vector<std::byte>& to, const std::vector<std::byte>& from) {
    return {.work = ByteCopy{to.data(), from.data(), from.size()},
            .direction = CopyDirection::kLoad,
            .done = [this](const Status& status) {
              EXPECT_TRUE(status.has_value());
              completions_.fetch_add(1);
            }};
  }
  static std::vector<std::byte> random_bytes(std::size_t size, std::uint64_t seed) {
    std::vector<std::byte> bytes(size);
    Random random(seed);
    for (std::byte& b : bytes) b = static_cast<std::byte>(random.next() & 0xFFU);
    return bytes;
  }

  std::atomic<int> completions_{0};
  std::unique_ptr<Env> env_ = std::make_unique<Env>();
};

TYPED_TEST_SUITE_P(CopyEngineContract);

// NOLINTBEGIN(readability-identifier-naming): the macro makes a class of each test's name

TYPED_TEST_P(CopyEngineContract, moves_plain_bytes_of_any_size) {
  for (const std::size_t size : {1U, 100U, 4096U, 70'000U, 3'000'001U}) {
    const auto from = this->random_bytes(size, size);
    std::vector<std::byte> to(size + 1, std::byte{0x11});
    const int before = this->completions_.load();
    ASSERT_TRUE(this->engine().submit(this->counted(to, from)));
    ASSERT_TRUE(this->settle_all());
    EXPECT_EQ(this->completions_.load(), before + 1);
    EXPECT_TRUE(std::equal(from.begin(), from.end(), to.begin()));
    EXPECT_EQ(to.back(), std::byte{0x11});
  }
}

TYPED_TEST_P(CopyEngineContract, plans_store_and_load_what_an_element_by_element_copy_does) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    Random random(seed);
    EngineShape shape = random_shape(random);
    if (seed % 3 == 0) shape.inner_bytes *= 64;  // large enough to be cut and streamed
    PagedEngine engine(shape);
    engine.fill(seed);
    const std::uint32_t block_tokens = 2 * shape.page_tokens;
    const RunTable table = RunTable::make(layout_of(shape, block_tokens).groups[0], block_tokens).value();
    typename TypeParam::Memory memory(engine.tensors());
    memory.push();
    const auto geometry = std::make_shared<const CopyGeometry>(CopyGeometry::make(table, memory.tensors()).value());
    const std::size_t blocks = shape.pages / 2;
    const std::vector<std::uint32_t> pages = random_pages(random, shape.pages, 2 * blocks);
    std::vector<std::byte> arena(blocks * table.block_bytes(), std::byte{0x77});
    std::vector<std::byte> expected = arena;
    std::vector<std::byte*> slots;
    for (std::size_t i = 0; i < blocks; ++i) {
      slots.push_back(arena.data() + i * table.block_bytes());
      engine.reference_store(table, {pages[2 * i], pages[2 * i + 1]}, expected.data() + i * table.block_bytes());
    }
    ASSERT_TRUE(this->engine().submit(
        {.work = CopyPlan::make(geometry, pages, slots).value(), .direction = CopyDirection::kStore}));
    ASSERT_TRUE(this->settle_all());
    ASSERT_EQ(arena, expected) << "seed " << seed;

    // Wipe the pages that were stored; the load must bring back the whole memory as it was.
    const auto before = engine.storage();
    for (const std::uint32_t page : pages) {
      engine.for_each_in_page(page, [&](const Place& p) { std::memset(engine.at(p), 0, shape.inner_bytes); });
    }
    ASSERT_NE(engine.storage(), before);
    memory.push();
    ASSERT_TRUE(this->engine().submit(
        {.work = CopyPlan::make(geometry, pages, slots).value(), .direction = CopyDirection::kLoad}));
    ASSERT_TRUE(this->settle_all());
    memory.pull();
    ASSERT_EQ(engine.storage(), before) << "seed " << seed;
  }
}

TYPED_TEST_P(CopyEngineContract, a_job_without_bytes_completes) {
  std::vector<std::byte> none;
  ASSERT_TRUE(this->engine().submit(this->counted(none, none)));
  ASSERT_TRUE(this->settle_all());
  EXPECT_EQ(this->completions_.load(), 1);
}

TYPED_TEST_P(CopyEngineContract, says_busy_when_full_and_leaves_the_job_as_it_was) {
  const auto from = this->random_bytes(200'000, 1);
  std::vector<std::vector<std::byte>> targets(3 * kMaxJobs + 8, std::vector<std::byte>(from.size()));
  int taken = 0;
  int refused = 0;
  for (auto& target : targets) {
    CopyJob job = this->counted(target, from);
    if (this->engine().submit(std::move(job))) {
      ++taken;
    } else {
      ++refused;
      ASSERT_TRUE(job.done) << "a refused job must stay whole";  // NOLINT(bugprone-use-after-move): that is the point
      EXPECT_EQ(std::get<ByteCopy>(job.work).to, target.data());
    }
  }
  ASSERT_TRUE(this->settle_all());
  EXPECT_EQ(this->completions_.load(), taken);
  EXPECT_GE(taken, static_cast<int>(kMaxJobs));
  if constexpr (TypeParam::kStands) {
    EXPECT_EQ(taken, static_cast<int>(kMaxJobs));
  }
  EXPECT_EQ(taken + refused, static_cast<int>(targets.size()));
  std::vector<std::byte> later(from.size());
  EXPECT_TRUE(this->engine().submit(this->counted(later, from))) << "room again";
  ASSERT_TRUE(this->settle_all());
  EXPECT_EQ(later, from);
}

TYPED_TEST_P(CopyEngineContract, closed_it_refuses_and_finishes_what_it_took) {
  const auto from = this->random_bytes(500'000, 2);
  std::vector<std::byte> to(from.size());
  std::vector<std::byte> other(from.size());
  ASSERT_TRUE(this->engine().submit(this->counted(to, from)));
  this->engine().close();
  this->engine().close();
  EXPECT_FALSE(this->engine().submit(this->counted(other, from)));
  ASSERT_TRUE(this->settle_all());
  EXPECT_EQ(this->completions_.load(), 1);
  EXPECT_EQ(to, from);
}

TYPED_TEST_P(CopyEngineContract, destroyed_it_still_completes_each_job_once) {
  const auto from = this->random_bytes(300'000, 3);
  std::vector<std::vector<std::byte>> targets(kMaxJobs, std::vector<std::byte>(from.size()));
  for (auto& target : targets) ASSERT_TRUE(this->engine().submit(this->counted(target, from)));
  this->env_->drop_engine();
  this->env_.reset();  // the executor too, which runs what it has taken
  EXPECT_EQ(this->completions_.load(), static_cast<int>(kMaxJobs));
  for (const auto& target : targets) EXPECT_EQ(target, from);
}

TYPED_TEST_P(CopyEngineContract, a_completion_may_submit_and_owns_things_no_longer_than_the_job) {
  const auto from = this->random_bytes(100'000, 4);
  std::vector<std::byte> first(from.size());
  std::vector<std::byte> second(from.size());
  auto pin = std::make_shared<int>(1);
  CopyJob next = this->counted(second, from);
  CopyJob job = this->counted(first, from);
  std::atomic<bool> chained{false};
  job.done = [&, pin](const Status&) {
    EXPECT_EQ(first, from) << "completed before its bytes were there";
    EXPECT_TRUE(this->engine().submit(std::move(next)));
    chained.store(true);
  };
  ASSERT_TRUE(this->engine().submit(std::move(job)));
  job = {};
  ASSERT_TRUE(this->settle([&] { return chained.load() && this->engine().in_flight() == 0; }));
  EXPECT_EQ(this->completions_.load(), 1);
  EXPECT_EQ(second, from);
  EXPECT_EQ(pin.use_count(), 1) << "a copy pin in the completion would have leaked";
}

// NOLINTEND(readability-identifier-naming)

REGISTER_TYPED_TEST_SUITE_P(CopyEngineContract, moves_plain_bytes_of_any_size,
                            plans_store_and_load_what_an_element_by_element_copy_does, a_job_without_bytes_completes,
                            says_busy_when_full_and_leaves_the_job_as_it_was,
                            closed_it_refuses_and_finishes_what_it_took, destroyed_it_still_completes_each_job_once,
                            a_completion_may_submit_and_owns_things_no_longer_than_the_job);

}  // namespace tiercel::transfer_contract
