// TenantWorld: a DiskWorld whose blocks belong to several tenants; for tests of quotas and of deletes by tenant.
#pragma once

#include "cache/testing/disk_world.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::testing {

inline constexpr std::uint64_t kTenantSlot = kDiskBlockBytes;

class TenantWorld : public DiskWorld {
 public:
  explicit TenantWorld(const Config& config) : DiskWorld(config) {}

  /// 64 blocks of RAM and, with `disk`, as many on disk as it says.
  static Config config_of(const TenantConfigs& tenants, std::uint64_t disk_blocks = 0) {
    Config config = DiskWorld::config(4_MiB, disk_blocks * kTenantSlot);
    if (disk_blocks == 0) config.disk = {};
    config.limits.load_percent = 0;
    config.tenants = tenants;
    return config;
  }

  BlockChain chain_of(std::string_view tenant, std::size_t blocks, TokenId seed) {
    std::vector<TokenId> tokens;
    for (std::size_t i = 0; i < blocks * 4; ++i) tokens.push_back(seed * 100'000 + static_cast<TokenId>(i));
    return hash_blocks(session().space(tenant), tokens);
  }
  /// As many blocks of one conversation were committed.
  std::size_t store_of(std::string_view tenant, std::size_t blocks, TokenId seed) {
    const std::size_t done = store(chain_of(tenant, blocks, seed), seed);
    run_tasks();
    return done;
  }
  std::size_t load_of(std::string_view tenant, std::size_t blocks, TokenId seed) {
    const std::size_t done = load(chain_of(tenant, blocks, seed), seed);
    run_tasks();
    return done;
  }
  std::size_t match_of(std::string_view tenant, std::size_t blocks, TokenId seed) {
    return session().match(chain_of(tenant, blocks, seed)).blocks();
  }
  TenantReport report(std::string_view tenant) {
    for (TenantReport& one : cache().tenants()) {
      if (one.name == tenant) return std::move(one);
    }
    return {};
  }
  std::uint64_t blocks_in(std::string_view tenant, TierId tier = TierId::kHost) {
    return report(tenant).tiers[static_cast<std::size_t>(tier)].used_bytes / kTenantSlot;
  }
  /// What all tenants together hold is what the tier holds.
  void expect_sums() {
    const Stats now = stats();
    for (std::size_t tier = 0; tier < 2; ++tier) {
      std::uint64_t sum = 0;
      for (const TenantReport& one : cache().tenants()) sum += one.tiers[tier].used_bytes;
      EXPECT_EQ(sum, now.tiers[tier].used_bytes) << "tier " << tier;
    }
  }
};

}  // namespace tiercel::testing
