// Workload: the engines of a simulated machine and what they do, one random thing a step, over a tree of prefixes.
//
// open() starts them after a boot; leave() drops all they hold, when the machine stopped or the process is to end. All
// calls go through Client, which tells the history. One thread.
#pragma once

#include "sim/client.h"
#include "sim/plant.h"
#include "sim/profile.h"
#include "sim/world.h"

#include <cstdint>
#include <memory>
#include <vector>

namespace tiercel::sim {

class Workload {
 public:
  Workload(World& world, History& history, const Profile& profile, Plant plant, std::uint64_t seed);

  Status open();
  void step();
  void leave();
  /// While a call waits, other clients do things; not from pause() to go_on().
  void pause();
  void go_on();

  /// After a restart, when the cache has read what it has.
  void check_runs();
  /// At a kill, of every conversation: how many leading blocks that are on disk, as the cache says, must be found
  /// again.
  [[nodiscard]] std::vector<std::size_t> leading_to_keep();
  /// Those blocks are still there, and can be loaded. `undeleted_only`: looks at namespaces alone in which nothing was
  /// ever deleted.
  void check_kept(const std::vector<std::size_t>& blocks, std::uint64_t process, bool undeleted_only);
  /// Ends what is open and judges it.
  void finish_all();
  /// Deletes everything that anybody stored.
  void drop_everything();
  /// A fresh conversation is stored and loaded: is the cache still of use? Answers how many blocks came back.
  [[nodiscard]] std::size_t probe();

  [[nodiscard]] std::uint64_t loaded_blocks() const noexcept { return loaded_blocks_; }
  [[nodiscard]] std::uint64_t stored_blocks() const noexcept { return stored_blocks_; }

 private:
  [[nodiscard]] Status open_client(std::size_t i);
  [[nodiscard]] Client& client(std::size_t i) { return *clients_[i]; }
  [[nodiscard]] Namespace& space_of(std::size_t client);
  [[nodiscard]] const Conversation& conversation_of(std::size_t client);
  void act(std::size_t client, bool may_wait);
  void bound(std::size_t client);
  void forget(std::size_t client);

  World& world_;
  History& history_;
  const Profile& profile_;
  const Plant plant_;
  Random random_;
  std::vector<std::unique_ptr<Client>> clients_;    // one a model
  std::vector<std::vector<Namespace>> namespaces_;  // a model: one a tenant
  std::uint64_t clients_made_ = 0;
  std::uint64_t loaded_blocks_ = 0;
  std::uint64_t stored_blocks_ = 0;
};

}  // namespace tiercel::sim
