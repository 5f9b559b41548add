#include "cuda/feeder.h"

#include "base/try.h"

#include <algorithm>

namespace tiercel::gpu {
namespace {

constexpr std::size_t kKnownGeometries = 16;

}  // namespace

Feeder::Feeder(CopyDevice& device, const GpuCopyOptions& options, std::optional<PathCosts> costs)
    : device_(device),
      options_(options),
      choice_(options, costs),
      scheduler_({.depth = options.depth,
                  .store_bytes_per_second = options.store_bytes_per_second,
                  .link_bytes_per_second = options.link_bytes_per_second,
                  .store_floor_percent = options.store_floor_percent}),
      loads_(CopyDirection::kLoad, device, scheduler_, choice_, options),
      stores_(CopyDirection::kStore, device, scheduler_, choice_, options) {}

Feeder::~Feeder() {
  for (const KnownGeometry& known : known_) {
    if (known.table != nullptr) device_.forget(known.table->device);
  }
}

bool Feeder::forget_one() {
  // Oldest first; a table that a job holds stays.
  for (auto it = known_.rbegin(); it != known_.rend(); ++it) {
    if (it->table != nullptr && it->table.use_count() > 1) continue;
    if (it->table != nullptr) device_.forget(it->table->device);
    known_.erase(std::next(it).base());
    return true;
  }
  return false;
}

Result<std::shared_ptr<const LoadedTable>> Feeder::load_table(const CopyGeometry& geometry) {
  auto table = PieceTable::make(geometry);
  if (!table) return std::shared_ptr<const LoadedTable>{};  // too large for stages
  for (;;) {
    auto pieces = device_.upload(*table);
    if (pieces) return std::make_shared<const LoadedTable>(LoadedTable{std::move(*table), *pieces});
    if (pieces.error().code == ErrorCode::kUnsupported) return std::shared_ptr<const LoadedTable>{};
    if (pieces.error().code != ErrorCode::kOutOfMemory) return tl::unexpected<Error>(std::move(pieces).error());
    if (!forget_one()) return std::shared_ptr<const LoadedTable>{};
  }
}

Result<std::shared_ptr<const LoadedTable>> Feeder::table_of(const CopyPlan& plan) {
  const auto known = std::ranges::find(known_, plan.shared_geometry(), &KnownGeometry::geometry);
  if (known != known_.end()) {
    known_.splice(known_.begin(), known_, known);
    return known_.front().table;
  }
  if (known_.size() >= kKnownGeometries) forget_one();
  TIERCEL_TRY_ASSIGN(auto table, load_table(plan.geometry()));
  known_.push_front({plan.shared_geometry(), table});
  return table;
}

Status Feeder::choose_path(RunningJob& job, TensorPlace place) {
  const CopyPlan* plan = job.plan();
  const StageRing ring = stages_of(job.job.direction, options_);
  bool merged = plan == nullptr || place == TensorPlace::kHost || options_.path == CopyPath::kMerged || ring.count == 0;
  if (!merged && options_.path == CopyPath::kAuto) {
    // A load that is queued as a whole is what a step waits for: nothing else runs.
    const GpuLoad load = job.ahead() ? GpuLoad::kIdle : GpuLoad::kBusy;
    job.estimate = choice_.choose(job.job.direction, plan->bytes(), mean_run_bytes(*plan), load);
    merged = job.estimate.path == CopyPath::kMerged;
  }
  if (!merged) {
    TIERCEL_TRY_ASSIGN(job.table, table_of(*plan));
  }
  if (job.table != nullptr) job.cutter.emplace(job.table->table, plan->blocks(), ring.stage_bytes);
  ++(job.table != nullptr ? staged_jobs_ : merged_jobs_);
  return {};
}

void Feeder::take(CopyJob&& job, std::optional<Ticket> gate, TensorPlace place, bool reached) {
  auto running = std::make_unique<RunningJob>();
  running->job = std::move(job);
  running->gate = gate;
  running->teaches = reached;
  if (!error_) {
    if (Status status = choose_path(*running, place); !status) error_ = std::move(status).error();
  }
  (running->job.direction == CopyDirection::kLoad ? loads_ : stores_).add(std::move(running));
}

void Feeder::pass(std::uint64_t now_ns, std::vector<FinishedJob>& finished) {
  if (!error_) {
    scheduler_.set_loads_active(loads_.active());
    if (loads_.active() && stores_.active()) {
      loads_.disturb();
      stores_.disturb();
    }
    Status status = loads_.pass(now_ns, finished);
    if (status) status = stores_.pass(now_ns, finished);
    if (!status) error_ = std::move(status).error();
  }
  if (error_ && active()) fail_all(finished);
}

void Feeder::fail_all(std::vector<FinishedJob>& finished) {
  device_.drain();
  loads_.fail_all(*error_, finished);
  stores_.fail_all(*error_, finished);
}

std::uint64_t Feeder::next_event_ns() const noexcept {
  if (error_ || loads_.in_flight() || stores_.in_flight()) return 0;
  std::uint64_t next_ns = std::min(loads_.next_deadline_ns(), stores_.next_deadline_ns());
  if (stores_.held()) next_ns = std::min(next_ns, scheduler_.next_store_ns());
  return next_ns;
}

GpuCopyStats Feeder::stats() const noexcept {
  return {.stored_bytes = stores_.counts().bytes,
          .loaded_bytes = loads_.counts().bytes,
          .staged_jobs = staged_jobs_,
          .merged_jobs = merged_jobs_,
          .kernels = loads_.counts().kernels + stores_.counts().kernels,
          .copies = loads_.counts().copies + stores_.counts().copies,
          .timed_out = loads_.counts().timed_out + stores_.counts().timed_out};
}

}  // namespace tiercel::gpu
