#include "cache/victim_choice.h"

#include "cache/tenant_lists.h"

namespace tiercel {
namespace {

std::optional<Victim> coldest_of(const VictimQuestion& question, TenantNumber tenant) {
  const PolicyList list = question.lists[tenant];
  if (list == TenantLists::kNone || question.exhausted.test(tenant)) return std::nullopt;
  const auto block = question.policy.coldest(list);
  if (!block) return std::nullopt;
  return Victim{.tenant = tenant, .value = question.policy.value(*block, question.now_ns)};
}

}  // namespace

std::optional<Victim> choose_victim(const VictimQuestion& question, std::uint32_t& turn) {
  const auto own = coldest_of(question, question.tenant);
  std::optional<Victim> other;
  std::uint32_t looked = 0;
  if (turn >= question.tenants) turn = 0;
  for (std::uint32_t i = 0; i < question.tenants && !(looked >= kMostLooked && other); ++i) {
    const auto tenant = static_cast<TenantNumber>((turn + i) % question.tenants);
    if (tenant == question.tenant || question.lists[tenant] == TenantLists::kNone) continue;
    if (!question.may_lose(tenant)) continue;
    ++looked;
    const auto victim = coldest_of(question, tenant);
    if (victim && (!other || victim->value < other->value)) other = victim;
  }
  if (looked >= kMostLooked) turn += kMostLooked;
  if (!own || !other) return own ? own : other;
  if (question.within_guarantee) return other;
  return 2 * other->value < own->value ? other : own;
}

}  // namespace tiercel
