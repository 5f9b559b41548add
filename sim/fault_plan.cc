#include "sim/fault_plan.h"

#include <fmt/format.h>

#include <array>

namespace tiercel::sim {
namespace {

constexpr std::uint64_t kMillisecondNs = 1'000'000;
constexpr std::uint64_t kOutageLengths = 15;  // from a millisecond to 16 s, each twice the one before

struct Kind {
  Fault fault;
  std::string_view name;
  bool reads;
  bool writes;
  bool syncs;
};
constexpr std::array<Kind, kFaults> kKinds{{
    {Fault::kNone, "none", false, false, false},
    {Fault::kError, "error", true, true, true},
    {Fault::kDelay, "delay", true, true, true},
    {Fault::kStall, "stall", true, true, true},
    {Fault::kAgain, "again", true, true, true},
    {Fault::kShort, "short", true, true, false},
    {Fault::kTorn, "torn", false, true, false},
    {Fault::kFlipRead, "flip_read", true, false, false},
    {Fault::kFull, "full", false, true, false},
    {Fault::kReadOnly, "read_only", false, true, false},
    {Fault::kDead, "dead", true, true, true},
    {Fault::kFrozen, "frozen", true, true, true},
    {Fault::kLostWrite, "lost_write", false, true, false},
    {Fault::kMisdirected, "misdirected", false, true, false},
    {Fault::kFlipRest, "flip_rest", true, true, false},
}};

constexpr bool is_outage(Fault fault) { return fault >= Fault::kFull && fault <= Fault::kFrozen; }
constexpr bool is_lie(Fault fault) { return fault >= Fault::kLostWrite; }

}  // namespace

std::string_view fault_name(Fault fault) noexcept { return kKinds[static_cast<std::size_t>(fault)].name; }

bool FaultSet::lies() const noexcept {
  return has(Fault::kLostWrite) || has(Fault::kMisdirected) || has(Fault::kFlipRest);
}

FaultSet FaultSet::honest() noexcept {
  FaultSet set;
  for (const Kind& kind : kKinds) {
    if (kind.fault != Fault::kNone && !is_lie(kind.fault)) set.add(kind.fault);
  }
  return set;
}

FaultSet FaultSet::all() noexcept {
  FaultSet set = honest();
  for (const Kind& kind : kKinds) {
    if (is_lie(kind.fault)) set.add(kind.fault);
  }
  return set;
}

Result<FaultSet> parse_faults(std::string_view text) {
  FaultSet set;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    if (word == "none") continue;
    if (word == "honest" || word == "all" || word == "lying") {
      const std::uint32_t honest = word == "lying" ? FaultSet::honest().bits : 0;
      set.bits |= (word == "honest" ? FaultSet::honest().bits : FaultSet::all().bits) & ~honest;
      continue;
    }
    bool known = false;
    for (const Kind& kind : kKinds) {
      if (kind.name != word) continue;
      set.add(kind.fault);
      known = true;
    }
    if (!known) {
      std::string names;
      for (const Kind& kind : kKinds) names += fmt::format(" {}", kind.name);
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("faults: there is none called \"{}\"; valid are honest, lying, all and{}", word, names));
    }
  }
  return set;
}

Fault FaultDice::of(IoKind kind, std::uint64_t now_ns, Random& random) {
  if (const Fault now = outage(now_ns); now != Fault::kNone) {
    const bool writes_only = now == Fault::kFull || now == Fault::kReadOnly;
    return writes_only && kind != IoKind::kWrite ? Fault::kNone : now;
  }
  if (left_ == 0 || random.below(1'000'000) >= plan_.per_million) return Fault::kNone;
  std::array<Fault, kFaults> possible{};
  std::size_t count = 0;
  for (const Kind& k : kKinds) {
    const bool fits = kind == IoKind::kRead ? k.reads : kind == IoKind::kWrite ? k.writes : k.syncs;
    if (fits && plan_.faults.has(k.fault)) possible[count++] = k.fault;
  }
  if (count == 0) return Fault::kNone;
  const Fault fault = possible[random.below(count)];
  --left_;
  ++given_;
  has_lied_ = has_lied_ || is_lie(fault);
  if (is_outage(fault)) {
    outage_ = fault;
    until_ns_ = now_ns + (kMillisecondNs << random.below(kOutageLengths));
  }
  return fault;
}

}  // namespace tiercel::sim
