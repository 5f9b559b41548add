// Goal: blocks of a load are copied as they come, in order, each once, into their pages; a load that gives less, a copy
// that fails or finds no place, and a slow load beside a fast one end as they should; from a real disk the bytes are
// those that were stored.
#include "cache/streamed_loads.h"

#include "cache/session_backend.h"

#include <tiercel/cache.h>
#include <tiercel/transfer.h>

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <thread>

namespace tiercel {
namespace {

using namespace std::chrono_literals;

/// What a test lets come.
struct Coming {
  std::atomic<std::size_t> ready{0};
  std::atomic<bool> final{false};
  std::atomic<bool> dropped{false};
};

class PlannedLoad final : public detail::LoadBackend {
 public:
  PlannedLoad(std::shared_ptr<Coming> coming, std::span<const std::byte> memory, std::size_t block_bytes)
      : coming_(std::move(coming)) {
    for (std::size_t i = 0; i + block_bytes <= memory.size(); i += block_bytes)
      refs_.emplace_back(CopyPin(), memory.subspan(i, block_bytes));
  }
  ~PlannedLoad() override { coming_->dropped.store(true); }
  [[nodiscard]] std::span<const BlockRef> wait() override { return so_far(); }
  [[nodiscard]] bool done() override { return coming_->final.load(); }
  [[nodiscard]] std::span<const BlockRef> so_far() override { return std::span(refs_).first(coming_->ready.load()); }
  [[nodiscard]] LoadOutcome outcome() const override { return LoadOutcome::kComplete; }
  [[nodiscard]] std::vector<BlockRef> take() override { return {}; }

 private:
  std::shared_ptr<Coming> coming_;
  std::vector<BlockRef> refs_;
};

constexpr std::size_t kBlockBytes = 64;
constexpr std::size_t kBlocks = 8;

class StreamedLoadsTest : public testing::Test {
 protected:
  StreamedLoadsTest() {
    for (std::size_t i = 0; i < memory_.size(); ++i) memory_[i] = static_cast<std::byte>(i / kBlockBytes);
  }
  ~StreamedLoadsTest() override {
    let_go();
    for (const auto& coming : comings_) coming->final.store(true);
  }

  /// Copies by a list of what came; each stays in flight while held_.
  Status copy(const std::vector<BlockRef>& blocks, std::span<const std::uint32_t> pages, StreamedLoads::Done done) {
    const std::lock_guard lock(mutex_);
    if (throws_ > 0) {
      --throws_;
      throw std::bad_alloc();
    }
    if (refused_ > 0) {
      --refused_;
      return fail(ErrorCode::kLimit, "planted: no place");
    }
    EXPECT_EQ(pages.size(), 2 * blocks.size());
    sizes_.push_back(blocks.size());
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      came_.emplace_back(std::to_integer<int>(blocks[i].bytes()[0]), pages[2 * i]);
    }
    if (held_) {
      waiting_.push_back(std::move(done));
    } else {
      done(error_ ? Status(tl::unexpected<Error>(*error_)) : Status{});
    }
    return {};
  }
  void let_go() {
    const std::lock_guard lock(mutex_);
    held_ = false;
    for (auto& done : waiting_) done({});
    waiting_.clear();
  }
  std::shared_ptr<Coming> start(std::size_t pages = 2 * kBlocks) {
    auto coming = std::make_shared<Coming>();
    comings_.push_back(coming);
    std::vector<std::uint32_t> ids(pages);
    std::iota(ids.begin(), ids.end(), 100U);
    added_ = streams_->add(Load(std::make_unique<PlannedLoad>(coming, memory_, kBlockBytes)), std::move(ids),
                           [this, coming](const Status& status, std::size_t copied) {
                             EXPECT_TRUE(coming->dropped.load()) << "the load is held no longer than the copy";
                             const std::lock_guard lock(mutex_);
                             ended_.emplace_back(status, copied);
                           });
    return coming;
  }
  template <class F>
  [[nodiscard]] bool comes(F&& what) {
    for (int i = 0; i < 20'000; ++i) {
      {
        const std::lock_guard lock(mutex_);
        if (what()) return true;
      }
      std::this_thread::sleep_for(1ms);
    }
    return false;
  }

  std::vector<std::byte> memory_ = std::vector<std::byte>(kBlocks * kBlockBytes);
  std::mutex mutex_;
  std::vector<std::size_t> sizes_;
  std::vector<std::pair<int, std::uint32_t>> came_;  // block, its first page
  std::vector<StreamedLoads::Done> waiting_;
  std::vector<std::pair<Status, std::size_t>> ended_;
  std::optional<Error> error_;
  int refused_ = 0;
  int throws_ = 0;
  bool held_ = false;
  Status added_;
  std::vector<std::shared_ptr<Coming>> comings_;
  std::unique_ptr<StreamedLoads> streams_ = std::make_unique<StreamedLoads>(
      [this](const auto& blocks, auto pages, auto done) { return copy(blocks, pages, std::move(done)); }, 2,
      kBlockBytes);
};

TEST_F(StreamedLoadsTest, blocks_are_copied_as_they_come_once_and_in_order) {
  const auto coming = start();
  for (const std::size_t ready : {1U, 3U, 4U, 8U}) {
    coming->ready = ready;
    ASSERT_TRUE(comes([&] { return came_.size() == ready; }));
  }
  std::this_thread::sleep_for(5ms);
  EXPECT_EQ(ended_.size(), 0U) << "the load is not final";
  coming->final = true;
  ASSERT_TRUE(comes([&] { return ended_.size() == 1; }));
  EXPECT_TRUE(ended_[0].first);
  EXPECT_EQ(ended_[0].second, kBlocks);
  for (int i = 0; i < 8; ++i)
    EXPECT_EQ(came_[static_cast<std::size_t>(i)], std::pair(i, 100U + 2 * static_cast<unsigned>(i)));
  EXPECT_EQ(sizes_, (std::vector<std::size_t>{1, 2, 1, 4}));
}

TEST_F(StreamedLoadsTest, while_a_copy_runs_less_than_a_chunk_waits_for_it) {
  held_ = true;
  const auto coming = start();
  coming->ready = 2;
  ASSERT_TRUE(comes([&] { return came_.size() == 2; }));
  coming->ready = 5;
  std::this_thread::sleep_for(10ms);
  EXPECT_EQ(sizes_, (std::vector<std::size_t>{2}));
  let_go();
  ASSERT_TRUE(comes([&] { return came_.size() == 5; }));
  coming->final = true;
  ASSERT_TRUE(comes([&] { return ended_.size() == 1; }));
  EXPECT_EQ(ended_[0].second, 5U) << "the load gave less";
}

TEST_F(StreamedLoadsTest, no_more_than_there_are_pages_for) {
  const auto coming = start(6);
  coming->ready = kBlocks;
  coming->final = true;
  ASSERT_TRUE(comes([&] { return ended_.size() == 1; }));
  EXPECT_EQ(ended_[0].second, 3U);
  EXPECT_EQ(came_.size(), 3U);
}

TEST_F(StreamedLoadsTest, a_copy_without_a_place_is_tried_again) {
  refused_ = 5;
  const auto coming = start();
  coming->ready = kBlocks;
  coming->final = true;
  ASSERT_TRUE(comes([&] { return ended_.size() == 1; }));
  EXPECT_EQ(ended_[0].second, kBlocks);
  EXPECT_EQ(refused_, 0);
}

TEST_F(StreamedLoadsTest, a_copy_for_which_there_is_no_memory_is_tried_again) {
  throws_ = 3;
  const auto coming = start();
  coming->ready = kBlocks;
  coming->final = true;
  ASSERT_TRUE(comes([&] { return ended_.size() == 1; }));
  EXPECT_TRUE(ended_[0].first);
  EXPECT_EQ(ended_[0].second, kBlocks);
  EXPECT_EQ(came_.size(), kBlocks);
}

TEST_F(StreamedLoadsTest, closed_it_waits_for_copies_and_for_no_load) {
  held_ = true;
  const auto never = start();
  const auto ready = start();
  ready->ready = 3;
  ASSERT_TRUE(comes([&] { return came_.size() == 3; }));
  std::thread closing([&] { streams_->close(); });
  ASSERT_TRUE(comes([&] { return ended_.size() == 1; })) << "the load that has not begun to come";
  EXPECT_TRUE(never->dropped.load());
  ready->ready = kBlocks;
  std::this_thread::sleep_for(5ms);
  EXPECT_EQ(streams_->open(), 1U) << "its copy runs";
  let_go();
  closing.join();
  ASSERT_EQ(ended_.size(), 2U);
  EXPECT_EQ(came_.size(), 3U);
  for (const auto& [status, copied] : ended_) {
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kClosed);
    EXPECT_EQ(copied, 0U);
  }
  (void)start();
  ASSERT_FALSE(added_);
  EXPECT_EQ(added_.error().code, ErrorCode::kClosed);
}

TEST_F(StreamedLoadsTest, destroyed_it_ends_what_is_open) {
  held_ = true;
  const auto coming = start();
  coming->ready = 2;
  ASSERT_TRUE(comes([&] { return came_.size() == 2; }));
  std::thread later([this] {
    std::this_thread::sleep_for(20ms);
    let_go();
  });
  streams_.reset();
  later.join();
  ASSERT_EQ(ended_.size(), 1U);
  EXPECT_FALSE(ended_[0].first);
}

TEST_F(StreamedLoadsTest, after_an_error_nothing_more_is_copied_and_none_counts) {
  error_ = Error{.code = ErrorCode::kIo, .message = "planted"};
  const auto coming = start();
  coming->ready = 2;
  ASSERT_TRUE(comes([&] { return ended_.size() == 1; })) << "before the load is final";
  EXPECT_FALSE(ended_[0].first);
  EXPECT_EQ(ended_[0].second, 0U);
  coming->ready = kBlocks;
  std::this_thread::sleep_for(5ms);
  EXPECT_EQ(came_.size(), 2U);
}

TEST_F(StreamedLoadsTest, a_slow_load_holds_up_no_other) {
  const auto slow = start();
  const auto fast = start();
  fast->ready = kBlocks;
  fast->final = true;
  ASSERT_TRUE(comes([&] { return ended_.size() == 1; }));
  EXPECT_EQ(streams_->open(), 1U);
  std::thread later([slow] {
    std::this_thread::sleep_for(30ms);
    slow->ready = 1;
    slow->final = true;
  });
  ASSERT_TRUE(comes([&] { return ended_.size() == 2; }));
  EXPECT_EQ(ended_[1].second, 1U);
  later.join();
}

/// A cache on disk, and an engine of two pages a block in host memory.
TEST(StreamedLoadsOfDiskTest, what_was_stored_comes_into_its_pages) {
  constexpr std::size_t kCount = 300;
  constexpr std::uint64_t kBytes = 128U << 10U;
  const std::string folder = testing::TempDir() + "tiercel-streams-" + std::to_string(getpid());
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  Config config;
  config.host.capacity = 256_MiB;
  config.disk.directories = {folder};
  config.disk.capacity = 512_MiB;
  const SessionOptions of{
      .model = {.name = "streams", .kv_dtype = "f16"}, .block_tokens = 1, .layout = Layout::blob(kBytes)};
  std::vector<TokenId> tokens(kCount);
  std::iota(tokens.begin(), tokens.end(), 0);
  {
    Cache cache = Cache::open(config).value();
    Session session = cache.open_session(of).value();
    const BlockChain chain = hash_blocks(session.space(), tokens);
    Reservation room = session.reserve(chain, 0);
    for (std::size_t i = 0; i < kCount; ++i) {
      std::ranges::fill(room.writer(i).bytes(), static_cast<std::byte>(i * 7 + 1));
      std::memcpy(room.writer(i).bytes().data(), &i, sizeof(i));
    }
    ASSERT_EQ(room.commit_all()->blocks, kCount);
    for (int i = 0; i < 20'000 && session.match(chain).blocks_in(TierId::kDisk) < kCount; ++i)
      std::this_thread::sleep_for(1ms);
  }
  Cache cache = Cache::open(config).value();
  Session session = cache.open_session(of).value();
  const BlockChain chain = hash_blocks(session.space(), tokens);
  for (int i = 0; i < 20'000 && session.match(chain).blocks() < kCount; ++i) std::this_thread::sleep_for(1ms);
  ASSERT_EQ(session.match(chain).blocks_in(TierId::kHost), 0U);
  std::vector<std::byte> pages(kCount * kBytes);
  const EngineTensor tensor{.name = "pages",
                            .base = pages.data(),
                            .storage_bytes = pages.size(),
                            .axes = {{Axis::kPage, kCount, kBytes}, {Axis::kInner, kBytes, 1}},
                            .kind = of.layout.groups.front().runs.front().kind};
  Transfer transfer = Transfer::open(session, std::span(&tensor, 1)).value();
  std::vector<std::uint32_t> order(kCount);
  for (std::size_t i = 0; i < kCount; ++i) order[i] = static_cast<std::uint32_t>(kCount - 1 - i);
  ASSERT_FALSE(transfer.stream(session.load(chain, kCount, 20s), std::vector<std::uint32_t>{kCount}));
  const Copy copy = transfer.stream(session.load(chain, kCount, 20s), order).value();
  ASSERT_TRUE(copy.wait(30s));
  ASSERT_TRUE(copy.status()) << copy.status().error().message;
  EXPECT_EQ(copy.blocks(), kCount);
  EXPECT_EQ(copy.bytes(), kCount * kBytes);
  for (std::size_t i = 0; i < kCount; ++i) {
    std::vector<std::byte> expected(kBytes, static_cast<std::byte>(i * 7 + 1));
    std::memcpy(expected.data(), &i, sizeof(i));
    ASSERT_EQ(std::memcmp(pages.data() + order[i] * kBytes, expected.data(), kBytes), 0) << "block " << i;
  }
  // Of a chain that goes on beyond what is there, what is there comes.
  tokens.push_back(12345);
  const BlockChain longer = hash_blocks(session.space(), tokens);
  const Copy rest = transfer.stream(session.load(longer, kCount + 1, 1s), order).value();
  ASSERT_TRUE(rest.wait(30s));
  EXPECT_EQ(rest.blocks(), kCount);
  transfer.close();
  EXPECT_FALSE(transfer.stream(session.load(chain, kCount, 1s), order));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace tiercel
