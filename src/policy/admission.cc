#include "policy/admission.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace tiercel {

SecondSight::SecondSight(std::uint64_t remembered)
    : tags_(std::bit_ceil(std::max<std::uint64_t>(remembered, 1024)), 0), set_mask_(tags_.size() / kWays - 1) {}

bool SecondSight::admit(const BlockHash& hash) {
  std::uint64_t place = 0;
  std::uint32_t tag = 0;
  std::memcpy(&place, hash.bytes.data(), sizeof place);
  std::memcpy(&tag, hash.bytes.data() + sizeof place, sizeof tag);
  tag |= 1U;  // never the mark of an empty place
  const auto set = tags_.begin() + static_cast<std::ptrdiff_t>((place & set_mask_) * kWays);
  const auto end = set + kWays;
  const auto found = std::find(set, end, tag);
  const bool seen = found != end;
  std::rotate(set, seen ? found : end - 1, seen ? found + 1 : end);  // to the front; the oldest falls off
  *set = tag;
  return seen;
}

}  // namespace tiercel
