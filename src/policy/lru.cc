#include "policy/lru.h"

#include "base/check.h"

#include <cstdlib>
#include <new>

namespace tiercel {

LruPolicy::LruPolicy(std::uint64_t capacity)
    : capacity_(capacity), nodes_(static_cast<Node*>(std::calloc(capacity, sizeof(Node)))) {
  if (nodes_ == nullptr) throw std::bad_alloc();
}

LruPolicy::~LruPolicy() {
  std::free(nodes_);
}

void LruPolicy::link_hottest(PolicyBlock block) {
  Ends& ends = lists_[nodes_[block].list];
  nodes_[block].colder = ends.hottest;
  nodes_[block].hotter = kNone;
  (ends.hottest == kNone ? ends.coldest : nodes_[ends.hottest].hotter) = block;
  ends.hottest = block;
}

void LruPolicy::unlink(PolicyBlock block) {
  const Node& node = nodes_[block];
  Ends& ends = lists_[node.list];
  (node.colder == kNone ? ends.coldest : nodes_[node.colder].hotter) = node.hotter;
  (node.hotter == kNone ? ends.hottest : nodes_[node.hotter].colder) = node.colder;
}

void LruPolicy::prepare(PolicyList list) {
  if (list >= lists_.size()) lists_.resize(std::size_t{list} + 1);
}

void LruPolicy::insert(PolicyBlock block, PolicyList list, std::uint64_t now_ns) {
  TIERCEL_CHECK(block < capacity_ && !nodes_[block].linked, "a block is inserted once");
  prepare(list);
  nodes_[block] = {.colder = kNone,
                   .hotter = kNone,
                   .last_use_tick = static_cast<std::uint32_t>(now_ns >> kTickShift),
                   .list = list,
                   .linked = true};
  link_hottest(block);
}

void LruPolicy::touch(std::span<const PolicyBlock> tail_first, std::uint64_t now_ns) {
  for (const PolicyBlock block : tail_first) {
    if (!nodes_[block].linked) continue;
    nodes_[block].last_use_tick = static_cast<std::uint32_t>(now_ns >> kTickShift);
    unlink(block);
    link_hottest(block);
  }
}

void LruPolicy::erase(PolicyBlock block) {
  if (!nodes_[block].linked) return;
  unlink(block);
  nodes_[block].linked = false;
}

std::optional<PolicyBlock> LruPolicy::victim(PolicyList list, FunctionRef<bool(PolicyBlock)> evictable) {
  if (list >= lists_.size()) return std::nullopt;
  for (int i = 0; i < kSearch; ++i) {
    const PolicyBlock coldest = lists_[list].coldest;
    if (coldest == kNone) return std::nullopt;
    if (evictable(coldest)) return coldest;
    unlink(coldest);
    link_hottest(coldest);
  }
  return std::nullopt;
}

std::optional<PolicyBlock> LruPolicy::coldest(PolicyList list) const {
  if (list >= lists_.size() || lists_[list].coldest == kNone) return std::nullopt;
  return lists_[list].coldest;
}

double LruPolicy::value(PolicyBlock block, std::uint64_t now_ns) const {
  if (!nodes_[block].linked) return 0;
  const auto ticks = static_cast<std::uint32_t>(now_ns >> kTickShift) - nodes_[block].last_use_tick;
  return 1.0 / (ticks * (static_cast<double>(std::uint64_t{1} << kTickShift) * 1e-9) + 1.0);
}

}  // namespace tiercel
