// Goal: a tenant has what it is promised and no more than it may: at its cap its own blocks go, a guarantee holds
// against everybody else's stores and loads, in RAM and on disk, after a restart too; and what is shown is so to the
// byte.
#include "cache/testing/raw_file.h"
#include "cache/testing/tenant_world.h"
#include "tier/disk/format.h"

#include <gtest/gtest.h>

#include <cstring>

namespace tiercel {
namespace {

using namespace std::chrono_literals;
using testing::TenantWorld;

constexpr TierId kDisk = TierId::kDisk;

TenantConfig host(std::uint64_t guarantee, std::uint64_t cap) {
  return {.host_guarantee = TierShare::of_percent(guarantee), .host_cap = TierShare::of_percent(cap)};
}
TenantConfig disk(std::uint64_t guarantee, std::uint64_t cap) {
  return {.disk_guarantee = TierShare::of_percent(guarantee), .disk_cap = TierShare::of_percent(cap)};
}

TEST(Tenants, at_its_cap_its_own_coldest_goes_and_nobody_elses) {
  TenantWorld world(TenantWorld::config_of({{"small", host(0, 25)}}));  // 16 of 64 blocks
  EXPECT_EQ(world.store_of("big", 20, 1), 20U);
  world.advance(1h);
  EXPECT_EQ(world.store_of("small", 10, 2), 10U);
  world.advance(1h);
  EXPECT_EQ(world.store_of("small", 12, 3), 12U) << "there is room, but not for this tenant";
  EXPECT_EQ(world.blocks_in("small"), 16U);
  EXPECT_EQ(world.match_of("small", 12, 3), 12U);
  EXPECT_EQ(world.match_of("small", 10, 2), 4U) << "its coldest went, leaves first";
  EXPECT_EQ(world.match_of("big", 20, 1), 20U);
  EXPECT_EQ(world.report("small").tiers[0].evicted_blocks, 6U);
  EXPECT_EQ(world.report("big").tiers[0].evicted_blocks, 0U);
  world.expect_sums();
}

TEST(Tenants, at_its_cap_with_all_of_it_pinned_the_answer_is_busy) {
  TenantWorld world(TenantWorld::config_of({{"small", host(0, 25)}}));
  ASSERT_EQ(world.store_of("small", 16, 1), 16U);
  const auto pin = world.session().pin(world.chain_of("small", 16, 1), 16, 1min);
  ASSERT_TRUE(pin);
  const Reservation room = world.session().reserve(world.chain_of("small", 1, 2), 0);
  EXPECT_EQ(room.outcome(0), Reserved::kBusy);
  EXPECT_EQ(world.store_of("other", 10, 3), 10U) << "others have their room";
}

TEST(Tenants, a_cap_of_nothing_refuses_all) {
  TenantWorld world(TenantWorld::config_of({{"none", host(0, 0)}}));
  EXPECT_EQ(world.store_of("none", 2, 1), 0U);
  EXPECT_EQ(world.store_of("default", 2, 1), 2U);
}

TEST(Tenants, nobody_falls_below_its_guarantee_for_anothers_scan) {
  TenantWorld world(TenantWorld::config_of({{"kept", host(25, 100)}}));
  ASSERT_EQ(world.store_of("kept", 20, 1), 20U);
  world.advance(24h);  // as cold as can be
  for (TokenId chain = 10; chain < 40; ++chain) (void)world.store_of("scan", 8, chain);
  EXPECT_EQ(world.blocks_in("kept"), 16U) << "what is above the guarantee goes, what is within stays";
  EXPECT_EQ(world.match_of("kept", 20, 1), 16U);
  EXPECT_EQ(world.blocks_in("scan"), 48U);
  world.expect_sums();
}

TEST(Tenants, one_within_its_guarantee_takes_its_room_from_the_others) {
  TenantWorld world(TenantWorld::config_of({{"late", host(50, 50)}}));
  for (TokenId chain = 10; chain < 18; ++chain) (void)world.store_of("early", 8, chain);
  ASSERT_EQ(world.blocks_in("early"), 64U);
  EXPECT_EQ(world.store_of("late", 32, 1), 32U);
  EXPECT_EQ(world.blocks_in("late"), 32U);
  EXPECT_EQ(world.blocks_in("early"), 32U);
}

TEST(Tenants, a_scan_pushes_out_itself_while_others_use_theirs) {
  TenantWorld world(TenantWorld::config_of({}));
  ASSERT_EQ(world.store_of("chat", 32, 1), 32U);
  ASSERT_EQ(world.store_of("scan", 32, 2), 32U);
  for (TokenId chain = 10; chain < 30; ++chain) {
    world.advance(10s);
    EXPECT_EQ(world.load_of("chat", 32, 1), 32U) << "used all the time";
    (void)world.store_of("scan", 8, chain);
  }
  EXPECT_EQ(world.blocks_in("chat"), 32U);
  // And what nobody uses any more goes, whosever it is.
  world.advance(1h);
  for (TokenId chain = 50; chain < 54; ++chain) EXPECT_EQ(world.store_of("new", 8, chain), 8U);
  EXPECT_EQ(world.blocks_in("new"), 32U);
}

TEST(Tenants, the_same_on_disk) {
  TenantWorld world(TenantWorld::config_of({{"kept", disk(25, 100)}, {"small", disk(0, 25)}}, 64));
  ASSERT_EQ(world.store_of("kept", 20, 1), 20U);
  world.settle();
  ASSERT_EQ(world.blocks_in("kept", kDisk), 20U);
  world.advance(24h);
  for (TokenId chain = 10; chain < 20; ++chain) {
    (void)world.store_of("small", 4, chain);
    world.settle();
    EXPECT_LE(world.blocks_in("small", kDisk), 16U);
  }
  EXPECT_EQ(world.blocks_in("small", kDisk), 16U);
  EXPECT_EQ(world.blocks_in("kept", kDisk), 20U) << "a tenant at its cap takes nothing from others";
  for (TokenId chain = 30; chain < 60; ++chain) {
    (void)world.store_of("scan", 4, chain);
    world.settle();
  }
  EXPECT_EQ(world.blocks_in("kept", kDisk), 16U);
  world.expect_sums();
}

TEST(Tenants, guarantees_count_over_all_directories) {
  Config config = TenantWorld::config_of({{"kept", disk(25, 100)}}, 64);
  config.disk.directories = {"/a", "/b"};
  TenantWorld world(config);
  for (TokenId chain = 1; chain < 6; ++chain) (void)world.store_of("kept", 4, chain);
  world.settle();
  ASSERT_EQ(world.blocks_in("kept", kDisk), 20U);
  world.advance(24h);
  for (TokenId chain = 30; chain < 80; ++chain) {
    (void)world.store_of("scan", 4, chain);
    world.settle();
  }
  EXPECT_EQ(world.blocks_in("kept", kDisk), 16U);
  EXPECT_EQ(world.disk().used_bytes, 64 * testing::kTenantSlot) << "what is guaranteed in one does not close the other";
}

TEST(Tenants, settings_change_while_it_runs) {
  TenantWorld world(TenantWorld::config_of({}, 64));
  ASSERT_EQ(world.store_of("search", 40, 1), 40U);
  world.settle();
  ASSERT_EQ(world.blocks_in("search", kDisk), 40U);
  ASSERT_TRUE(world.cache().set_tenant(
      "search", {.host_cap = TierShare::of_bytes(10 * testing::kTenantSlot), .disk_cap = TierShare::of_percent(50)}));
  world.settle();
  EXPECT_EQ(world.blocks_in("search"), 10U);
  EXPECT_EQ(world.blocks_in("search", kDisk), 32U);
  EXPECT_EQ(world.load_of("search", 40, 1), 10U) << "a load keeps to the cap too: what it holds cannot go for more";
  EXPECT_EQ(world.outcome, LoadOutcome::kBusy);
  const TenantReport report = world.report("search");
  EXPECT_TRUE(report.configured);
  EXPECT_EQ(report.tiers[0].cap_bytes, 10 * testing::kTenantSlot);
  EXPECT_EQ(report.tiers[1].cap_bytes, 32 * testing::kTenantSlot);
  world.expect_sums();
  EXPECT_EQ(world.cache().set_tenant("search", host(60, 50)).error().message,
            "tenants.search.host_cap: 50% is below host_guarantee, 60%; raise the cap or lower the guarantee");
  ASSERT_TRUE(world.cache().set_tenant("a", host(70, 100)));
  EXPECT_EQ(world.cache().set_tenant("b", host(31, 100)).error().message,
            "tenants.b.host_guarantee: with 31% the guarantees of all tenants are 101% of the host tier; lower one of "
            "them");
  ASSERT_TRUE(world.cache().set_tenant("a", host(0, 100)));
  EXPECT_TRUE(world.cache().set_tenant("b", host(31, 100)));
}

TEST(Tenants, what_is_pinned_outlives_a_lower_cap_until_it_is_not) {
  TenantWorld world(TenantWorld::config_of({}));
  ASSERT_EQ(world.store_of("search", 20, 1), 20U);
  auto pin = world.session().pin(world.chain_of("search", 8, 1), 8, 1min);
  ASSERT_TRUE(pin);
  ASSERT_TRUE(world.cache().set_tenant("search", host(0, 0)));
  world.settle();
  EXPECT_EQ(world.blocks_in("search"), 8U);
  *pin = {};
  ASSERT_TRUE(world.cache().set_tenant("search", host(0, 0)));
  world.settle();
  EXPECT_EQ(world.blocks_in("search"), 0U);
}

TEST(Tenants, pins_have_a_limit_of_their_own) {
  TenantWorld world(TenantWorld::config_of({{"search", {.pinned_cap = TierShare::of_percent(25)}}}));
  ASSERT_EQ(world.store_of("search", 20, 1), 20U);
  ASSERT_EQ(world.store_of("other", 20, 2), 20U);
  const auto refused = world.session().pin(world.chain_of("search", 20, 1), 20, 1min);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kLimit);
  EXPECT_EQ(refused.error().message,
            "tenants.search.pinned_cap: tenant \"search\" has 1MiB pinned, of at most 1MiB; these 20 blocks would "
            "exceed it");
  EXPECT_EQ(world.report("search").pinned_bytes, 0U) << "all or nothing";
  const auto pin = world.session().pin(world.chain_of("search", 16, 1), 16, 1min);
  EXPECT_TRUE(pin);
  EXPECT_EQ(world.report("search").pinned_bytes, 1_MiB);
  EXPECT_TRUE(world.session().pin(world.chain_of("other", 20, 2), 20, 1min)) << "of others another number counts";
}

TEST(Tenants, a_restart_charges_what_it_finds_to_whom_it_belongs) {
  Config config = TenantWorld::config_of({{"named", disk(0, 100)}}, 64);
  TenantWorld world(config);
  ASSERT_EQ(world.store_of("named", 10, 1), 10U);
  ASSERT_EQ(world.store_of("unnamed", 12, 2), 12U);
  world.restart();
  EXPECT_EQ(world.blocks_in("named", kDisk), 10U) << "no session has opened it";
  EXPECT_EQ(world.blocks_in("(unnamed)", kDisk), 12U) << "an account of its own, whose name nobody has said yet";
  EXPECT_EQ(world.load_of("unnamed", 12, 2), 12U);
  world.settle();
  EXPECT_EQ(world.blocks_in("(unnamed)", kDisk), 0U);
  EXPECT_EQ(world.blocks_in("unnamed", kDisk), 12U);
  EXPECT_EQ(world.report("unnamed").tiers[1].hit_blocks, 12U);
  world.expect_sums();
  // A cap that is lower than before counts from the start on.
  world.stop();
  world.configuration().tenants["named"] = disk(0, 10);
  world.start();
  world.settle();
  EXPECT_EQ(world.blocks_in("named", kDisk), 6U);
}

/// Makes the file one of format version 1: without tenants.
void forget_tenants(TenantWorld& world) {
  testing::RawFile file(world.memory());
  for (const std::uint64_t offset : {std::uint64_t{0}, testing::kRawPage}) {
    auto page = file.read(offset);
    const std::uint32_t version = 1;
    std::memcpy(&page[8], &version, sizeof version);
    const std::uint32_t crc = disk::crc32c(std::span(page).first(page.size() - 4));
    std::memcpy(&page[page.size() - 4], &crc, sizeof crc);
    file.write(offset, page);
  }
  for (const std::string_view tenant : {"one", "two"}) {
    const BlockHash fingerprint = world.session().space(tenant).fingerprint();
    for (std::uint64_t offset = testing::kRawData; offset + testing::kRawPage <= file.size();
         offset += testing::kRawPage) {
      auto page = file.read(offset);
      for (std::size_t at = 0; at < testing::kRawPage; at += disk::kNamespaceBytes) {
        if (std::memcmp(&page[at + 8], fingerprint.bytes.data(), fingerprint.bytes.size()) != 0) continue;
        std::memset(&page[at + 40], 0, 16);
        const std::uint32_t crc = disk::crc32c(std::span(page).subspan(at, disk::kNamespaceBytes - 4));
        std::memcpy(&page[at + disk::kNamespaceBytes - 4], &crc, sizeof crc);
        file.write(offset, page);
      }
    }
  }
}

TEST(Tenants, a_file_that_knew_no_tenants_learns_them_from_sessions) {
  TenantWorld world(TenantWorld::config_of({}, 64));
  ASSERT_EQ(world.store_of("one", 10, 1), 10U);
  ASSERT_EQ(world.store_of("two", 12, 2), 12U);
  world.settle();
  forget_tenants(world);
  world.crash();  // a close would write what is in memory
  world.start();
  world.settle();
  EXPECT_EQ(world.blocks_in("(unnamed)", kDisk), 22U);
  EXPECT_EQ(world.cache().drop_tenant("two")->unnamed_namespaces, 2U) << "it may be one of these: that is said";
  EXPECT_EQ(world.load_of("one", 10, 1), 10U);
  world.settle();
  EXPECT_EQ(world.blocks_in("one", kDisk), 10U);
  EXPECT_EQ(world.blocks_in("(unnamed)", kDisk), 12U);
  world.expect_sums();
  // The next block of the namespace writes its tenant into the file.
  ASSERT_EQ(world.store(world.chain_of("one", 12, 1), 1, 10), 2U);
  world.restart();
  EXPECT_EQ(world.load_of("default", 1, 7), 0U);
  EXPECT_EQ(world.cache().drop_tenant("one")->blocks, 12U) << "though no session has named it in this run";
  EXPECT_EQ(world.blocks_in("(unnamed)", kDisk), 12U);
}

TEST(Tenants, more_than_have_accounts_share_one_and_those_that_hold_nothing_give_theirs_up) {
  Config config = TenantWorld::config_of({{"named", host(10, 100)}});
  config.limits.tenants = 1;
  {
    TenantWorld world(config);
    EXPECT_EQ(world.store_of("a", 2, 1), 2U);
    EXPECT_EQ(world.blocks_in("(other)"), 2U);
  }
  config.limits.tenants = 3;
  TenantWorld world(config);
  EXPECT_EQ(world.store_of("a", 2, 1), 2U);
  EXPECT_EQ(world.store_of("b", 3, 1), 3U);
  EXPECT_EQ(world.store_of("c", 4, 1), 4U) << "nobody is refused";
  EXPECT_EQ(world.store_of("d", 5, 1), 5U);
  EXPECT_EQ(world.blocks_in("(other)"), 9U);
  EXPECT_EQ(world.blocks_in("c"), 0U);
  ASSERT_TRUE(world.cache().drop_tenant("a"));
  EXPECT_EQ(world.store_of("e", 6, 1), 6U);
  EXPECT_EQ(world.blocks_in("e"), 6U) << "a's account is free again";
  EXPECT_EQ(world.cache().drop_tenant("c")->blocks, 4U) << "of those in one account only the one that is meant";
  EXPECT_EQ(world.blocks_in("(other)"), 5U);
  EXPECT_EQ(world.store_of("\xFF", 1, 1), 1U) << "a name that no report could show";
  EXPECT_EQ(world.blocks_in("(other)"), 6U);
  EXPECT_EQ(world.cache().set_tenant("f", {}).error().message,
            "limits.tenants: 3 tenants have an account, which is the limit; tenants.f has none");
  world.expect_sums();
}

TEST(Tenants, names_of_another_namespace_open_nothing) {
  TenantWorld world(TenantWorld::config_of({}));
  const BlockChain theirs = world.chain_of("theirs", 4, 1);
  ASSERT_EQ(world.store(theirs, 1), 4U);
  const Space mine = world.session().space("mine");
  auto session = world.core().open_session(
      {.model = {.name = "test", .kv_dtype = "f16"}, .block_tokens = 4, .layout = Layout::blob(testing::kTenantSlot)});
  ASSERT_TRUE(session);
  const detail::ChainRef forged(mine, theirs.hashes());
  const auto load = (*session)->load({.chain = forged, .blocks = 4, .deadline = 1s});
  EXPECT_EQ(load->wait().size(), 0U);
  EXPECT_EQ(load->outcome(), LoadOutcome::kMiss);
  const BlockChain longer = world.chain_of("theirs", 5, 1);
  const auto room = (*session)->reserve({mine, longer.hashes()}, 4, 1);
  EXPECT_EQ(room->outcome(0), Reserved::kNoParent);
  room->finish();
  const auto present = (*session)->reserve({mine, theirs.hashes()}, 0, 4);
  EXPECT_EQ(present->outcome(0), Reserved::kNoParent) << "not even whether it is there";
  present->finish();
  const auto pin = (*session)->pin(forged, 4, 1s);
  ASSERT_TRUE(pin);
  EXPECT_EQ((*pin)->blocks(), 0U);
  EXPECT_EQ((*session)->drop(forged, 0)->blocks, 0U);
  EXPECT_EQ(world.load_of("theirs", 4, 1), 4U);
}

TEST(Tenants, shared_is_a_tenant_that_is_asked_for_by_name) {
  TenantWorld world(TenantWorld::config_of({}));
  ASSERT_EQ(world.store_of("shared", 5, 1), 5U);
  auto other = world.cache().open_session(
      {.model = {.name = "test", .kv_dtype = "f16"}, .block_tokens = 4, .layout = Layout::blob(testing::kTenantSlot)});
  ASSERT_TRUE(other);
  EXPECT_EQ(other->match(world.chain_of("shared", 5, 1)).blocks(), 5U);
  EXPECT_EQ(other->match(world.chain_of("default", 5, 1)).blocks(), 0U);
  EXPECT_EQ(world.blocks_in("shared"), 5U) << "charged to it alone";
}

}  // namespace
}  // namespace tiercel
