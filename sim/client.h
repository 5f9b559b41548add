// Client: one engine of a simulation: its session, and every call on it with its answer told to the history.
//
// Verbs begin and end apart where a real engine does other things between: a store that is filled and committed later,
// a load that is waited for later, bytes that are read again long after. Results that come after the machine stopped
// are nobody's: they are not judged. One thread.
#pragma once

#include "base/random.h"
#include "sim/conversations.h"
#include "sim/history.h"
#include "sim/world.h"

#include <tiercel/session.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

namespace tiercel::sim {

class Client {
 public:
  Client(World& world, History& history, Session session, std::uint64_t number)
      : world_(world), history_(history), session_(std::move(session)), number_(number) {}
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // What waits for nothing.
  Match match(const Conversation& conversation);
  /// Reserves [first, first + count) and keeps the writers.
  void begin_store(const Conversation& conversation, std::size_t first, std::size_t count);
  /// Fills what the oldest open store has and commits, gives up or forgets each block, as the dice say.
  void end_store(Random& random);
  void begin_load(const Conversation& conversation, std::size_t blocks, std::chrono::nanoseconds deadline);
  void pin(const Conversation& conversation, std::size_t blocks, std::chrono::nanoseconds ttl);
  void unpin(Random& random);
  /// A copy that outlived its block ends: what it reads must still be what was promised.
  void end_copy(Random& random);

  // What may wait.
  void end_load(Random& random);
  void drop(const Conversation& conversation, std::size_t first);
  void drop(const Namespace& space);

  /// After a restart: is what is found a set of runs from the root?
  void check_run(const Conversation& conversation);
  /// How many leading blocks the cache says to have on disk.
  [[nodiscard]] std::size_t leading_on_disk(const Conversation& conversation);
  /// After a killed process on healthy disks: the first `blocks` blocks are there and can be loaded.
  void check_kept(const Conversation& conversation, std::size_t blocks, std::uint64_t process);
  /// Ends what is open, or drops it; nothing of the cache is held afterwards.
  void forget();
  void close();

  [[nodiscard]] Session& session() noexcept { return session_; }
  [[nodiscard]] std::size_t open_stores() const noexcept { return stores_.size(); }
  [[nodiscard]] std::size_t open_loads() const noexcept { return loads_.size(); }
  [[nodiscard]] std::size_t open_copies() const noexcept { return copies_.size(); }
  [[nodiscard]] std::size_t open_pins() const noexcept { return pins_.size(); }
  [[nodiscard]] std::uint64_t loaded_blocks() const noexcept { return loaded_blocks_; }
  [[nodiscard]] std::uint64_t stored_blocks() const noexcept { return stored_blocks_; }

 private:
  struct OpenStore {
    Reservation room;
    std::vector<History::Fill> fills;  // for each block, whatever its outcome
  };
  struct OpenLoad {
    Load load;
    const Conversation* conversation = nullptr;
    std::size_t asked = 0;
    std::uint64_t began = 0;  // event of the history
    std::uint64_t deadline_ns = 0;
  };
  /// A copy pin that lives on, and what is read or written under it.
  struct OpenCopy {
    CopyPin pin;
    std::span<const std::byte> reads;
    std::span<std::byte> writes;
    KeyId key{};
    std::uint64_t began = 0;
  };
  /// Checks at its end that no time passed.
  class Instant;

  void store_block(OpenStore& store, std::size_t i, Random& random);
  void end_drop(const History::Drop& drop, const Result<Dropped>& answer, std::uint64_t limit_ns);
  [[nodiscard]] std::uint64_t drop_limit_ns();

  World& world_;
  History& history_;
  Session session_;
  const std::uint64_t number_;
  std::deque<OpenStore> stores_;
  std::deque<OpenLoad> loads_;
  std::vector<OpenCopy> copies_;
  std::vector<Pin> pins_;
  std::uint64_t loaded_blocks_ = 0;
  std::uint64_t stored_blocks_ = 0;
};

}  // namespace tiercel::sim
