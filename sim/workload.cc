#include "sim/workload.h"

#include "base/try.h"
#include "cache/local_session.h"

#include <algorithm>
#include <array>
#include <utility>

namespace tiercel::sim {
namespace {

constexpr std::size_t kMostOpen = 6;  // stores, loads, copies and pins, each, a client
constexpr std::uint64_t kMillisecondNs = 1'000'000;

std::chrono::nanoseconds draw_deadline(Random& random) {
  constexpr std::array<std::uint64_t, 6> kDeadlines{0, 100'000, 1'000'000, 10'000'000, 1'000'000'000, 30'000'000'000};
  return std::chrono::nanoseconds(kDeadlines[random.below(kDeadlines.size())]);
}

}  // namespace

Workload::Workload(World& world, History& history, const Profile& profile, Plant plant, std::uint64_t seed)
    : world_(world), history_(history), profile_(profile), plant_(plant), random_(seed) {
  clients_.resize(profile.models.size());
  namespaces_.resize(profile.models.size());
}

Status Workload::open_client(std::size_t i) {
  TIERCEL_TRY_ASSIGN(auto local, world_.core().open_session(profile_.models[i]));
  Session session(planted(std::move(local), plant_, world_.clock()));
  if (namespaces_[i].empty()) {
    for (const std::string& tenant : profile_.tenants) {
      namespaces_[i].push_back(make_namespace(session.space(tenant), profile_.tree, history_, random_));
    }
  }
  clients_[i] = std::make_unique<Client>(world_, history_, std::move(session), ++clients_made_);
  return {};
}

Status Workload::open() {
  for (std::size_t i = 0; i < clients_.size(); ++i) TIERCEL_TRY(open_client(i));
  go_on();
  return {};
}

void Workload::pause() { world_.scheduler().set_other_clients({}); }

void Workload::go_on() {
  world_.scheduler().set_other_clients([this] { act(random_.below(clients_.size()), false); });
}

void Workload::forget(std::size_t i) {
  if (!clients_[i]) return;
  client(i).forget();
  loaded_blocks_ += client(i).loaded_blocks();
  stored_blocks_ += client(i).stored_blocks();
  clients_[i].reset();
}

void Workload::leave() {
  pause();
  for (std::size_t i = 0; i < clients_.size(); ++i) forget(i);
}

Namespace& Workload::space_of(std::size_t client) {
  return namespaces_[client][random_.below(namespaces_[client].size())];
}

/// Some conversations are talked about far more than others.
const Conversation& Workload::conversation_of(std::size_t client) {
  const Namespace& space = space_of(client);
  const std::uint64_t count = space.conversations.size();
  return space.conversations[std::min(random_.below(count), random_.below(count))];
}

void Workload::step() {
  act(random_.below(clients_.size()), true);
  if (random_.below(8) != 0) return;
  world_.clock().advance(random_.below(kMillisecondNs));
}

/// Ends the oldest where too much is open.
void Workload::bound(std::size_t i) {
  Client& busy = client(i);
  if (busy.open_stores() > kMostOpen) busy.end_store(random_);
  if (busy.open_copies() > kMostOpen) busy.end_copy(random_);
  if (busy.open_pins() > kMostOpen) busy.unpin(random_);
}

void Workload::act(std::size_t i, bool may_wait) {
  Client& who = client(i);
  const Habits& habits = profile_.habits;
  std::uint64_t dice = random_.below(habits.begin_store + habits.end_store + habits.begin_load + habits.end_load +
                                     habits.match + habits.pin + habits.unpin + habits.end_copy + habits.drop_block +
                                     habits.drop_namespace + habits.reopen + habits.background + habits.pause);
  const auto is = [&dice](std::uint32_t chance) {
    if (dice < chance) return true;
    dice -= chance;
    return false;
  };
  if (is(habits.begin_store)) {
    const Conversation& conversation = conversation_of(i);
    const std::size_t matched = who.match(conversation).blocks();
    const std::size_t first = random_.below(4) == 0 ? random_.below(conversation.keys.size() + 1) : matched;
    who.begin_store(conversation, first, 1 + random_.below(conversation.keys.size()));
  } else if (is(habits.end_store)) {
    who.end_store(random_);
  } else if (is(habits.begin_load)) {
    const Conversation& conversation = conversation_of(i);
    if (who.open_loads() > kMostOpen) return;
    who.begin_load(conversation, 1 + random_.below(conversation.keys.size()), draw_deadline(random_));
  } else if (is(habits.match)) {
    (void)who.match(conversation_of(i));
  } else if (is(habits.pin)) {
    const Conversation& conversation = conversation_of(i);
    who.pin(conversation, 1 + random_.below(conversation.keys.size()),
            std::chrono::nanoseconds(1 + random_.below(2'000 * kMillisecondNs)));
  } else if (is(habits.unpin)) {
    who.unpin(random_);
  } else if (is(habits.end_copy)) {
    who.end_copy(random_);
  } else if (!may_wait) {
    return;
  } else if (is(habits.end_load)) {
    who.end_load(random_);
  } else if (is(habits.drop_block)) {
    const Conversation& conversation = conversation_of(i);
    who.drop(conversation, random_.below(conversation.keys.size()));
  } else if (is(habits.drop_namespace)) {
    who.drop(space_of(i));
  } else if (is(habits.reopen)) {
    forget(i);
    if (const Status opened = open_client(i); !opened)
      history_.fail("a session did not open: " + opened.error().message);
    return;
  } else if (is(habits.background)) {
    world_.scheduler().run_some(random_.below(24));
  } else {
    world_.scheduler().run_for(random_.below(random_.below(16) == 0 ? 2'000 * kMillisecondNs : 5 * kMillisecondNs));
  }
  if (!world_.crashed()) bound(i);
}

// ---- the state between and at the end

void Workload::check_runs() {
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    for (const Namespace& space : namespaces_[i]) {
      for (const Conversation& conversation : space.conversations) {
        if (world_.crashed() || history_.failed()) return;
        client(i).check_run(conversation);
      }
    }
  }
}

std::vector<std::size_t> Workload::leading_to_keep() {
  std::vector<std::size_t> blocks;
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    for (const Namespace& space : namespaces_[i]) {
      for (const Conversation& conversation : space.conversations) {
        blocks.push_back(history_.must_be_kept(conversation.keys, client(i).leading_on_disk(conversation)));
      }
    }
  }
  return blocks;
}

void Workload::check_kept(const std::vector<std::size_t>& blocks, std::uint64_t process, bool undeleted_only) {
  auto expected = blocks.begin();
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    for (const Namespace& space : namespaces_[i]) {
      for (const Conversation& conversation : space.conversations) {
        if (world_.crashed() || history_.failed()) return;
        const std::size_t kept = *expected++;
        if (undeleted_only && history_.had_deletes(conversation.keys.front())) continue;
        client(i).check_kept(conversation, kept, process);
      }
    }
  }
}

void Workload::finish_all() {
  pause();
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    Client& who = client(i);
    while (who.open_stores() > 0 && !world_.crashed()) who.end_store(random_);
    while (who.open_loads() > 0 && !world_.crashed()) who.end_load(random_);
    while (who.open_copies() > 0 && !world_.crashed()) who.end_copy(random_);
    who.forget();
  }
}

void Workload::drop_everything() {
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    for (const Namespace& space : namespaces_[i]) client(i).drop(space);
  }
}

std::size_t Workload::probe() {
  const std::size_t i = random_.below(clients_.size());
  const Conversation& conversation = namespaces_[i][0].conversations[0];
  Client& who = client(i);
  who.drop(conversation, 0);
  const std::uint64_t before = who.loaded_blocks();
  for (int tries = 0; tries < 20 && who.loaded_blocks() == before; ++tries) {
    who.begin_store(conversation, 0, conversation.keys.size());
    who.end_store(random_);
    who.begin_load(conversation, conversation.keys.size(), std::chrono::seconds(1));
    who.end_load(random_);
    world_.scheduler().run_for(1'000 * kMillisecondNs);
  }
  return who.loaded_blocks() - before;
}

}  // namespace tiercel::sim
