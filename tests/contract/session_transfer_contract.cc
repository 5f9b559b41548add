// Transfer on every implementation of Session: an engine's pages in host memory, to blocks and back.
#include "model/copy_geometry.h"
#include "model/testing/paged_engine.h"
#include "tests/contract/session_fixture.h"

#include <tiercel/transfer.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <utility>

namespace tiercel::contract {
namespace {

using testing_support::EngineShape;
using testing_support::layout_of;
using testing_support::PagedEngine;
using testing_support::Place;

constexpr std::uint32_t kPageTokens = 8;
constexpr std::uint32_t kTokens = 16;  // of a block: two pages
constexpr std::size_t kBlocks = 4;

/// Pages in the order of HND; `heads`: [first, end) of four.
EngineShape shape(std::pair<std::uint32_t, std::uint32_t> heads = {0, 4}) {
  return {.order = {Axis::kKv, Axis::kPage, Axis::kHead, Axis::kToken},
          .pages = 16,
          .page_tokens = kPageTokens,
          .first_head = heads.first,
          .end_head = heads.second};
}

class TransferContract : public Contract {
 protected:
  static SessionOptions engine_options(const SessionGroup& group = {}) {
    return {.model = {.name = "paged", .kv_dtype = "f16"},
            .block_tokens = kTokens,
            .layout = layout_of(shape(), kTokens),
            .group = group};
  }
  Session open_engine(const SessionGroup& group = {}) {
    auto session = world_->open(engine_options(group));
    EXPECT_TRUE(session) << session.error().message;
    return std::move(*session);
  }
  static Transfer transfer(const Session& session, PagedEngine& engine) {
    auto transfer = Transfer::open(session, engine.tensors());
    EXPECT_TRUE(transfer) << transfer.error().message;
    return std::move(*transfer);
  }
  static BlockChain chain_of(const Session& session, TokenId seed = 0) {
    std::vector<TokenId> tokens;
    for (std::size_t i = 0; i < kBlocks * kTokens; ++i) tokens.push_back(seed * 100'000 + static_cast<TokenId>(i));
    return hash_blocks(session.space(), tokens);
  }
  static void expect_ends_well(Result<Copy> copy) {
    ASSERT_TRUE(copy) << copy.error().message;
    ASSERT_TRUE(copy->wait(20s));
    EXPECT_TRUE(copy->status()) << copy->status().error().message;
  }
  /// Every value of `at`'s pages, as `pages` name them, is that of `from`'s.
  static void expect_same(PagedEngine& from, std::span<const std::uint32_t> from_pages, PagedEngine& at,
                          std::span<const std::uint32_t> at_pages) {
    for (std::size_t i = 0; i < from_pages.size(); ++i) {
      at.for_each_in_page(at_pages[i], [&](const Place& place) {
        Place source = place;
        source.page = from_pages[i];
        ASSERT_EQ(std::memcmp(at.at(place), from.at(source), at.shape().inner_bytes), 0)
            << "page " << i << " layer " << place.layer << " head " << place.head << " token " << place.token;
      });
    }
  }
  /// Stores kBlocks blocks from `pages` of an engine that is its own scheduler.
  void store_all(Session& session, Transfer& by, const BlockChain& chain, std::span<const std::uint32_t> pages) {
    Reservation room = session.reserve(chain, 0);
    const std::vector<std::size_t> all = {0, 1, 2, 3};
    ASSERT_EQ(room.size(), kBlocks);
    expect_ends_well(by.store(room, all, pages));
    const auto committed = room.commit_all();
    ASSERT_TRUE(committed);
    ASSERT_EQ(committed->blocks, kBlocks);
    room = {};
    world_->settle();
  }
  void load_all(Session& session, Transfer& by, const BlockChain& chain, std::span<const std::uint32_t> pages) {
    Load load = session.load(chain, chain.size(), 10s);
    ASSERT_EQ(load.wait().size(), chain.size());
    expect_ends_well(by.load(load.take(), pages));
  }

  const std::vector<std::uint32_t> pages_{3, 1, 0, 7, 12, 11, 5, 2};
  const std::vector<std::uint32_t> other_pages_{15, 0, 4, 1, 9, 6, 14, 3};
};

TEST_P(TransferContract, pages_come_back_into_an_engine_whose_tensors_lie_otherwise) {
  PagedEngine engine(shape());
  engine.fill(1);
  Session session = open_engine();
  Transfer stores = transfer(session, engine);
  EXPECT_EQ(stores.pages_per_block(), 2U);
  EXPECT_EQ(stores.part_bytes(), session.block_bytes());
  const BlockChain chain = chain_of(session);
  store_all(session, stores, chain, pages_);

  EngineShape turned = shape();
  turned.order = {Axis::kPage, Axis::kLayer, Axis::kKv, Axis::kToken, Axis::kHead};
  PagedEngine other(turned);
  Session second = open_engine();
  Transfer loads = transfer(second, other);
  load_all(second, loads, BlockChain::of_hashes(second.space(), {chain.hashes().begin(), chain.hashes().end()}),
           other_pages_);
  expect_same(engine, pages_, other, other_pages_);
  expect_nothing_held();
}

TEST_P(TransferContract, ranks_store_their_heads_and_one_engine_loads_all) {
  PagedEngine whole(shape());
  whole.fill(2);
  Session scheduler = open_engine({.engine_id = "ranks", .members = 3, .member = 0});
  const BlockChain chain = chain_of(scheduler, 1);
  Reservation room = scheduler.reserve(chain, 0);
  ASSERT_EQ(room.size(), kBlocks);
  EXPECT_EQ(room.commit_all()->blocks, 0U);  // nobody has reported
  const std::vector<std::size_t> all = {0, 1, 2, 3};
  std::vector<Session> members;  // a member that goes aborts what is open
  for (std::uint32_t rank = 0; rank < 2; ++rank) {
    PagedEngine part(shape({2 * rank, 2 * rank + 2}));
    part.fill(2);
    Session& member = members.emplace_back(open_engine({.engine_id = "ranks", .members = 3, .member = 1 + rank}));
    Transfer stores = transfer(member, part);
    EXPECT_EQ(stores.part_bytes(), member.block_bytes() / 2);
    auto parts = member.parts(room.id(), all);
    ASSERT_TRUE(parts) << parts.error().message;
    expect_ends_well(stores.store(std::move(*parts), pages_));
    ASSERT_TRUE(member.report(room.id(), all));
    if (rank == 1) {
      ASSERT_EQ(room.commit_all()->blocks, kBlocks);
    } else {
      EXPECT_EQ(room.commit_all()->blocks, 0U);
    }
  }
  room = {};
  world_->settle();

  PagedEngine other(shape());
  Session second = open_engine();
  Transfer loads = transfer(second, other);
  load_all(second, loads, chain, other_pages_);
  expect_same(whole, pages_, other, other_pages_);
  expect_nothing_held();
}

TEST_P(TransferContract, what_is_submitted_ends_though_every_handle_is_dropped) {
  PagedEngine engine(shape());
  engine.fill(3);
  Session session = open_engine();
  const BlockChain chain = chain_of(session);
  {
    Transfer stores = transfer(session, engine);
    store_all(session, stores, chain, pages_);
  }
  PagedEngine other(shape());
  {
    Transfer loads = transfer(session, other);
    Load load = session.load(chain, chain.size(), 10s);
    ASSERT_EQ(load.wait().size(), chain.size());
    ASSERT_TRUE(loads.load(load.take(), other_pages_));
  }
  expect_same(engine, pages_, other, other_pages_);
  expect_nothing_held();
}

TEST_P(TransferContract, a_copy_of_what_does_not_fit_is_refused_and_holds_nothing) {
  PagedEngine engine(shape());
  engine.fill(4);
  Session session = open_engine();
  Transfer stores = transfer(session, engine);
  const BlockChain chain = chain_of(session);
  store_all(session, stores, chain, pages_);
  const auto refused = [&](std::vector<std::uint32_t> pages, const CopyOrder& order = {}) {
    Load load = session.load(chain, chain.size(), 10s);
    EXPECT_EQ(load.wait().size(), chain.size());
    const auto copy = stores.load(load.take(), pages, order);
    EXPECT_FALSE(copy);
    return copy ? Error{} : copy.error();
  };
  EXPECT_EQ(refused({0, 1, 2}).code, ErrorCode::kInvalidArgument);
  std::vector<std::uint32_t> outside = pages_;
  outside.back() = 16;
  EXPECT_THAT(refused(outside).message, testing::HasSubstr("16"));
  EXPECT_THAT(refused(pages_, {.after_event = &outside}).message, testing::HasSubstr("after_event"));
  EXPECT_THAT(refused(pages_, {.ahead = true}).message, testing::HasSubstr("ahead"));

  EXPECT_THAT(stores.store(std::vector<BlockPart>(), {}, {.ahead = true}).error().message,
              testing::HasSubstr("ahead: is for loads"));

  Reservation room = session.reserve(chain, 0);  // all of it exists
  const std::vector<std::size_t> first = {0};
  EXPECT_THAT(stores.store(room, first, std::vector<std::uint32_t>{0, 1}).error().message,
              testing::HasSubstr("writer 0"));
  room = {};
  stores.close();
  stores.close();
  EXPECT_EQ(refused(pages_).code, ErrorCode::kLimit);
  expect_nothing_held();
}

TEST_P(TransferContract, tensors_and_options_that_do_not_fit_are_named) {
  PagedEngine engine(shape());
  Session session = open_engine();
  auto tensors = engine.tensors();
  tensors.pop_back();
  EXPECT_EQ(Transfer::open(session, tensors).error().code, ErrorCode::kInvalidArgument);
  const auto with = [&](const TransferOptions& options) {
    const auto opened = Transfer::open(session, engine.tensors(), {}, options);
    return opened ? std::string() : opened.error().message;
  };
  EXPECT_THAT(with({.max_copies = 0}), testing::HasSubstr("max_copies is 0"));
  EXPECT_THAT(with({.threads = 0}), testing::HasSubstr("threads is 0"));
  EXPECT_THAT(with({.device = -2}), testing::HasSubstr("device is -2"));
  EXPECT_THAT(with({.device = 0, .library = "/there/is/none.so"}), testing::HasSubstr("no GPU library"));
}

std::string name_of(const testing::TestParamInfo<WorldKind>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Sessions, TransferContract, testing::ValuesIn(world_kinds()), name_of);

}  // namespace
}  // namespace tiercel::contract
