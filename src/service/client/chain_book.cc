#include "service/client/chain_book.h"

#include <algorithm>
#include <utility>

namespace tiercel::service {

ChainBook::Place ChainBook::put(std::span<const BlockHash> hashes) {
  Place place;
  List* best = nullptr;
  for (List& list : lists_) {
    const bool is_prefix = list.size > 0 && list.size <= hashes.size() && hashes[list.size - 1] == list.last;
    if (is_prefix && (best == nullptr || list.size > best->size)) best = &list;
  }
  if (best != nullptr) {
    place.known = best->size;
  } else {
    best = &*std::ranges::min_element(lists_, {}, &List::used);
  }
  place.handle = static_cast<std::uint32_t>(best - lists_.data());
  best->used = ++now_;
  while (kept_ - best->size + hashes.size() > kept_hashes_) {
    List* oldest = nullptr;
    for (List& list : lists_) {
      if (&list != best && list.size > 0 && (oldest == nullptr || list.used < oldest->used)) oldest = &list;
    }
    if (oldest == nullptr) break;
    kept_ -= std::exchange(oldest->size, 0);
    place.give_up.push_back(static_cast<std::uint32_t>(oldest - lists_.data()));
  }
  kept_ = kept_ - best->size + hashes.size();
  best->size = hashes.size();
  if (!hashes.empty()) best->last = hashes.back();
  return place;
}

}  // namespace tiercel::service
