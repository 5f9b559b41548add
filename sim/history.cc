#include "sim/history.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace tiercel::sim {

void History::fail(std::string sentence) {
  if (!violation_.empty()) return;
  trace_.event("VIOLATION");
  violation_ = std::move(sentence);
}

KeyId History::key(const BlockHash& hash, std::optional<KeyId> parent) {
  const std::uint32_t above = parent ? static_cast<std::uint32_t>(*parent) + 1 : 0;
  const auto [found, added] = ids_.try_emplace({above, hash}, KeyId(keys_.size()));
  if (added) {
    std::uint64_t content = 0;
    std::memcpy(&content, hash.bytes.data(), sizeof content);
    keys_.push_back({.content = content, .parent = parent});
    if (parent) at(*parent).children.push_back(found->second);
  }
  return found->second;
}

// ---- stores

History::Fill History::begin_fill(KeyId key) {
  ++events_;
  commits_.push_back({.key = key, .process = restarts_, .seen_in = restarts_});
  return {.key = key, .sequence = commits_.size(), .began = events_};
}

Stamp History::stamp_of(std::uint64_t sequence) const {
  const Commit& of = commit(sequence);
  return {.key = at(of.key).content, .writer = of.writer, .sequence = sequence, .bytes = of.bytes};
}

Stamp History::stamp(const Fill& fill, std::uint64_t writer, std::uint64_t bytes) {
  commit(fill.sequence).writer = writer;
  commit(fill.sequence).bytes = bytes;
  return stamp_of(fill.sequence);
}

void History::end_fill(const Fill& fill, bool committed) {
  ++events_;
  if (!committed) return;
  Key& key = at(fill.key);
  if (key.dropped_at > fill.began) {
    fail(fmt::format("commit {} of key {} succeeded, although the key was deleted between its reserve and its commit",
                     fill.sequence, static_cast<std::uint32_t>(fill.key)));
  }
  commit(fill.sequence).committed = true;
  key.commits.push_back(fill.sequence);
}

// ---- deletes

History::Drop History::begin_drop(KeyId top) {
  Drop drop{.keys = {top}, .began = ++events_};
  at(root_of(top)).had_deletes = true;
  for (std::size_t i = 0; i < drop.keys.size(); ++i) {
    const Key& key = at(drop.keys[i]);
    drop.keys.insert(drop.keys.end(), key.children.begin(), key.children.end());
    for (const std::uint64_t sequence : key.commits) {
      Deleted& deleted = commit(sequence).deleted;
      if (deleted == Deleted::kForEver) continue;
      // From here on both answers are right, unless an earlier delete holds for this boot already.
      if (deleted == Deleted::kNo) deleted = Deleted::kPerhaps;
      drop.commits.push_back(sequence);
    }
  }
  return drop;
}

void History::end_drop(const Drop& drop, const Result<Dropped>& answer) {
  ++events_;
  ++deletes_;
  if (!answer) return;  // what became of it is open
  for (const KeyId key : drop.keys) at(key).dropped_at = drop.began;
  for (const std::uint64_t sequence : drop.commits) {
    Commit& gone = commit(sequence);
    const bool held_before = gone.deleted == Deleted::kForThisBoot;
    gone.deleted = answer->pending == 0 ? Deleted::kForEver : Deleted::kForThisBoot;
    if (!held_before) gone.deleted_at = events_;
    gone.deleted_in = restarts_;
  }
}

// ---- loads

bool History::is_settled(KeyId key) const {
  return std::ranges::none_of(at(key).commits,
                              [this](std::uint64_t sequence) { return commit(sequence).deleted == Deleted::kPerhaps; });
}

bool History::was_seen_by(KeyId key, std::uint64_t process) const {
  return std::ranges::any_of(at(key).commits,
                             [&](std::uint64_t sequence) { return commit(sequence).seen_in >= process; });
}

std::size_t History::must_be_kept(std::span<const KeyId> chain, std::size_t blocks) const {
  const auto first = std::ranges::find_if_not(chain.first(std::min(blocks, chain.size())),
                                              [this](KeyId key) { return is_settled(key); });
  return static_cast<std::size_t>(first - chain.begin());
}

std::size_t History::undamaged(std::span<const KeyId> chain, std::size_t blocks) const {
  const auto first = std::ranges::find_if(chain.first(std::min(blocks, chain.size())),
                                          [this](KeyId key) { return damaged_.contains(key); });
  return static_cast<std::size_t>(first - chain.begin());
}

KeyId History::root_of(KeyId key) const {
  while (at(key).parent) key = *at(key).parent;
  return key;
}

bool History::had_deletes(KeyId key) const { return at(root_of(key)).had_deletes; }

std::size_t History::possible_commits(KeyId key) const {
  return static_cast<std::size_t>(std::ranges::count_if(at(key).commits, [this](std::uint64_t sequence) {
    const Deleted deleted = commit(sequence).deleted;
    return deleted == Deleted::kNo || deleted == Deleted::kPerhaps;
  }));
}

std::string History::describe_difference(std::span<const std::byte> bytes, std::size_t at_byte,
                                         std::uint64_t sequence) const {
  // Whose bytes are these instead? Every commit is tried, newest first: a failure happens once.
  const std::size_t word = at_byte / 8 * 8;
  for (std::uint64_t other = commits_.size(); other > 0; --other) {
    if (other == sequence || commit(other).bytes < word + 8) continue;
    std::vector<std::byte> whole(commit(other).bytes);
    write_content(whole, stamp_of(other));
    if (std::memcmp(whole.data() + word, bytes.data() + word, 8) != 0) continue;
    return fmt::format("from byte {} on it is sequence {} of key {}: a mixed block", at_byte, other,
                       static_cast<std::uint32_t>(commit(other).key));
  }
  return fmt::format("byte {} is of no commit", at_byte);
}

void History::check_block(KeyId key, std::span<const std::byte> bytes, std::uint64_t load_began) {
  ++blocks_checked_;
  const auto where = [key] { return fmt::format("a load of key {}", static_cast<std::uint32_t>(key)); };
  const auto stamp = read_stamp(bytes);
  if (!stamp) return fail(fmt::format("wrong bytes: {} gave {} bytes without a stamp", where(), bytes.size()));
  const std::uint64_t sequence = stamp->sequence;
  if (sequence == 0 || sequence > commits_.size() || commit(sequence).bytes == 0) {
    return fail(fmt::format("wrong bytes: {} gave a block of sequence {}, which nobody wrote", where(), sequence));
  }
  const Commit& of = commit(sequence);
  if (of.key != key) {
    return fail(fmt::format("wrong bytes: {} gave sequence {} of key {}", where(), sequence,
                            static_cast<std::uint32_t>(of.key)));
  }
  if (bytes.size() != of.bytes) {
    return fail(fmt::format("wrong bytes: {} gave {} bytes of sequence {}, which has {}", where(), bytes.size(),
                            sequence, of.bytes));
  }
  if (const auto difference = first_difference(bytes, stamp_of(sequence))) {
    return fail(fmt::format("wrong bytes: {} begins like sequence {}, but {}", where(), sequence,
                            describe_difference(bytes, *difference, sequence)));
  }
  if (!of.committed) return fail(fmt::format("wrong bytes: {} gave sequence {}, never committed", where(), sequence));
  if (of.process != restarts_) ++blocks_from_before_;
  commits_[sequence - 1].seen_in = restarts_;
  const bool lost = of.deleted_in != restarts_ && device_lied_ && device_lied_();
  const bool holds = of.deleted == Deleted::kForThisBoot || (of.deleted == Deleted::kForEver && !lost);
  if (holds && of.deleted_at <= load_began) {
    fail(fmt::format("a resurrected delete: {}, begun at event {}, gave sequence {}, deleted at event {}", where(),
                     load_began, sequence, of.deleted_at));
  }
}

// ---- time

void History::check_wait(std::string_view what, std::uint64_t ended_ns, std::uint64_t deadline_ns) {
  if (ended_ns <= deadline_ns) return;
  fail(fmt::format("a deadline overrun: {} ended {} ns after its deadline", what, ended_ns - deadline_ns));
}

void History::check_instant(std::string_view what, std::uint64_t began_ns, std::uint64_t ended_ns) {
  if (ended_ns == began_ns) return;
  fail(fmt::format("a wait where none may be: {} took {} ns", what, ended_ns - began_ns));
}

// ---- restarts

void History::restart() {
  ++events_;
  ++restarts_;
  damaged_.clear();
  for (Commit& commit : commits_) {
    Deleted& deleted = commit.deleted;
    if (deleted == Deleted::kForThisBoot) deleted = Deleted::kPerhaps;
  }
}

void History::check_run(std::span<const KeyId> chain, std::size_t matched, const std::vector<bool>& exists) {
  for (std::size_t i = matched; i < undamaged(chain, chain.size()); ++i) {  // behind it: the load took its parent away
    if (!exists[i]) continue;
    fail(fmt::format("an orphan after a restart: the cache has key {}, block {} of a chain of which it can serve {}",
                     static_cast<std::uint32_t>(chain[i]), i, matched));
  }
}

}  // namespace tiercel::sim
