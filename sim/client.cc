#include "sim/client.h"

#include "sim/content.h"

#include <fmt/format.h>

#include <algorithm>

namespace tiercel::sim {
namespace {
constexpr std::chrono::seconds kPatience{60};
}  // namespace

class Client::Instant {
 public:
  Instant(Client& client, std::string_view what)
      : client_(client), what_(what), began_ns_(client.world_.clock().now_ns()) {}
  Instant(const Instant&) = delete;
  Instant& operator=(const Instant&) = delete;
  ~Instant() {
    if (!client_.world_.crashed()) client_.history_.check_instant(what_, began_ns_, client_.world_.clock().now_ns());
  }

 private:
  Client& client_;
  std::string_view what_;
  std::uint64_t began_ns_;
};

Match Client::match(const Conversation& conversation) {
  const Instant instant(*this, "match");
  Match match = session_.match(conversation.chain);
  world_.trace().event("client {}: match conversation {} -> {} blocks, {} on disk",
                       {number_, conversation.number, match.blocks(), match.blocks_in(TierId::kDisk)});
  return match;
}

// ---- stores

void Client::begin_store(const Conversation& conversation, std::size_t first, std::size_t count) {
  const Instant instant(*this, "reserve");
  OpenStore store;
  for (std::size_t i = first; i < std::min(first + count, conversation.keys.size()); ++i) {
    store.fills.push_back(history_.begin_fill(conversation.keys[i]));
  }
  store.room = session_.reserve(conversation.chain, first, count);
  std::uint64_t outcomes = 0;
  for (std::size_t i = 0; i < store.room.size(); ++i) {
    outcomes = outcomes * 10 + static_cast<std::uint64_t>(store.room.outcome(i));
  }
  world_.trace().event("client {}: reserve conversation {} from {} on, {} blocks -> outcomes {} (a digit each)",
                       {number_, conversation.number, first, store.room.size(), outcomes});
  stores_.push_back(std::move(store));
}

void Client::end_store(Random& random) {
  if (stores_.empty()) return;
  const Instant instant(*this, "commit");
  OpenStore store = std::move(stores_.front());
  stores_.pop_front();
  for (std::size_t i = 0; i < store.room.size(); ++i) {
    if (store.room.outcome(i) == Reserved::kYes) store_block(store, i, random);
  }
  store.room = {};
}

void Client::store_block(OpenStore& store, std::size_t i, Random& random) {
  Writer& writer = store.room.writer(i);
  const std::span<std::byte> bytes = writer.bytes();
  const History::Fill& fill = store.fills[i];
  if (bytes.empty()) return;  // the session was closed meanwhile
  const std::uint64_t dice = random.below(100);
  const std::size_t length = random.below(3) != 0
                                 ? bytes.size()
                                 : kLeastContentBytes + 8 * random.below((bytes.size() - kLeastContentBytes) / 8);
  if (dice < 4) {  // given up, while a copy into it goes on
    copies_.push_back({.pin = writer.begin_copy(), .writes = bytes, .key = fill.key});
    if (dice < 2) writer.abort();
    return;
  }
  write_content(bytes.first(length), history_.stamp(fill, number_, length));
  if (dice < 7) return;  // written and forgotten
  const Status status = writer.commit(length);
  world_.trace().event("client {}: commit sequence {} of key {}, {} bytes -> {} (0, or the error's code)",
                       {number_, fill.sequence, static_cast<std::uint64_t>(fill.key), length,
                        status ? 0U : static_cast<std::uint64_t>(status.error().code)});
  history_.end_fill(fill, status.has_value());
  if (status) ++stored_blocks_;
}

// ---- loads

void Client::begin_load(const Conversation& conversation, std::size_t blocks, std::chrono::nanoseconds deadline) {
  const Instant instant(*this, "load");
  const std::uint64_t now = world_.clock().now_ns();
  world_.trace().event("client {}: load conversation {}, {} blocks, within {} ns",
                       {number_, conversation.number, blocks, static_cast<std::uint64_t>(deadline.count())});
  OpenLoad load{.conversation = &conversation,
                .asked = blocks,
                .began = history_.now(),
                .deadline_ns = deadline_after(now, static_cast<std::uint64_t>(deadline.count()))};
  load.load = session_.load(conversation.chain, blocks, deadline);
  loads_.push_back(std::move(load));
}

void Client::end_load(Random& random) {
  if (loads_.empty()) return;
  OpenLoad open = std::move(loads_.front());
  loads_.pop_front();
  const std::uint64_t began_ns = world_.clock().now_ns();
  const std::uint64_t blocked_ns = world_.files().device().blocked_ns();
  const auto blocks = open.load.wait();
  if (world_.crashed()) return;
  // A driver has a thread of its own; here it has not, so the time that it blocked is taken off.
  const std::uint64_t excused_ns = world_.files().device().blocked_ns() - blocked_ns;
  history_.check_wait("a load", world_.clock().now_ns(), std::max(open.deadline_ns, began_ns) + excused_ns);
  world_.trace().event(
      "client {}: loaded conversation {}: {} of {} blocks, outcome {}",
      {number_, open.conversation->number, blocks.size(), open.asked, static_cast<std::uint64_t>(open.load.outcome())});
  if (blocks.size() > open.asked) history_.fail("a load gave more blocks than it was asked for");
  for (std::size_t i = 0; i < blocks.size() && !history_.failed(); ++i) {
    history_.check_block(open.conversation->keys[i], blocks[i].bytes(), open.began);
  }
  loaded_blocks_ += blocks.size();
  if (blocks.empty() || random.below(6) != 0) return;
  const std::size_t kept = random.below(blocks.size());
  copies_.push_back({.pin = blocks[kept].begin_copy(),
                     .reads = blocks[kept].bytes(),
                     .key = open.conversation->keys[kept],
                     .began = open.began});
}

void Client::end_copy(Random& random) {
  if (copies_.empty()) return;
  const std::size_t which = random.below(copies_.size());
  OpenCopy& copy = copies_[which];
  if (!copy.writes.empty()) {  // late bytes, which no block may show
    std::ranges::fill(copy.writes, std::byte{0xEE});
  } else if (!copy.reads.empty()) {
    history_.check_block(copy.key, copy.reads, copy.began);
  }
  copies_.erase(copies_.begin() + static_cast<std::ptrdiff_t>(which));
}

// ---- pins, deletes, the end

void Client::pin(const Conversation& conversation, std::size_t blocks, std::chrono::nanoseconds ttl) {
  const Instant instant(*this, "pin");
  auto pin = session_.pin(conversation.chain, blocks, ttl);
  world_.trace().event("client {}: pin conversation {}, {} blocks -> {}",
                       {number_, conversation.number, blocks, pin ? pin->blocks() : UINT64_MAX});
  if (pin) pins_.push_back(std::move(*pin));
}

void Client::unpin(Random& random) {
  if (pins_.empty()) return;
  pins_.erase(pins_.begin() + static_cast<std::ptrdiff_t>(random.below(pins_.size())));
}

/// For a delete that begins now: it waits for the logs of the directories as long as for any operation. Less the time
/// that drivers have blocked until now, of which what they block meanwhile is added at the end.
std::uint64_t Client::drop_limit_ns() {
  const DiskConfig& disk = world_.core().config().disk;
  const auto patience_ns = disk.directories.empty() ? 0 : std::chrono::nanoseconds(disk.io_deadline).count();
  return world_.clock().now_ns() + static_cast<std::uint64_t>(patience_ns) - world_.files().device().blocked_ns();
}

void Client::end_drop(const History::Drop& drop, const Result<Dropped>& answer, std::uint64_t limit_ns) {
  if (world_.crashed()) return;
  world_.trace().event("client {}: dropped {} blocks, {} pending (or an error)",
                       {number_, answer ? answer->blocks : UINT64_MAX, answer ? answer->pending : UINT64_MAX});
  history_.check_wait("a delete", world_.clock().now_ns(), limit_ns + world_.files().device().blocked_ns());
  history_.end_drop(drop, answer);
}

void Client::drop(const Conversation& conversation, std::size_t first) {
  world_.trace().event("client {}: drop conversation {} from block {} on", {number_, conversation.number, first});
  const History::Drop drop = history_.begin_drop(conversation.keys[first]);
  const std::uint64_t limit_ns = drop_limit_ns();
  end_drop(drop, session_.drop(conversation.chain, first), limit_ns);
}

void Client::drop(const Namespace& space) {
  world_.trace().event("client {}: drop the namespace of key {}", {number_, static_cast<std::uint64_t>(space.root)});
  const History::Drop drop = history_.begin_drop(space.root);
  const std::uint64_t limit_ns = drop_limit_ns();
  end_drop(drop, session_.drop(space.space), limit_ns);
}

void Client::check_run(const Conversation& conversation) {
  const std::size_t matched = match(conversation).blocks();
  std::vector<bool> exists(conversation.keys.size());
  for (std::size_t i = matched; i < exists.size(); ++i) {
    const Reservation room = session_.reserve(conversation.chain, i, 1);
    exists[i] = room.size() == 1 && room.outcome(0) == Reserved::kExists;
  }
  if (!world_.crashed()) history_.check_run(conversation.keys, matched, exists);
}

std::size_t Client::leading_on_disk(const Conversation& conversation) {
  const Match found = match(conversation);
  std::size_t blocks = 0;
  while (blocks < found.blocks() && found.tiers(blocks).has(TierId::kDisk)) ++blocks;
  return blocks;
}

void Client::check_kept(const Conversation& conversation, std::size_t blocks, std::uint64_t process) {
  blocks = history_.undamaged(conversation.keys, blocks);
  const std::size_t found = leading_on_disk(conversation);
  if (world_.crashed()) return;
  if (found < blocks) {
    return history_.fail(
        fmt::format("a killed process lost what was acknowledged: of conversation {} it had {} leading "
                    "blocks on disk, and {} were found",
                    conversation.number, blocks, found));
  }
  if (blocks == 0) return;
  const std::uint64_t began = history_.now();
  Load load = session_.load(conversation.chain, blocks, kPatience);
  const auto loaded = load.wait();
  if (world_.crashed()) return;
  for (std::size_t i = 0; i < loaded.size(); ++i) history_.check_block(conversation.keys[i], loaded[i].bytes(), began);
  if (loaded.size() == blocks) return;
  const bool damaged = load.outcome() == LoadOutcome::kCorrupt;
  if (damaged && !history_.was_seen_by(conversation.keys[loaded.size()], process)) {
    return history_.note_damaged(conversation.keys[loaded.size()]);
  }
  if (damaged || load.outcome() == LoadOutcome::kMiss) {
    history_.fail(
        fmt::format("a killed process lost what was acknowledged: of conversation {}, with {} leading blocks on "
                    "disk, {} could be loaded (outcome {})",
                    conversation.number, blocks, loaded.size(), static_cast<int>(load.outcome())));
  }
}

void Client::forget() {
  stores_.clear();
  loads_.clear();
  copies_.clear();
  pins_.clear();
}

void Client::close() { session_.close(); }

}  // namespace tiercel::sim
