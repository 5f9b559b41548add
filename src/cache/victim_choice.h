// Whose block goes when a tier is full: the rule by which tenants share a tier, for host and disk alike. Pure, but for
// the turn of a search over many tenants.
//
// A tenant gives up blocks to others only as far as its guarantee is left untouched. One that needs room and is above
// its own guarantee gives up its own coldest block, unless another's has lain unused more than twice as long (the same
// factor that keeps two slot sizes from trading extents): a scan pushes out itself and not its neighbours, and what
// nobody uses any more goes, whosever it is. One that is within its guarantee takes from the others first.
// Cost: a look at the coldest block of at most kMostLooked tenants, about 5 ns each where they are cached, 150 ns where
// not; with more tenants than that the coldest of as many, others the next time.
#pragma once

#include "base/function_ref.h"
#include "base/tenant_number.h"
#include "policy/eviction.h"

#include <bitset>
#include <cstdint>
#include <optional>
#include <span>

namespace tiercel {

using TenantSet = std::bitset<kMostTenants>;

struct VictimQuestion {
  const EvictionPolicy& policy;
  std::span<const PolicyList> lists;         ///< of one slot size, by tenant
  TenantNumber tenant;                       ///< that needs room
  bool within_guarantee;                     ///< it has a right to the room
  std::uint32_t tenants;                     ///< numbers that are in use lie below it
  FunctionRef<bool(TenantNumber)> may_lose;  ///< may another tenant lose a slot of this size?
  const TenantSet& exhausted;                ///< whose blocks were all asked about in vain
  std::uint64_t now_ns;
};
struct Victim {
  TenantNumber tenant = kNoTenant;
  double value = 0;  ///< of its coldest block, as the policy sees it
};

inline constexpr std::uint32_t kMostLooked = 64;

/// Whose coldest block is to go; empty: nobody's may. `turn`: where the search among many goes on the next time.
[[nodiscard]] std::optional<Victim> choose_victim(const VictimQuestion& question, std::uint32_t& turn);

}  // namespace tiercel
