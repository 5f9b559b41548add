// Goal: whatever several tenants store, load, pin and delete, and however their settings change meanwhile: what they
// hold sums up to what the tier holds, and is what a model of it says; nobody gets above its cap; nobody falls below
// its guarantee by another's doing; pins stay within theirs.
//
// Method: a small cache with RAM and disk, turned by hand, a random walk from a seed. The model knows which blocks were
// stored and not deleted; what a tenant holds in RAM must be among them and be exactly what can be found by match.
#include "cache/testing/tenant_world.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <map>
#include <optional>

namespace tiercel {
namespace {

using namespace std::chrono_literals;
using testing::kTenantSlot;
using testing::TenantWorld;

constexpr std::array<std::string_view, 5> kTenants = {"a", "b", "c", "default", "shared"};
constexpr std::size_t kChains = 5;  // a tenant
constexpr std::size_t kLongest = 12;
constexpr std::array<std::uint64_t, 2> kTierBytes = {64 * kTenantSlot, 96 * kTenantSlot};

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(seed * 2 + 1) {}
  std::uint64_t below(std::uint64_t n) {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return (state_ >> 33U) % n;
  }

 private:
  std::uint64_t state_;
};

using Used = std::map<std::string, std::array<std::uint64_t, 2>, std::less<>>;

class Walk {
 public:
  explicit Walk(std::uint64_t seed)
      : dice_(seed),
        settings_({{"a",
                    {.host_guarantee = TierShare::of_percent(25),
                     .host_cap = TierShare::of_percent(50),
                     .disk_guarantee = TierShare::of_percent(30),
                     .disk_cap = TierShare::of_percent(40)}},
                   {"b", {.host_cap = TierShare::of_percent(30), .pinned_cap = TierShare::of_percent(10)}},
                   {"c",
                    {.host_guarantee = TierShare::of_bytes(20 * kTenantSlot),
                     .disk_cap = TierShare::of_percent(20),
                     .pinned_cap = TierShare::of_percent(20)}}}),
        world_(TenantWorld::config_of(settings_, 96)) {}

  void step() {
    const std::size_t who = dice_.below(kTenants.size());
    const std::string_view tenant = kTenants[who];
    const auto seed = static_cast<TokenId>(1 + who * kChains + dice_.below(kChains));
    const std::size_t blocks = 1 + dice_.below(kLongest);
    world_.advance(std::chrono::milliseconds(dice_.below(3'000)));
    const Used before = used();
    const std::uint64_t dice = dice_.below(100);
    bool deleted = false;
    if (dice < 50) {
      (void)world_.store_of(tenant, blocks, seed);
      std::size_t& most = stored_[{tenant, seed}];
      most = std::max(most, blocks);
    } else if (dice < 70) {
      (void)world_.load_of(tenant, blocks, seed);
    } else if (dice < 80) {
      auto pin = world_.session().pin(world_.chain_of(tenant, blocks, seed), blocks, 5s);
      if (pin) pins_.push_back(std::move(*pin));
      if (pins_.size() > 4) pins_.erase(pins_.begin());
    } else if (dice < 84) {
      const std::size_t first = dice_.below(blocks);
      RC_ASSERT(world_.session().drop(world_.chain_of(tenant, blocks, seed), first).has_value());
      std::size_t& most = stored_[{tenant, seed}];
      most = std::min(most, first);
      deleted = true;
    } else if (dice < 86) {
      RC_ASSERT(world_.session().drop(world_.session().space(tenant)).has_value());
      forget(tenant);
      deleted = true;
    } else if (dice < 88) {
      RC_ASSERT(world_.cache().drop_tenant(tenant).has_value());
      forget(tenant);
      RC_ASSERT(world_.blocks_in(tenant) == 0U);
      deleted = true;
    } else if (dice < 92) {
      change();
      world_.settle();
      return check(before, {}, false);
    } else if (dice < 94) {
      pins_.clear();
      world_.configuration().tenants = settings_;
      world_.restart();
      return check(before, {}, true);
    }
    world_.settle();
    check(before, tenant, deleted);
  }

 private:
  [[nodiscard]] Used used() {
    Used used;
    for (const TenantReport& one : world_.cache().tenants()) {
      used[one.name] = {one.tiers[0].used_bytes, one.tiers[1].used_bytes};
    }
    return used;
  }
  [[nodiscard]] std::uint64_t share(std::string_view tenant, TierShare TenantConfig::* which, std::size_t tier) const {
    const auto found = settings_.find(tenant);
    return ((found == settings_.end() ? TenantConfig{} : found->second).*which).bytes_of(kTierBytes[tier]);
  }
  void forget(std::string_view tenant) {
    for (auto& [key, most] : stored_) {
      if (key.first == tenant) most = 0;
    }
  }
  void change() {
    TenantConfigs changed = settings_;
    const std::string tenant(kTenants[dice_.below(3)]);
    TenantConfig& config = changed[tenant];
    config.host_guarantee = TierShare::of_percent(dice_.below(40));
    config.host_cap = TierShare::of_percent(20 + dice_.below(81));
    config.disk_guarantee = TierShare::of_percent(dice_.below(40));
    config.disk_cap = TierShare::of_percent(20 + dice_.below(81));
    if (world_.cache().set_tenant(tenant, config)) settings_ = changed;
  }

  /// `by`: who may have grown, and at whose cost others may have shrunk. `free`: anything may have gone.
  void check(const Used& before, std::string_view by, bool free) {
    const Stats stats = world_.stats();
    const Used now = used();
    for (std::size_t tier = 0; tier < 2; ++tier) {
      std::uint64_t sum = 0;
      for (const auto& [_, bytes] : now) sum += bytes[tier];
      RC_ASSERT(sum == stats.tiers[tier].used_bytes);
    }
    for (const std::string_view tenant : kTenants) {
      const auto bytes_of = [&](const Used& in, std::size_t tier) {
        const auto found = in.find(tenant);
        return found == in.end() ? 0 : found->second[tier];
      };
      for (std::size_t tier = 0; tier < 2; ++tier) {
        const std::uint64_t had = bytes_of(before, tier);
        const std::uint64_t has = bytes_of(now, tier);
        const std::uint64_t cap = share(tenant, tier == 0 ? &TenantConfig::host_cap : &TenantConfig::disk_cap, tier);
        const std::uint64_t guarantee =
            share(tenant, tier == 0 ? &TenantConfig::host_guarantee : &TenantConfig::disk_guarantee, tier);
        if (has > had) RC_ASSERT(has <= cap);
        const bool of_others = !free && tenant != by && !by.empty();
        if (of_others && has < had) RC_ASSERT(has >= guarantee);
      }
      RC_ASSERT(bytes_of(now, 0) == kTenantSlot * in_ram(tenant));
    }
    for (const TenantReport& one : world_.cache().tenants()) {
      if (one.pinned_bytes > 0) RC_ASSERT(one.pinned_bytes <= one.pinned_cap_bytes);
    }
    world_.core().check_consistency();
  }
  /// Blocks of a tenant that are found in RAM; each of them was stored and not deleted.
  [[nodiscard]] std::uint64_t in_ram(std::string_view tenant) {
    std::uint64_t found = 0;
    for (const auto& [key, most] : stored_) {
      if (key.first != tenant) continue;
      const Match match = world_.session().match(world_.chain_of(tenant, kLongest, key.second));
      RC_ASSERT(match.blocks() <= most);
      found += match.blocks_in(TierId::kHost);
    }
    return found;
  }

  Dice dice_;
  TenantConfigs settings_;
  TenantWorld world_;
  std::map<std::pair<std::string_view, TokenId>, std::size_t> stored_;
  std::vector<Pin> pins_;
};

RC_GTEST_PROP(TenantsProperty, quotas_are_exact, ()) {
  const auto seed = *rc::gen::arbitrary<std::uint64_t>();
  Walk walk(seed);
  for (int i = 0; i < 60; ++i) walk.step();
}

}  // namespace
}  // namespace tiercel
