// TenantTable: the tenants that the cache knows: their numbers and names, what each is promised and allowed in bytes,
// and what it did. Bookkeeping alone: bytes in use are counted where the slots are (memory/slot_table.h).
//
// Owned by the host store and called under the core's lock. Numbers are bounded: tenants with settings have theirs
// from the start, others get one when their first namespace comes, and lose it again, to another tenant, when they hold
// nothing. Where none is left, or a name is not fit for reports, they share kOtherTenants, which is a tenant like one
// without settings. A tenant that only the disk file names (by its id) has a number and, until a session names it, no
// name. Allocates for a new tenant alone. Cost: about 300 bytes a number.
#pragma once

#include "base/function_ref.h"
#include "base/tenant_number.h"
#include "model/tenant_id.h"

#include <tiercel/config.h>
#include <tiercel/session.h>
#include <tiercel/stats.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel {

/// Tiers whose slots are charged: host and disk.
inline constexpr std::size_t kChargedTiers = 2;

class TenantTable {
 public:
  struct Options {
    std::uint32_t most = 256;  ///< with a number of their own
    std::array<std::uint64_t, kChargedTiers> tier_bytes{};
    TenantConfigs tenants{};
  };
  explicit TenantTable(const Options& options);

  /// Numbers lie below this, in all / that are or were in use.
  [[nodiscard]] std::uint32_t numbers() const noexcept { return static_cast<std::uint32_t>(records_.size()); }
  [[nodiscard]] std::uint32_t used_numbers() const noexcept { return used_; }

  [[nodiscard]] std::optional<TenantNumber> find(const TenantId& id) const;
  struct Tenant {
    TenantId id;
    std::string_view name;  ///< empty: known by its id alone
  };
  /// The number of a tenant, given to it if it has none. `holds_nothing` is asked which numbers are free again.
  [[nodiscard]] TenantNumber admit(const Tenant& tenant, FunctionRef<bool(TenantNumber)> holds_nothing);

  // Namespaces of a tenant keep its number.
  void add_namespace(TenantNumber tenant) noexcept { ++records_[tenant].namespaces; }
  void remove_namespace(TenantNumber tenant) noexcept { --records_[tenant].namespaces; }

  // What it is promised and allowed.
  [[nodiscard]] std::uint64_t guarantee(TierId tier, TenantNumber tenant) const noexcept {
    return limits(tier, tenant).guarantee;
  }
  [[nodiscard]] std::uint64_t cap(TierId tier, TenantNumber tenant) const noexcept { return limits(tier, tenant).cap; }
  [[nodiscard]] std::uint64_t pinned_cap(TenantNumber tenant) const noexcept { return records_[tenant].pinned_cap; }
  [[nodiscard]] const std::string& name(TenantNumber tenant) const noexcept { return records_[tenant].name; }
  [[nodiscard]] const std::array<std::uint64_t, kChargedTiers>& tier_bytes() const noexcept { return tier_bytes_; }
  /// Checked by the caller (config/tenants.h). Answers its number; empty: there is none left for it.
  [[nodiscard]] std::optional<TenantNumber> set(const std::string& name, const TenantConfig& config,
                                                FunctionRef<bool(TenantNumber)> holds_nothing);

  // What it did.
  struct TierCounters {
    std::uint64_t stored_blocks = 0;
    std::uint64_t stored_bytes = 0;
    std::uint64_t evicted_blocks = 0;
    std::uint64_t evicted_bytes = 0;
  };
  void count_stored(TierId tier, TenantNumber tenant, std::uint64_t bytes) noexcept {
    TierCounters& counters = records_[tenant].counters[static_cast<std::size_t>(tier)];
    ++counters.stored_blocks;
    counters.stored_bytes += bytes;
  }
  void count_evicted(TierId tier, TenantNumber tenant, std::uint64_t bytes) noexcept {
    TierCounters& counters = records_[tenant].counters[static_cast<std::size_t>(tier)];
    ++counters.evicted_blocks;
    counters.evicted_bytes += bytes;
  }
  [[nodiscard]] std::uint64_t& pinned_bytes(TenantNumber tenant) noexcept { return records_[tenant].pinned_bytes; }
  [[nodiscard]] std::uint64_t pinned_bytes(TenantNumber tenant) const noexcept { return records_[tenant].pinned_bytes; }
  /// Blocks that a load gave out. Without the lock, by whoever holds one of them.
  void count_hits(TierId tier, TenantNumber tenant, std::uint64_t blocks, std::uint64_t bytes) noexcept {
    Hits& hits = hits_[tenant];
    hits.blocks[static_cast<std::size_t>(tier)].fetch_add(blocks, std::memory_order_relaxed);
    hits.bytes[static_cast<std::size_t>(tier)].fetch_add(bytes, std::memory_order_relaxed);
  }

  /// Everything but the bytes in use. False: nobody has the number. Allocates for the name, which a caller under the
  /// lock avoids by a report whose name has room.
  [[nodiscard]] bool report(TenantNumber tenant, TenantReport& to) const;

 private:
  struct Limits {
    std::uint64_t guarantee = 0;
    std::uint64_t cap = UINT64_MAX;
  };
  struct Record {
    std::string name;
    TenantId id;
    bool in_use = false;
    bool configured = false;
    std::uint32_t namespaces = 0;
    std::uint64_t pinned_cap = UINT64_MAX;
    std::uint64_t pinned_bytes = 0;
    std::array<TierCounters, kChargedTiers> counters{};
  };
  struct Hits {  // relaxed: figures
    std::array<std::atomic<std::uint64_t>, kChargedTiers> blocks{};
    std::array<std::atomic<std::uint64_t>, kChargedTiers> bytes{};
  };
  [[nodiscard]] const Limits& limits(TierId tier, TenantNumber tenant) const noexcept {
    return limits_[static_cast<std::size_t>(tier)][tenant];
  }
  [[nodiscard]] std::optional<TenantNumber> free_number(FunctionRef<bool(TenantNumber)> holds_nothing) const;
  void give(TenantNumber number, const Tenant& tenant);
  void apply(TenantNumber number, const TenantConfig& config) noexcept;

  std::array<std::uint64_t, kChargedTiers> tier_bytes_;
  std::vector<Record> records_;
  std::array<std::vector<Limits>, kChargedTiers> limits_;  // side by side: the choice of a victim reads many
  std::unique_ptr<Hits[]> hits_;
  std::map<TenantId, TenantNumber> numbers_;
  std::uint32_t used_ = kFirstTenant;
};

}  // namespace tiercel
