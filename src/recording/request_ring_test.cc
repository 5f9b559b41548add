// Goal: what is pushed comes out as it was, over the ring's edge too and from several threads; what finds no room is
// refused and nothing of it is seen; the writer is called exactly when nobody is at work.
#include "recording/request_ring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

namespace tiercel {
namespace {

using ::testing::ElementsAre;
using Pushed = RequestRing::Pushed;

BlockHash hash_of(std::uint64_t id) {
  BlockHash hash;
  std::memcpy(hash.bytes.data(), &id, sizeof(id));
  hash.bytes.back() = std::byte{0xEE};  // no part of the name
  return hash;
}

std::vector<BlockHash> chain_of(std::uint64_t first, std::size_t count) {
  std::vector<BlockHash> chain;
  for (std::size_t i = 0; i < count; ++i) chain.push_back(hash_of(first + i));
  return chain;
}

TEST(RequestRing, gives_back_what_was_pushed_over_its_edge_too) {
  RequestRing ring(16);
  RequestRing::Taken taken;
  for (std::uint64_t round = 0; round < 20; ++round) {
    ASSERT_EQ(ring.push({.kind = RequestRing::Kind::kLoad,
                         .session = static_cast<std::uint32_t>(round),
                         .now_ns = 7 * round,
                         .space = ~round},
                        chain_of(round, 3)),
              round == 0 ? Pushed::kUnheeded : Pushed::kTaken);
    ASSERT_TRUE(ring.pop(taken));
    EXPECT_EQ(taken.entry.kind, RequestRing::Kind::kLoad);
    EXPECT_EQ(taken.entry.session, round);
    EXPECT_EQ(taken.entry.now_ns, 7 * round);
    EXPECT_EQ(taken.entry.space, ~round);
    EXPECT_THAT(taken.chain, ElementsAre(round, round + 1, round + 2));
    EXPECT_FALSE(ring.pop(taken));
  }
}

TEST(RequestRing, carries_texts) {
  RequestRing ring(32);
  RequestRing::Taken taken;
  for (const std::string text : {"", "a", "exactly8", "nine char"}) {
    ASSERT_NE(ring.push({.kind = RequestRing::Kind::kSpace, .block_tokens = 64}, std::string_view(text)),
              Pushed::kRefused);
    ASSERT_TRUE(ring.pop(taken));
    EXPECT_EQ(taken.text, text);
    EXPECT_EQ(taken.entry.block_tokens, 64U);
    EXPECT_TRUE(taken.chain.empty());
  }
}

TEST(RequestRing, refuses_what_finds_no_room_and_keeps_the_rest) {
  RequestRing ring(16);
  EXPECT_EQ(ring.push({}, chain_of(0, 13)), Pushed::kRefused) << "longer than the ring";
  EXPECT_EQ(ring.push({}, chain_of(1, 2)), Pushed::kUnheeded);
  EXPECT_EQ(ring.push({}, chain_of(2, 2)), Pushed::kHalfFull);
  EXPECT_TRUE(ring.half_full());
  EXPECT_EQ(ring.push({}, chain_of(3, 1)), Pushed::kRefused);
  RequestRing::Taken taken;
  ASSERT_TRUE(ring.pop(taken));
  EXPECT_THAT(taken.chain, ElementsAre(1, 2));
  EXPECT_EQ(ring.push({}, chain_of(3, 1)), Pushed::kHalfFull);
  ASSERT_TRUE(ring.pop(taken));
  EXPECT_THAT(taken.chain, ElementsAre(2, 3));
  ASSERT_TRUE(ring.pop(taken));
  EXPECT_THAT(taken.chain, ElementsAre(3));
}

TEST(RequestRing, calls_the_writer_once_until_it_leaves) {
  RequestRing ring(64);
  RequestRing::Taken taken;
  EXPECT_EQ(ring.push({}, chain_of(0, 1)), Pushed::kUnheeded);
  EXPECT_EQ(ring.push({}, chain_of(0, 1)), Pushed::kTaken);
  EXPECT_FALSE(ring.leave()) << "there is something to write";
  while (ring.pop(taken)) continue;
  EXPECT_TRUE(ring.leave());
  EXPECT_FALSE(ring.heeded());
  EXPECT_EQ(ring.push({}, chain_of(0, 1)), Pushed::kUnheeded);
  ring.unheeded();
  EXPECT_EQ(ring.push({}, chain_of(0, 1)), Pushed::kUnheeded);
}

TEST(RequestRing, several_threads_push_whole_entries) {
  constexpr std::uint64_t kEach = 3'000;
  RequestRing ring(1024);
  std::vector<std::thread> callers;
  for (std::uint32_t who = 0; who < 3; ++who) {
    callers.emplace_back([&ring, who] {
      for (std::uint64_t i = 0; i < kEach;) {
        if (ring.push({.session = who, .now_ns = i}, chain_of(i, i % 9 + 1)) != Pushed::kRefused) {
          ++i;
        } else {
          std::this_thread::yield();
        }
      }
    });
  }
  std::array<std::uint64_t, 3> next{};
  RequestRing::Taken taken;
  while (next != std::array<std::uint64_t, 3>{kEach, kEach, kEach}) {
    if (!ring.pop(taken)) {
      std::this_thread::yield();
      continue;
    }
    const std::uint64_t i = next.at(taken.entry.session)++;
    ASSERT_EQ(taken.entry.now_ns, i);
    ASSERT_EQ(taken.chain.size(), i % 9 + 1);
    ASSERT_EQ(taken.chain.back(), i + i % 9);
  }
  for (std::thread& caller : callers) caller.join();
}

}  // namespace
}  // namespace tiercel
