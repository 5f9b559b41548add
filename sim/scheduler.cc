#include "sim/scheduler.h"

#include <algorithm>
#include <utility>

namespace tiercel::sim {
namespace {

constexpr std::uint64_t kMostRounds = 100'000;               // without time passing
constexpr std::uint64_t kLongestWaitNs = 3'600'000'000'000;  // of a wait without a deadline

}  // namespace

Scheduler::~Scheduler() {
  while (!tasks_.empty()) {  // what was taken is run, as the interface says
    Task task = std::move(tasks_.back());
    tasks_.pop_back();
    task();
  }
}

bool Scheduler::submit(Task task) {
  if (tasks_.size() >= options_.queue_capacity) return false;
  tasks_.push_back(std::move(task));
  return true;
}

bool Scheduler::run_one() {
  std::size_t choices = tasks_.size();
  std::vector<Actor*> ready;
  for (Actor* actor : actors_) {
    if (actor->runnable()) ready.push_back(actor);
  }
  choices += ready.size();
  if (choices == 0) return false;
  const std::size_t choice = random_.below(choices);
  if (choice < ready.size()) {
    if (ready[choice]->run()) tick_ns_ = options_.first_tick_ns;
    return true;  // what an actor did is for itself to look at; others are told by tasks
  }
  tick_ns_ = options_.first_tick_ns;
  const std::size_t which = choice - ready.size();
  trace_.event("task {} of {}", {which, tasks_.size()});
  Task task = std::move(tasks_[which]);
  tasks_.erase(tasks_.begin() + static_cast<std::ptrdiff_t>(which));
  task();
  look_again();
  return true;
}

void Scheduler::look_again() {
  for (Actor* actor : actors_) actor->look_again();
}

void Scheduler::run_some(std::size_t most) {
  look_again();
  for (std::size_t i = 0; i < most && !stopped() && run_one(); ++i) {
  }
}

std::uint64_t Scheduler::next_due_ns() {
  std::uint64_t due = UINT64_MAX;
  bool timers = false;
  for (Actor* actor : actors_) {
    due = std::min(due, actor->next_due_ns());
    timers = timers || actor->has_timers();
  }
  if (!timers) return due;
  const std::uint64_t tick = 1 + random_.below(tick_ns_);
  tick_ns_ = std::min(2 * tick_ns_, options_.most_tick_ns);
  return std::min(due, clock_.now_ns() + tick);
}

/// To the next thing that ends, at most to `until_ns`.
void Scheduler::advance(std::uint64_t until_ns) {
  const std::uint64_t now = clock_.now_ns();
  const std::uint64_t to = std::min(until_ns, std::max(now, next_due_ns()));
  if (to == UINT64_MAX) return;
  clock_.advance(to - now);
  look_again();
}

bool Scheduler::wait_until(const std::function<bool()>& ready, std::uint64_t deadline_ns) {
  look_again();
  tick_ns_ = options_.first_tick_ns;
  const std::uint64_t began_ns = clock_.now_ns();
  std::uint64_t seen_ns = began_ns;
  for (std::uint64_t round = 0; !ready(); ++round) {
    const std::uint64_t now_ns = clock_.now_ns();
    if (now_ns >= deadline_ns || stopped()) return false;
    if (std::exchange(seen_ns, now_ns) != now_ns) round = 0;
    if (round == kMostRounds || now_ns - began_ns > kLongestWaitNs) {
      violation_ = "a wait went on without an end";
      return false;
    }
    if (other_clients_ && !in_hook_ && random_.below(16) == 0) {
      in_hook_ = true;
      other_clients_();
      in_hook_ = false;
      look_again();
      continue;
    }
    const bool slow = random_.below(options_.slow_one_in) == 0;
    if (!slow && run_one()) continue;
    const std::uint64_t before = clock_.now_ns();
    advance(deadline_ns);
    if (clock_.now_ns() == before && !slow && deadline_ns == UINT64_MAX) return false;  // nothing could change it
  }
  return true;
}

void Scheduler::settle(std::size_t most) {
  look_again();
  for (std::size_t i = 0; i < most; ++i) {
    if (stopped() || !run_one()) return;
  }
  violation_ = "background work went on and on without time passing";
}

void Scheduler::run_for(std::uint64_t duration_ns) {
  (void)wait_until([] { return false; }, deadline_after(clock_.now_ns(), duration_ns));
}

}  // namespace tiercel::sim
