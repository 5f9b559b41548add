// Goal: after any questions of a client, the lists that the service keeps are the client's; a message that breaks a
// limit or names what is not there is refused and changes nothing.
#include "service/server/chain_table.h"

#include "service/client/chain_book.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace tiercel::service {
namespace {

using Hashes = std::vector<BlockHash>;

/// Block `index` of the sequence `sequence`, which leaves the sequence `of` at `fork`: as chained hashes do, two chains
/// share a hash exactly where they share all before it.
BlockHash hash_at(std::uint32_t sequence, std::uint32_t fork, std::uint32_t index) {
  const std::uint32_t value[] = {index < fork ? 0 : sequence, index < fork ? 0 : fork, index};
  BlockHash hash;
  std::memcpy(hash.bytes.data(), value, sizeof(value));
  return hash;
}

Hashes chain(std::uint32_t sequence, std::uint32_t fork, std::size_t size) {
  Hashes hashes;
  for (std::uint32_t i = 0; i < size; ++i) hashes.push_back(hash_at(sequence, fork, i));
  return hashes;
}

struct Numbers {
  std::uint32_t handle = 0;
  std::uint32_t known = 0;
  std::uint32_t ring_first = 0;
  std::uint32_t ring_count = 0;
};

class Table {
 public:
  explicit Table(const ChainLimits& limits, std::size_t ring_hashes = 0)
      : ring_(ring_hashes), table_(limits, std::as_bytes(std::span(ring_))) {}

  Result<std::span<const BlockHash>> resolve(const Numbers& numbers, std::span<const BlockHash> hashes = {}) {
    builder_.Clear();
    const auto list = hashes.empty() ? 0 : builder_.CreateVectorOfStructs(wire::as_wire(hashes), hashes.size());
    builder_.Finish(
        wire::CreateChain(builder_, 0, numbers.handle, numbers.known, numbers.ring_first, numbers.ring_count, list));
    return table_.resolve(*flatbuffers::GetRoot<wire::Chain>(builder_.GetBufferPointer()));
  }
  Hashes& ring() { return ring_; }

 private:
  flatbuffers::FlatBufferBuilder builder_;
  Hashes ring_;
  ChainTable table_;
};

bool equal(const Result<std::span<const BlockHash>>& is, const Hashes& expected) {
  return is && std::ranges::equal(*is, expected);
}

RC_GTEST_PROP(ChainTable, any_questions_of_a_client_arrive_whole, ()) {
  constexpr std::uint32_t kKept = 64;
  const auto handles = *rc::gen::inRange<std::uint32_t>(1, 6);
  ChainBook book(handles, kKept);
  Table table({.handles = handles, .kept_hashes = kKept, .max_chain = kKept}, kKept);
  const auto questions = *rc::gen::inRange(1, 60);
  for (int q = 0; q < questions; ++q) {
    const auto asked = chain(*rc::gen::inRange<std::uint32_t>(1, 4), *rc::gen::inRange<std::uint32_t>(0, 20),
                             *rc::gen::inRange<std::size_t>(0, kKept + 1));
    const ChainBook::Place place = book.put(asked);
    for (const std::uint32_t handle : place.give_up) RC_ASSERT(table.resolve({.handle = handle}).has_value());
    const auto rest = std::span(asked).subspan(place.known);
    const Numbers numbers{.handle = place.handle, .known = static_cast<std::uint32_t>(place.known)};
    if (*rc::gen::arbitrary<bool>()) {  // in the message, in two pieces
      const std::size_t half = rest.size() / 2;
      RC_ASSERT(table.resolve(numbers, rest.first(half)).has_value());
      const Numbers second{.handle = place.handle, .known = static_cast<std::uint32_t>(place.known + half)};
      RC_ASSERT(equal(table.resolve(second, rest.subspan(half)), asked));
    } else {
      const auto first = *rc::gen::inRange<std::uint32_t>(0, static_cast<std::uint32_t>(kKept - rest.size() + 1));
      std::ranges::copy(rest, table.ring().begin() + first);
      Numbers by_ring = numbers;
      by_ring.ring_first = first;
      by_ring.ring_count = static_cast<std::uint32_t>(rest.size());
      RC_ASSERT(equal(table.resolve(by_ring), asked));
      std::ranges::fill(table.ring(), BlockHash());  // it was copied: what comes after changes nothing
      RC_ASSERT(
          equal(table.resolve({.handle = place.handle, .known = static_cast<std::uint32_t>(asked.size())}), asked));
    }
  }
}

TEST(ChainBook, a_chain_that_grew_sends_what_is_new_and_one_that_forked_sends_all) {
  ChainBook book(4, 100);
  EXPECT_EQ(book.put(chain(1, 0, 10)).known, 0U);
  EXPECT_EQ(book.put(chain(1, 0, 10)).known, 10U);
  EXPECT_EQ(book.put(chain(1, 0, 12)).known, 10U);
  EXPECT_EQ(book.put(chain(2, 0, 12)).known, 0U);
}

class ChainLimitsHold : public testing::Test {
 protected:
  static constexpr std::uint32_t kHuge = 0xFFFFFFFF;
  void SetUp() override { ASSERT_TRUE(table_.resolve({.handle = 1}, chain(1, 0, 6))); }
  void refused(const Numbers& numbers, std::span<const BlockHash> hashes = {}) {
    const auto result = table_.resolve(numbers, hashes);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
    EXPECT_TRUE(equal(table_.resolve({.handle = 1, .known = 6}), chain(1, 0, 6))) << "a refused message changed a list";
  }
  Table table_{{.handles = 3, .kept_hashes = 10, .max_chain = 8}, 16};
};

TEST_F(ChainLimitsHold, a_handle_beyond_the_last) {
  refused({.handle = 3}, chain(2, 0, 1));
  refused({.handle = kHuge});
}
TEST_F(ChainLimitsHold, a_chain_that_is_too_long) {
  refused({.handle = 0}, chain(2, 0, 9));
  refused({.handle = 1, .known = 6}, chain(2, 0, 3));
  refused({.handle = 0, .ring_count = 9});
  refused({.handle = 1, .known = kHuge, .ring_count = kHuge});
}
TEST_F(ChainLimitsHold, more_known_than_there_is) {
  refused({.handle = 1, .known = 7});
  refused({.handle = 0, .known = 1}, chain(2, 0, 1));
  refused({.handle = 1, .known = kHuge});
}
TEST_F(ChainLimitsHold, more_kept_than_allowed_in_all) {
  refused({.handle = 0}, chain(2, 0, 5));
  EXPECT_TRUE(table_.resolve({.handle = 0}, chain(2, 0, 4)));
}
TEST_F(ChainLimitsHold, hashes_beyond_the_ring) {
  refused({.handle = 0, .ring_first = 16, .ring_count = 1});
  refused({.handle = 0, .ring_first = 13, .ring_count = 4});
  refused({.handle = 0, .ring_first = kHuge, .ring_count = 4});
  EXPECT_TRUE(table_.resolve({.handle = 0, .ring_first = 12, .ring_count = 4}));
}
TEST_F(ChainLimitsHold, hashes_in_two_places) { refused({.handle = 0, .ring_count = 1}, chain(2, 0, 1)); }

}  // namespace
}  // namespace tiercel::service
