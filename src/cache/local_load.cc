#include "cache/local_load.h"

#include "model/block_checksum.h"

#include <algorithm>

namespace tiercel::detail {
namespace {
constexpr std::size_t kBlocksPerCheck = 8;
}  // namespace

LocalLoad::LocalLoad(std::shared_ptr<CacheCore> core, Request request)
    : core_(std::move(core)),
      started_ns_(core_->clock().now_ns()),
      deadline_ns_(
          deadline_after(started_ns_, static_cast<std::uint64_t>(std::max<std::int64_t>(0, request.deadline.count())))),
      asked_(request.blocks + (request.beyond_chain ? 1 : 0)),
      plan_(std::move(request.plan)),
      shared_(std::make_shared<Shared>()) {
  if (request.refused) {
    finished_ = true;
    if (asked_ == 0) outcome_ = LoadOutcome::kComplete;
    core_->counters().mode_refused_loads.add();
    return;
  }
  const auto hashes = request.chain.hashes.first(request.blocks);
  std::vector<CacheCore::Acquired> acquired;
  acquired.reserve(hashes.size());
  shared_->held.reserve(hashes.size());
  shared_->promotions.reserve(hashes.size());
  shared_->refs.reserve(hashes.size());  // before anything is held: from here to the references nothing may throw
  shared_->fingerprint = request.chain.space.fingerprint();
  acquired_ = core_->acquire(
      {.hashes = hashes, .space = request.chain.space, .slot_bytes = request.slot_bytes, .deadline_ns = deadline_ns_},
      acquired);
  bool reading = false;
  for (CacheCore::Acquired& one : acquired) {
    reading = reading || one.promotion != nullptr;
    shared_->refs.emplace_back(core_->adopt_pin(one.block.slot),
                               std::span(core_->data(one.block.slot), one.block.length));
    shared_->held.push_back(one.block);
    shared_->promotions.push_back(std::move(one.promotion));
  }
  if (request.beyond_chain && acquired_ == LoadOutcome::kComplete) acquired_ = LoadOutcome::kMiss;
  if (core_->paranoid()) {
    shared_->hashes.assign(hashes.begin(), hashes.begin() + static_cast<std::ptrdiff_t>(shared_->held.size()));
    start_checks();
  } else if (!reading) {
    finish();
  }
  if (!finished_ && plan_)
    look_ns_ = deadline_after(started_ns_, LoadPlanner::first_look_ns(plan_->question, plan_->plan));
}

LocalLoad::~LocalLoad() {
  if (!finished_) finish();
}

/// Of host blocks; what is read from disk is checked anyway.
void LocalLoad::start_checks() {
  const std::size_t count = shared_->held.size();
  shared_->checks = std::make_unique<std::atomic<Check>[]>(count);
  for (std::size_t begin = 0; begin < count; begin += kBlocksPerCheck) {
    start_check(begin, std::min(begin + kBlocksPerCheck, count));
  }
}

void LocalLoad::start_check(std::size_t begin, std::size_t end) {
  // The pins are cloned: the load may give its own away while this runs.
  auto pins = std::make_shared<std::vector<CopyPin>>();
  for (std::size_t i = begin; i < end; ++i) pins->push_back(shared_->refs[i].begin_copy());
  const auto check = [core = core_, shared = shared_, pins, begin, end] {
    for (std::size_t i = begin; i < end; ++i) {
      if (shared->promotions[i]) continue;
      const HeldBlock& block = shared->held[i];
      const BlockIdentity claim{
          .fingerprint = shared->fingerprint, .hash = shared->hashes[i], .generation = block.generation};
      const bool good = block_checksum(claim, {core->data(block.slot), block.length}) == block.checksum;
      shared->checks[i].store(good ? Check::kGood : Check::kBad, std::memory_order_release);
      if (!good) core->drop_corrupt({.id = block.id, .generation = block.generation});
    }
    core->wake();
  };
  if (!core_->submit(check)) check();  // no room in the queue: the caller pays
}

LocalLoad::Leading LocalLoad::of_block(std::size_t i) const {
  if (shared_->promotions[i]) {
    switch (shared_->promotions[i]->state.load(std::memory_order_acquire)) {
      case Promotion::State::kPending:
        return {};
      case Promotion::State::kReady:
        return {.good = 1, .final = true};
      case Promotion::State::kMiss:
        return {.final = true, .end = LoadOutcome::kMiss};
      case Promotion::State::kCorrupt:
        return {.final = true, .end = LoadOutcome::kCorrupt};
      case Promotion::State::kBusy:
        return {.final = true, .end = LoadOutcome::kBusy};
      case Promotion::State::kDeadline:
        return {.final = true, .end = LoadOutcome::kDeadline};
    }
  }
  if (!shared_->checks) return {.good = 1, .final = true};
  const Check check = shared_->checks[i].load(std::memory_order_acquire);
  if (check == Check::kBad) return {.final = true, .end = LoadOutcome::kCorrupt};
  return {.good = check == Check::kGood ? std::size_t{1} : 0, .final = check == Check::kGood};
}

LocalLoad::Leading LocalLoad::leading() const {
  const std::size_t count = shared_->held.size();
  for (; known_good_ < count; ++known_good_) {  // what was good stays so
    const Leading one = of_block(known_good_);
    if (one.good == 0) return {.good = known_good_, .final = one.final, .end = one.end};
  }
  return {.good = count, .final = true, .end = acquired_};
}

/// Late by its plan: it goes on while that is expected to be faster than computing what has not come.
void LocalLoad::look_again() {
  const std::uint64_t now_ns = core_->clock().now_ns();
  if (slower_ || now_ns < look_ns_) return;
  const std::size_t good = leading().good;
  const auto here =
      std::ranges::count_if(std::span(shared_->promotions).first(good), [](const auto& one) { return one == nullptr; });
  const auto longer = core_->planning().go_on(*plan_, {.asked_blocks = asked_,
                                                       .ready_blocks = good,
                                                       .host_blocks = static_cast<std::uint64_t>(here),
                                                       .elapsed_ns = now_ns - started_ns_});
  slower_ = !longer;
  look_ns_ = longer ? deadline_after(now_ns, *longer) : UINT64_MAX;
}

bool LocalLoad::given_up() {
  look_again();
  return slower_ || core_->closed() || core_->clock().now_ns() >= deadline_ns_;
}

bool LocalLoad::done() {
  // Past the deadline the answer is made final here: a check that ends between this call and wait() must not change it.
  if (!finished_ && (leading().final || given_up())) finish();
  return finished_;
}

std::span<const BlockRef> LocalLoad::wait() {
  if (!finished_) {
    while (!leading().final && !given_up()) {
      const std::uint64_t until_ns = next_look_ns();
      core_->wait_until([this] { return leading().final; }, until_ns);
      if (core_->clock().now_ns() < until_ns) break;  // it is final, or whoever waits for the cache's sake is to end
    }
    finish();
  }
  return shared_->refs;
}

std::span<const BlockRef> LocalLoad::so_far() {
  if (finished_) return shared_->refs;
  return std::span(shared_->refs).first(leading().good);
}

void LocalLoad::finish() noexcept {
  finished_ = true;
  const Leading now = leading();
  if (now.good == asked_) {
    outcome_ = plan_ && plan_->plan.left_blocks > 0 ? LoadOutcome::kSlower : LoadOutcome::kComplete;
  } else if (!now.final) {
    outcome_ = core_->closed() ? LoadOutcome::kClosed : slower_ ? LoadOutcome::kSlower : LoadOutcome::kDeadline;
  } else {
    outcome_ = now.end;
  }
  shared_->refs.erase(shared_->refs.begin() + static_cast<std::ptrdiff_t>(now.good), shared_->refs.end());

  Counters& counters = core_->counters();
  std::uint64_t blocks[2] = {};  // from the host, from disk
  std::uint64_t bytes[2] = {};
  for (std::size_t i = 0; i < now.good; ++i) {
    const std::size_t from = shared_->promotions[i] ? 1 : 0;
    ++blocks[from];
    bytes[from] += shared_->held[i].length;
  }
  if (now.good > 0) {
    const TenantNumber tenant = shared_->held.front().tenant;  // one namespace, one tenant
    core_->count_hits(TierId::kHost, tenant, blocks[0], bytes[0]);
    core_->count_hits(TierId::kDisk, tenant, blocks[1], bytes[1]);
  }
  core_->touch_later(std::span(shared_->held).first(now.good));
  count(blocks);
  counters.hit_blocks.add(blocks[0]);
  counters.hit_bytes.add(bytes[0]);
  counters.disk_hit_blocks.add(blocks[1]);
  counters.disk_hit_bytes.add(bytes[1]);
  if (!slower_) counters.missed_blocks.add(asked_ - now.good);
  counters.load_outcomes[static_cast<std::size_t>(outcome_)].add();
  counters.loads.add();
}

/// What it took, by how many of its blocks came from the host and from disk.
void LocalLoad::count(std::span<const std::uint64_t, 2> blocks) const {
  const std::uint64_t took_ns = core_->clock().now_ns() - started_ns_;
  core_->counters().load_latency.add(took_ns);
  const std::uint64_t good = blocks[0] + blocks[1];
  const auto read = std::ranges::count_if(shared_->promotions, [](const auto& one) { return one != nullptr; });
  if (read == 0) {
    core_->load_times().add_host(took_ns, good);
    std::uint64_t bytes = 0;
    for (const HeldBlock& block : std::span(shared_->held).first(good)) bytes += block.length;
    if (bytes > 0) core_->planning().add_host(bytes, took_ns);
  } else if (outcome_ == LoadOutcome::kDeadline || slower_) {
    core_->load_times().add_disk(took_ns, static_cast<std::size_t>(read));
  } else {
    core_->load_times().add_disk(took_ns, blocks[1]);
  }
  if (plan_) {
    core_->planning().ended(
        *plan_, {.took_ns = took_ns, .left_blocks = slower_ ? asked_ - good : 0, .complete = good == asked_});
  }
}

std::vector<BlockRef> LocalLoad::take() {
  (void)wait();
  return std::exchange(shared_->refs, {});
}

}  // namespace tiercel::detail
