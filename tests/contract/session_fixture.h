// The fixture of the Session contract: a small cache of the implementation at hand, and the verbs that the tests speak.
#pragma once

#include "tests/contract/session_contract.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace tiercel::contract {

using namespace std::chrono_literals;  // NOLINT(google-global-names-in-headers): of the tests' own namespace

inline constexpr std::uint32_t kBlockTokens = 4;
inline constexpr std::uint64_t kBlockBytes = 64_KiB;

inline Config small_config() {
  return {.host = {.capacity = 4_MiB, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = 64_KiB},
          .workers = {.threads = 2}};
}

inline SessionOptions options(std::uint64_t block_bytes = kBlockBytes) {
  return {
      .model = {.name = "test", .kv_dtype = "f16"}, .block_tokens = kBlockTokens, .layout = Layout::blob(block_bytes)};
}

inline std::vector<TokenId> tokens(std::size_t blocks, TokenId seed = 0) {
  std::vector<TokenId> result;
  for (std::size_t i = 0; i < blocks * kBlockTokens; ++i) result.push_back(seed * 100'000 + static_cast<TokenId>(i));
  return result;
}

inline std::byte pattern(std::size_t block, TokenId seed) {
  return static_cast<std::byte>(block * 7 + static_cast<std::size_t>(seed) * 31 + 1);
}

class Contract : public testing::TestWithParam<WorldKind> {
 protected:
  void SetUp() override { start(small_config()); }
  void start(const Config& config) {
    world_ = GetParam().make(config);
    session_.emplace(open());
  }
  Session open(std::uint64_t block_bytes = kBlockBytes) {
    auto session = world_->open(options(block_bytes));
    EXPECT_TRUE(session) << session.error().message;
    return std::move(*session);
  }
  BlockChain chain(std::size_t blocks, TokenId seed = 0, std::string_view tenant = {}) {
    return hash_blocks(session_->space(tenant), tokens(blocks, seed));
  }
  /// Stores blocks [first, chain.size()); answers how many were committed.
  std::size_t store(const BlockChain& chain, TokenId seed = 0, std::size_t first = 0) {
    Reservation room = session_->reserve(chain, first);
    std::size_t committed = 0;
    for (std::size_t i = 0; i < room.size(); ++i) {
      if (room.outcome(i) != Reserved::kYes) continue;
      std::ranges::fill(room.writer(i).bytes(), pattern(first + i, seed));
      const Status status = room.writer(i).commit();
      EXPECT_TRUE(status) << status.error().message;
      committed += status.has_value();
    }
    room = {};
    world_->settle();
    return committed;
  }
  /// Loads and compares; answers how many leading blocks there were.
  std::size_t load(const BlockChain& chain, TokenId seed = 0) {
    Load load = session_->load(chain, chain.size(), 10s);
    const auto blocks = load.wait();
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      EXPECT_TRUE(std::ranges::all_of(blocks[i].bytes(), [&](std::byte b) { return b == pattern(i, seed); })) << i;
    }
    return blocks.size();
  }
  TierStats host() { return world_->stats().tiers[0]; }
  void expect_nothing_held() {
    world_->settle();  // a load may have made the cache look again at what goes down to disk
    const Stats stats = world_->stats();
    EXPECT_EQ(stats.copy_pins, 0U);
    EXPECT_EQ(stats.logical_pins, 0U);
    EXPECT_EQ(stats.tiers[0].quarantined_slots, 0U);
  }

  std::unique_ptr<World> world_;
  std::optional<Session> session_;
};

}  // namespace tiercel::contract
