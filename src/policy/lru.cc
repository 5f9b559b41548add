#include "policy/lru.h"

#include "base/check.h"

#include <algorithm>
#include <cstdlib>
#include <new>

namespace tiercel {
namespace {
constexpr PolicyList kListBits = 0x7FFF'FFFF;
}  // namespace

LruPolicy::LruPolicy(std::uint64_t capacity)
    : capacity_(capacity), nodes_(static_cast<Node*>(std::calloc(capacity, sizeof(Node)))) {
  if (nodes_ == nullptr) throw std::bad_alloc();
}

LruPolicy::~LruPolicy() { std::free(nodes_); }

void LruPolicy::link_hottest(PolicyBlock block) {
  Ends& ends = lists_[nodes_[block].list];
  nodes_[block].colder = ends.hottest;
  nodes_[block].hotter = kNone;
  (ends.hottest == kNone ? ends.coldest : nodes_[ends.hottest].hotter) = block;
  ends.hottest = block;
  if (ends.next == kNone) ends.next = block;
  ++ends.size;
}

void LruPolicy::unlink(PolicyBlock block) {
  const Node& node = nodes_[block];
  Ends& ends = lists_[node.list];
  (node.colder == kNone ? ends.coldest : nodes_[node.colder].hotter) = node.hotter;
  (node.hotter == kNone ? ends.hottest : nodes_[node.hotter].colder) = node.colder;
  if (ends.next == block) ends.next = node.hotter;
  if (ends.again == block) ends.again = node.hotter;
  --ends.size;
}

void LruPolicy::add_list(PolicyList list) {
  TIERCEL_CHECK(list <= kListBits, "a list has 31 bits");
  if (list >= lists_.size()) lists_.resize(std::size_t{list} + 1);
}

void LruPolicy::insert(PolicyBlock block, PolicyList list, std::uint64_t now_ns) {
  TIERCEL_CHECK(block < capacity_ && nodes_[block].linked == 0, "a block is inserted once");
  TIERCEL_CHECK(list < lists_.size(), "a list is added before it is used");
  nodes_[block] = {.colder = kNone,
                   .hotter = kNone,
                   .last_use_tick = static_cast<std::uint32_t>(now_ns >> kTickShift),
                   .list = list & kListBits,
                   .linked = 1};
  link_hottest(block);
}

void LruPolicy::touch(std::span<const PolicyBlock> tail_first, std::uint64_t now_ns) {
  for (const PolicyBlock block : tail_first) {
    if (nodes_[block].linked == 0) continue;
    nodes_[block].last_use_tick = static_cast<std::uint32_t>(now_ns >> kTickShift);
    unlink(block);
    link_hottest(block);
  }
}

void LruPolicy::erase(PolicyBlock block) {
  if (nodes_[block].linked == 0) return;
  unlink(block);
  nodes_[block].linked = 0;
}

std::optional<PolicyBlock> LruPolicy::victim(PolicyList list, FunctionRef<bool(PolicyBlock)> evictable) {
  if (list >= lists_.size()) return std::nullopt;
  Ends& ends = lists_[list];
  if (ends.next == kNone) begin_again(ends);
  if (ends.next != ends.coldest) {
    const PolicyBlock nearest = nodes_[ends.next].colder;
    if (ends.just_passed && evictable(nearest)) return nearest;
    ends.just_passed = false;
    if (ends.again == kNone || ends.again == ends.next) ends.again = ends.coldest;
    if (evictable(ends.again)) return ends.again;
    ends.again = nodes_[ends.again].hotter;
  }
  for (std::uint64_t left = std::min(kSearch - kAsksAgain, ends.size); left > 0; --left) {
    if (ends.next == kNone) begin_again(ends);
    if (evictable(ends.next)) return ends.next;
    ends.next = nodes_[ends.next].hotter;
    ends.just_passed = true;
  }
  return std::nullopt;
}

void LruPolicy::begin_again(Ends& ends) noexcept {
  ends.next = ends.coldest;
  ends.again = kNone;
  ends.just_passed = false;
}

std::uint64_t LruPolicy::asks_for_all(PolicyList list) const {
  if (list >= lists_.size() || lists_[list].size == 0) return 0;
  const std::uint64_t calls = (lists_[list].size + kSearch - kAsksAgain - 1) / (kSearch - kAsksAgain);
  return lists_[list].size + calls * kAsksAgain;
}

std::optional<PolicyBlock> LruPolicy::coldest(PolicyList list) const {
  if (list >= lists_.size() || lists_[list].coldest == kNone) return std::nullopt;
  return lists_[list].next != kNone ? lists_[list].next : lists_[list].coldest;
}

double LruPolicy::value(PolicyBlock block, std::uint64_t now_ns) const {
  if (nodes_[block].linked == 0) return 0;
  const auto ticks = static_cast<std::uint32_t>(now_ns >> kTickShift) - nodes_[block].last_use_tick;
  return 1.0 / (ticks * (static_cast<double>(std::uint64_t{1} << kTickShift) * 1e-9) + 1.0);
}

}  // namespace tiercel
