// LruPolicy: least recently used. Used tail first, a sequence's head is always hotter than its tail, so the cold end of
// a list is a leaf. 16 bytes a block, O(1) a call but for victim's bounded search.
//
// What the owner does not let go (a pinned block, a parent whose children came later) keeps its place. A cursor divides
// each list: blocks colder than it were asked about in vain, the search goes on from it. So thousands of pinned blocks
// at the cold end cost once, not once a victim. Those behind the cursor get their second chance in two ways: those just
// passed are asked first, one by one, until one says no (where a leaf went, its parent is now a leaf), and one of all
// in turn with each call, coldest first (its pin may have ended). A search that has reached the hot end begins again.
#pragma once

#include "policy/eviction.h"

#include <memory>
#include <vector>

namespace tiercel {

class LruPolicy final : public EvictionPolicy {
 public:
  explicit LruPolicy(std::uint64_t capacity);
  ~LruPolicy() override;
  LruPolicy(const LruPolicy&) = delete;
  LruPolicy& operator=(const LruPolicy&) = delete;

  void add_list(PolicyList list) override;
  void insert(PolicyBlock block, PolicyList list, std::uint64_t now_ns) override;
  void touch(std::span<const PolicyBlock> tail_first, std::uint64_t now_ns) override;
  void erase(PolicyBlock block) override;
  [[nodiscard]] std::optional<PolicyBlock> victim(PolicyList list, FunctionRef<bool(PolicyBlock)> evictable) override;
  /// 1 / (seconds since the last use + 1).
  [[nodiscard]] double value(PolicyBlock block, std::uint64_t now_ns) const override;
  [[nodiscard]] std::uint64_t asks_for_all(PolicyList list) const override;
  [[nodiscard]] std::optional<PolicyBlock> coldest(PolicyList list) const override;
  [[nodiscard]] bool knows(PolicyBlock block) const override { return nodes_[block].linked != 0; }
  [[nodiscard]] std::uint64_t bytes_per_block() const override { return sizeof(Node); }

 private:
  static constexpr PolicyBlock kNone = UINT32_MAX;
  /// Time is kept in ticks of 2^26 ns (67 ms): 32 bits last nine years.
  static constexpr unsigned kTickShift = 26;

  struct Node {
    PolicyBlock colder;
    PolicyBlock hotter;
    std::uint32_t last_use_tick;
    PolicyList list : 31;
    PolicyList linked : 1;
  };
  static_assert(sizeof(Node) == 16);
  struct Ends {
    PolicyBlock coldest = kNone;
    PolicyBlock hottest = kNone;
    PolicyBlock next = kNone;   // the cursor; none: the search has reached the hot end
    PolicyBlock again = kNone;  // colder than the cursor, to be asked again next; none: the coldest
    std::uint64_t size = 0;
    bool just_passed = false;  // the block before the cursor, in vain
  };
  static constexpr std::uint64_t kAsksAgain = 2;  // of blocks behind the cursor, at most, in each call

  void link_hottest(PolicyBlock block);
  void unlink(PolicyBlock block);
  static void begin_again(Ends& ends) noexcept;

  std::uint64_t capacity_;
  Node* nodes_;  // zeroed pages from the system, touched as blocks are used
  std::vector<Ends> lists_;
};

}  // namespace tiercel
