// History: what engines did with a cache and what it answered, and the judgement whether the answers can be true.
//
// Knows nothing of the implementation: only keys (a tree), commits, deletes, loads, restarts and the clock. The rules:
// a loaded block is exactly one commit of its key that was not deleted before the load began; a delete that was
// answered without pending copies holds for ever, also after a crash, one with pending copies until the process ends;
// no wait passes its deadline, and what does not wait takes no time; a block whose parent is missing is not there.
// The first violation is kept, as a sentence. One thread at a time.
#pragma once

#include "sim/content.h"
#include "sim/trace.h"

#include <tiercel/block.h>
#include <tiercel/session.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tiercel::sim {

/// A block of the tree, or the root of a namespace.
enum class KeyId : std::uint32_t {};

class History {
 public:
  explicit History(Trace& trace) : trace_(trace) {}

  /// The key of a block below `parent`; of a namespace with nothing as parent and its fingerprint as hash.
  [[nodiscard]] KeyId key(const BlockHash& hash, std::optional<KeyId> parent);

  // Stores.
  struct Fill {
    KeyId key{};
    std::uint64_t sequence = 0;
    std::uint64_t began = 0;
  };
  [[nodiscard]] Fill begin_fill(KeyId key);
  /// What to write: `bytes` is the size that will be committed.
  [[nodiscard]] Stamp stamp(const Fill& fill, std::uint64_t writer, std::uint64_t bytes);
  void end_fill(const Fill& fill, bool committed);

  // Deletes of a key and everything below it.
  struct Drop {
    std::vector<std::uint64_t> commits;  ///< sequences
    std::vector<KeyId> keys;
    std::uint64_t began = 0;
  };
  [[nodiscard]] Drop begin_drop(KeyId top);
  void end_drop(const Drop& drop, const Result<Dropped>& answer);

  // Loads.
  /// What a load's blocks are compared with: only what happened before counts as deleted.
  [[nodiscard]] std::uint64_t now() const noexcept { return events_; }
  void check_block(KeyId key, std::span<const std::byte> bytes, std::uint64_t load_began);

  // Time.
  void check_wait(std::string_view what, std::uint64_t ended_ns, std::uint64_t deadline_ns);
  void check_instant(std::string_view what, std::uint64_t began_ns, std::uint64_t ended_ns);

  // Restarts.
  void restart();
  /// Answers whether the device has lost or damaged what it had reported as durable: deletes of earlier processes may
  /// be lost with it.
  void set_device_lied(std::function<bool()> lied) { device_lied_ = std::move(lied); }
  /// After a restart, in peace: the first `matched` keys of a chain can be served, and of the keys from there on
  /// `exists[i]` says that the cache has a block.
  void check_run(std::span<const KeyId> chain, std::size_t matched, const std::vector<bool>& exists);

  void fail(std::string sentence);
  [[nodiscard]] bool failed() const noexcept { return !violation_.empty(); }
  [[nodiscard]] const std::string& violation() const noexcept { return violation_; }

  /// No delete of the key is in the air: begun and not answered, or pending when the process ended.
  [[nodiscard]] bool is_settled(KeyId key) const;
  /// The number of the running process, which restart() raises.
  [[nodiscard]] std::uint64_t process() const noexcept { return restarts_; }
  /// Did that process, or a later one, store the block or read it whole? A block that a start only found may be one
  /// whose slot was being written again when an earlier process was killed: its header is intact, its bytes are not.
  [[nodiscard]] bool was_seen_by(KeyId key, std::uint64_t process) const;
  /// A load found such a block damaged: the running process has dropped it, from all conversations that go through it.
  void note_damaged(KeyId key) { damaged_.insert(key); }
  /// Of `blocks` leading blocks of a chain that are there as the process is killed, how many the next one must have:
  /// all before the first whose delete is in the air.
  [[nodiscard]] std::size_t must_be_kept(std::span<const KeyId> chain, std::size_t blocks) const;
  /// Of them, all before the first that has been found damaged since.
  [[nodiscard]] std::size_t undamaged(std::span<const KeyId> chain, std::size_t blocks) const;
  /// Was anything ever deleted in the namespace of the key?
  [[nodiscard]] bool had_deletes(KeyId key) const;
  /// Commits of a key that a load that begins now may answer.
  [[nodiscard]] std::size_t possible_commits(KeyId key) const;
  [[nodiscard]] std::uint64_t fills() const noexcept { return commits_.size(); }
  [[nodiscard]] std::uint64_t blocks_checked() const noexcept { return blocks_checked_; }
  /// Of those, blocks that an earlier process had stored.
  [[nodiscard]] std::uint64_t blocks_from_before() const noexcept { return blocks_from_before_; }
  [[nodiscard]] std::uint64_t deletes() const noexcept { return deletes_; }

 private:
  enum class Deleted : std::uint8_t {
    kNo,
    kPerhaps,      // being deleted, or pending when the process ended
    kForThisBoot,  // answered with pending copies
    kForEver,
  };
  struct Commit {
    KeyId key{};
    std::uint64_t writer = 0;
    std::uint64_t bytes = 0;  // 0: nothing was written yet
    std::uint64_t process = 0;
    std::uint64_t seen_in = 0;  // the last process that stored or read it
    bool committed = false;
    Deleted deleted = Deleted::kNo;
    std::uint64_t deleted_at = 0;
    std::uint64_t deleted_in = 0;  // which process
  };
  struct Key {
    std::uint64_t content = 0;  // its name in stamps
    std::optional<KeyId> parent;
    std::vector<KeyId> children;
    std::vector<std::uint64_t> commits;
    std::uint64_t dropped_at = 0;  // when the last answered drop began
    bool had_deletes = false;      // of a root: of itself or of anything below
  };
  [[nodiscard]] Key& at(KeyId key) { return keys_[static_cast<std::size_t>(key)]; }
  [[nodiscard]] const Key& at(KeyId key) const { return keys_[static_cast<std::size_t>(key)]; }
  [[nodiscard]] KeyId root_of(KeyId key) const;
  [[nodiscard]] Commit& commit(std::uint64_t sequence) { return commits_[sequence - 1]; }
  [[nodiscard]] const Commit& commit(std::uint64_t sequence) const { return commits_[sequence - 1]; }
  [[nodiscard]] Stamp stamp_of(std::uint64_t sequence) const;
  [[nodiscard]] std::string describe_difference(std::span<const std::byte> bytes, std::size_t at_byte,
                                                std::uint64_t sequence) const;

  Trace& trace_;
  std::function<bool()> device_lied_;
  std::vector<Key> keys_;
  std::map<std::pair<std::uint32_t, BlockHash>, KeyId> ids_;  // by parent (0: none, else id + 1) and hash
  std::vector<Commit> commits_;                               // by sequence - 1
  std::set<KeyId> damaged_;                                   // in this process, and rightly so
  std::uint64_t events_ = 0;
  std::uint64_t blocks_checked_ = 0;
  std::uint64_t blocks_from_before_ = 0;
  std::uint64_t deletes_ = 0;
  std::uint64_t restarts_ = 0;
  std::string violation_;
};

}  // namespace tiercel::sim
