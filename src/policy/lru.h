// LruPolicy: least recently used. Used tail first, a sequence's head is always hotter than its tail, so the cold end of
// a list is a leaf; what the owner does not let go (a parent whose children came later, a pinned block) is moved to
// the hot end and counts as used again. 16 bytes a block, O(1) a call but for victim's bounded search.
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
  [[nodiscard]] std::optional<PolicyBlock> coldest(PolicyList list) const override;
  [[nodiscard]] bool knows(PolicyBlock block) const override { return nodes_[block].linked; }
  [[nodiscard]] std::uint64_t bytes_per_block() const override { return sizeof(Node); }

 private:
  static constexpr PolicyBlock kNone = UINT32_MAX;
  /// Time is kept in ticks of 2^26 ns (67 ms): 32 bits last nine years.
  static constexpr unsigned kTickShift = 26;

  struct Node {
    PolicyBlock colder;
    PolicyBlock hotter;
    std::uint32_t last_use_tick;
    PolicyList list;
    bool linked;
  };
  static_assert(sizeof(Node) == 16);
  struct Ends {
    PolicyBlock coldest = kNone;
    PolicyBlock hottest = kNone;
  };

  void link_hottest(PolicyBlock block);
  void unlink(PolicyBlock block);

  std::uint64_t capacity_;
  Node* nodes_;  // zeroed pages from the system, touched as blocks are used
  std::vector<Ends> lists_;
};

}  // namespace tiercel
