// HitDensityPolicy: evicts the block whose keeping is worth the fewest hits per second, as learnt (ReuseModel) from
// what was used again. Holds whole prefixes: only a block without a held child goes, so what is held is always
// prefix-closed.
//
// A block is a 64-bit name that stands for it and all before it. Each use of a sequence gives its blocks a cell of the
// model; a record for each (use, cell) says when that was and how many of its blocks have not been used since. Blocks
// that went are remembered as ghosts, so that their reuse is learnt too. A use admits all its blocks; what is too much
// goes at once, the new tail perhaps first: admission needs no rule of its own.
//
// All work goes in slices: begin() takes a use, work() goes on with it and then with the refit of the model, for as
// long as its budget lasts, and leaves the policy where the next call goes on. Until a use is done its blocks are held
// beside those that will go for them, but of a use longer than twice the capacity only so many blocks are looked at:
// what stands behind them could never be held.
//
// A shadow LRU runs beside it on the ghosts' bytes. Once 1,000 uses are over and the hits are 0.5 % of the block uses
// fewer than the shadow's, what was used longest ago goes first from then on; safety() says so.
//
// Deterministic: time comes as an argument, randomness by constructor; no IO, no locks; one thread at a time. Memory:
// 24 bytes of node, 6 of hash table, 4 of leaf list and 12 of record a held block; of the ghosts' bytes 18 a block for
// the shadow, 38 a ghost, which is a run of blocks (GhostRuns), and 12 for each record more than blocks: the oldest
// ghosts are forgotten where these are too few. The tables of the model come besides.
#pragma once

#include "base/random.h"
#include "policy/block_numbers.h"
#include "policy/ghost_runs.h"
#include "policy/reuse_model.h"
#include "policy/shadow_lru.h"
#include "policy/work_budget.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tiercel {

class HitDensityPolicy {
 public:
  struct Options {
    std::uint64_t capacity = 0;  ///< blocks held after each use
    std::uint64_t ghosts = 0;    ///< at most, 64 bytes each; the shadow LRU lives on these bytes too
    std::uint64_t seed = 1;
  };
  struct Use {
    std::span<const std::uint64_t> blocks;  ///< head first; each stands behind the same one each time
    std::uint64_t now_ns = 0;               ///< never goes back
    std::uint32_t output_tokens = 0;
    // Hints: what is not known is left as it is.
    std::uint64_t session = kNoSession;  ///< whose sequence this is
    bool ends_session = false;           ///< the session will not go on
    /// Of the use's blocks until they are used again: 1 as if keeping them were worth kPriorityWeight times as much, -1
    /// as if that part of it; -kMostPriority to kMostPriority.
    std::int8_t priority = 0;
  };
  static constexpr std::int8_t kMostPriority = 3;
  static constexpr double kPriorityWeight = 4;
  static constexpr std::uint64_t kNoSession = UINT64_MAX;

  explicit HitDensityPolicy(const Options& options);

  /// A sequence was used: work() holds its blocks, then what is worth least goes until `capacity` are left. The use
  /// before it must be done; the blocks are copied.
  void begin(const Use& use);
  /// Is a use still under way?
  [[nodiscard]] bool is_in_use() const noexcept { return stage_ != Stage::kNone; }
  /// Goes on with what there is to do; false: there is nothing. At most WorkBudget::kLargestStep beyond the budget.
  bool work(WorkBudget& work);
  /// begin(), and all work at once.
  void use(const Use& use);
  [[nodiscard]] bool holds(std::uint64_t block) const;
  [[nodiscard]] std::uint64_t held() const noexcept { return held_; }
  [[nodiscard]] std::uint64_t ghosts() const noexcept { return ghosts_.size(); }

  /// Hits so far beside those of LRU.
  struct Safety {
    std::uint64_t block_uses = 0;
    std::uint64_t hits = 0;
    std::uint64_t lru_hits = 0;
    std::uint64_t fell_back_at_use = 0;  ///< 0: it has not
    /// One sentence.
    [[nodiscard]] std::string text() const;
  };
  [[nodiscard]] const Safety& safety() const noexcept { return safety_; }

  /// State of a block or a ghost at most, without the model.
  static constexpr std::uint64_t kBytesPerBlock = 24 + BlockNumbers::kBytesPerBlock + 4 + 12;
  static constexpr std::uint64_t kBytesPerGhost = 64;
  /// All state, in bytes.
  [[nodiscard]] std::uint64_t bytes() const noexcept;
  [[nodiscard]] const ReuseModel& model() const noexcept { return model_; }

 private:
  using Index = std::uint32_t;
  static constexpr Index kNone = UINT32_MAX;
  /// Time is kept in ticks of 2^24 ns (17 ms): 32 bits last two years.
  static constexpr unsigned kTickShift = 24;

  struct Node {
    std::uint64_t name = 0;
    Index record = kNone;
    Index parent = kNone;                // of a free node: the next free one
    Index place = 0;                     // of a leaf: in leaves_; else how many of its children are held
    std::uint8_t pace = 0;               // 0: not known; else 1 + 8 x (log2 of the usual gap in s + 6)
    std::uint8_t children_ever : 2 = 0;  // stops at 3
    std::uint8_t is_leaf : 1 = 0;
    std::uint8_t is_shared : 1 = 0;  // by uses of several sessions, or of unknown ones
    std::uint16_t session = 0;       // the tag of the one that uses it; 0: not known
  };
  static_assert(sizeof(Node) == 24);
  struct Record {
    std::uint32_t tick = 0;
    std::uint16_t blocks = 0;       // not used since; 0: free
    std::uint16_t full_blocks = 0;  // of the use, or as many as fit
    ReuseCell cell = 0;
    std::int8_t priority = 0;
    std::uint8_t unused = 0;
  };
  static_assert(sizeof(Record) == 12);

  [[nodiscard]] auto name_of() const {
    return [this](Index node) { return nodes_[node].name; };
  }
  [[nodiscard]] double age_s(const Record& record) const noexcept;
  [[nodiscard]] double worth(Index node) const noexcept;
  [[nodiscard]] double learned_worth(const Node& node, const Record& record) const noexcept;
  [[nodiscard]] bool is_of_ended_session(const Node& node) const noexcept;
  void use_by_session(Node& node, bool is_new) noexcept;

  void hold_next(WorkBudget& work);
  void hold_known(Index node);
  void begin_run(GhostRuns::Index run);
  void end_run();
  [[nodiscard]] Index hold_new(std::uint64_t name, Index parent);
  void learn_reuse(Node& node);
  void name_cell();
  void go_on_with_shadow();
  void end_shadow();
  void leave_record(Index record, std::uint32_t blocks);
  [[nodiscard]] Index take_record(const Record& record);

  [[nodiscard]] Index take_node(std::uint64_t name);
  void add_child(Index parent);
  void add_leaf(Index node);
  void remove_leaf(Index node);
  void evict_next(WorkBudget& work);
  [[nodiscard]] Index worst_of_a_sample();
  [[nodiscard]] Index evict(Index leaf);
  [[nodiscard]] bool was_end_of_its_use(const Node& node) const;
  void remember(Index node);
  void forget(GhostRuns::Index run);
  [[nodiscard]] bool has_room_for_ghosts(std::uint64_t more) const;
  void end_use();
  void refit_next(WorkBudget& work);

  Options options_;
  Random random_;
  ReuseModel model_;
  std::vector<Node> nodes_;
  std::vector<Record> records_;
  std::vector<Index> leaves_;
  BlockNumbers numbers_;
  ShadowLru shadow_;
  GhostRuns ghosts_;
  Safety safety_;
  Index free_node_ = kNone;
  Index free_record_ = kNone;
  std::uint64_t used_records_ = 0;
  std::uint64_t ghost_bytes_;
  std::uint64_t held_ = 0;
  std::uint32_t now_tick_ = 0;
  std::uint64_t uses_ = 0;
  std::uint64_t next_refit_ = 0;
  std::vector<bool> ended_;  // sessions by their tags; empty: none so far
  // Of the use under way; the vectors are kept for their memory.
  enum class Stage : std::uint8_t { kNone, kHold, kShadow, kName, kEvict };
  Stage stage_ = Stage::kNone;
  std::vector<std::uint64_t> names_;
  std::vector<Index> path_;
  std::vector<std::pair<ReuseCell, Index>> path_records_;
  std::size_t held_before_ = 0;  // its leading blocks that were held
  std::size_t shadow_held_ = 0;  // its leading blocks that the shadow held
  bool shadow_misses_ = false;
  std::size_t untouched_ = 0;        // leading blocks that the shadow has still to touch
  std::size_t total_ = 0;            // its blocks, with those that are too many
  std::size_t named_ = 0;            // blocks of path_ that have their cells
  std::size_t known_ = 0;            // its leading blocks that were held or ghosts
  bool continues_ = false;           // it goes on from the use that used the last of these last
  std::uint8_t inherited_pace_ = 0;  // what its new blocks have then
  std::uint16_t session_ = 0;        // its tag
  std::int8_t priority_ = 0;
  bool ends_session_ = false;
  bool below_forks_ = true;  // of such a use, which is named from its end: no block so far has several children
  std::uint32_t output_class_ = 0;
  std::uint32_t fresh_class_ = 0;
  /// A run of ghosts that the use has met: its blocks come back one by one.
  struct Revival {
    GhostRuns::Run run;
    std::uint32_t shared = 0;  // blocks that come back; 0: there is no run
    std::uint32_t done = 0;
    std::uint8_t inside = 0;  // children of the run's blocks but the last
    bool leading = false;     // all blocks before it are known
  };
  Revival revival_;
  Index victim_ = kNone;  // goes next, being the parent of what just went
  double victim_worth_ = 0;
  std::size_t counted_ = 0;  // records that the refit has counted as waiting
  bool is_counting_ = false;
  // The run that begins behind the block which went last: the block before it may join.
  GhostRuns::Index growing_ = GhostRuns::kNone;
  Index growing_parent_ = kNone;
};

}  // namespace tiercel
