#include "cuda/lane.h"

#include "base/try.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

namespace tiercel::gpu {
namespace {

/// DMA operations of one chunk: slots that lie apart are short copies, and a chunk is also what the feeder spends at
/// once.
constexpr std::size_t kMaxChunkCopies = 64;
/// Merged jobs on the way beside each other: enough to keep the queues full where jobs are small.
constexpr std::size_t kMaxOpenStages = 8;

}  // namespace

Lane::Lane(CopyDirection direction, CopyDevice& device, TransferScheduler& scheduler, PathChoice& choice,
           const GpuCopyOptions& options)
    : direction_(direction),
      device_(device),
      scheduler_(scheduler),
      choice_(choice),
      options_(options),
      chunk_bytes_(direction == CopyDirection::kLoad ? options.load_chunk_bytes : options.store_chunk_bytes),
      queues_(direction == CopyDirection::kLoad ? options.load_queues : options.store_queues) {
  for (std::uint32_t i = stages_of(direction, options).count; i-- > 0;) free_stages_.push_back(i);
}

Status Lane::pass(std::uint64_t now_ns, std::vector<FinishedJob>& finished) {
  TIERCEL_TRY(reap_chunks());
  TIERCEL_TRY(reap_stages(now_ns, finished));
  expire(now_ns, finished);
  std::uint64_t begun = 0;
  do {  // again where a stage was passed on: of a job that is queued ahead
    begun = counts_.kernels;
    TIERCEL_TRY(open_stages(now_ns));
    TIERCEL_TRY(feed(now_ns));
  } while (counts_.kernels != begun &&
           std::ranges::any_of(jobs_, [](const auto& job) { return job->ahead() && !job->cut; }));
  finish_jobs(now_ns, finished);  // those without bytes
  return {};
}

Status Lane::reap_chunks() {
  // The queues end on their own, each in order.
  std::array<bool, kDmaQueues> waits{};
  for (auto chunk = chunks_.begin(); chunk != chunks_.end();) {
    bool ended = false;
    if (!waits[chunk->dma_queue]) {
      TIERCEL_TRY_ASSIGN(ended, device_.reached(chunk->ticket));
    }
    if (!ended) {
      waits[chunk->dma_queue] = true;
      ++chunk;
      continue;
    }
    StageRun& stage = *chunk->stage;
    if (stage.last[chunk->dma_queue] == chunk->ticket) stage.last[chunk->dma_queue].reset();
    --stage.chunks;
    counts_.bytes += chunk->bytes;
    scheduler_.ended(direction_);
    device_.give_back(chunk->ticket);
    chunk = chunks_.erase(chunk);
  }
  return {};
}

Status Lane::reap_stages(std::uint64_t now_ns, std::vector<FinishedJob>& finished) {
  bool waits = false;  // for a kernel, as then all behind it do
  for (auto it = stages_.begin(); it != stages_.end();) {
    StageRun& stage = **it;
    bool ended = stage.fed && stage.chunks == 0 && !waits;
    if (ended && direction_ == CopyDirection::kLoad && stage.kernel) {
      TIERCEL_TRY_ASSIGN(ended, device_.reached(*stage.kernel));
      waits = !ended;
    }
    if (!ended) {
      ++it;
      continue;
    }
    if (stage.kernel) device_.give_back(*stage.kernel);
    if (stage.passed_on) {  // its ticket serves for something else from now on
      const auto next = std::ranges::find_if(stages_, [&](const auto& s) { return s->after == stage.kernel; });
      if (next != stages_.end()) (*next)->after.reset();
    } else if (stage.stage) {
      free_stages_.push_back(*stage.stage);
    }
    --stage.job->open_stages;
    it = stages_.erase(it);
  }
  finish_jobs(now_ns, finished);
  return {};
}

void Lane::finish_jobs(std::uint64_t now_ns, std::vector<FinishedJob>& finished) {
  const auto ended = [](const RunningJob& job) { return job.cut && job.open_stages == 0; };
  for (auto it = jobs_.begin(); it != jobs_.end() && (*it)->begun;) {
    if (!ended(**it)) {
      ++it;
      continue;
    }
    if ((*it)->alone) choice_.record(direction_, (*it)->estimate, now_ns - (*it)->begun_ns);
    end(**it, {}, finished);
    it = jobs_.erase(it);
  }
}

void Lane::end(RunningJob& job, Status status, std::vector<FinishedJob>& finished) {
  if (job.gate) device_.give_back(*job.gate);
  if (job.ahead()) {
    for (const Ticket ticket : job.job.ahead->ended(status)) device_.give_back(ticket);
  }
  finished.push_back({std::move(job.job), std::move(status)});
}

void Lane::expire(std::uint64_t now_ns, std::vector<FinishedJob>& finished) {
  if (now_ns < next_deadline_ns()) return;
  std::erase_if(jobs_, [&](std::unique_ptr<RunningJob>& job) {
    if (job->begun || now_ns < job->job.deadline_ns) return false;
    end(*job, fail(ErrorCode::kTimeout, "the copy had not begun when its deadline passed"), finished);
    ++counts_.timed_out;
    return true;
  });
}

std::uint64_t Lane::next_deadline_ns() const noexcept {
  std::uint64_t next = UINT64_MAX;
  for (const auto& job : jobs_) {
    if (!job->begun) next = std::min(next, job->job.deadline_ns);
  }
  return next;
}

bool Lane::in_flight() const noexcept {
  return !chunks_.empty() || std::ranges::any_of(stages_, [](const auto& stage) { return stage->fed; });
}

bool Lane::held() const noexcept {
  return std::ranges::any_of(stages_, [](const auto& stage) { return !stage->fed; });
}

Status Lane::begin(RunningJob& job, std::uint64_t now_ns) {
  if (job.begun) return {};
  const bool others = std::ranges::any_of(jobs_, [](const auto& other) { return other->begun; });
  if (others) disturb();
  job.begun = true;
  job.begun_ns = now_ns;
  // The pace is part of what a paced store takes.
  job.alone = !others && job.teaches && job.job.bytes() > 0 &&
              (direction_ == CopyDirection::kLoad || options_.store_bytes_per_second == 0);
  if (job.alone && job.gate) {
    TIERCEL_TRY_ASSIGN(job.alone, device_.reached(*job.gate));
  }
  return {};
}

Status Lane::open_stages(std::uint64_t now_ns) {
  for (auto& job : jobs_) {
    while (!job->cut) {
      if (job->cutter && !job->cutter->ended()) {
        StageRun stage{.job = job.get(), .dma = DmaWalker(options_.register_piece_bytes)};
        if (!take_stage(*job, stage)) return {};
        TIERCEL_TRY(begin(*job, now_ns));
        TIERCEL_TRY(open_staged(std::move(stage)));
        job->cut = job->cutter->ended();
        continue;
      }
      if (!job->cutter && stages_.size() >= kMaxOpenStages && !job->ahead()) return {};
      TIERCEL_TRY(begin(*job, now_ns));
      if (!job->cutter && job->job.bytes() > 0) open_merged(*job);
      job->cut = true;
    }
  }
  return {};
}

bool Lane::take_stage(const RunningJob& job, StageRun& stage) {
  if (!free_stages_.empty()) {
    stage.stage = free_stages_.back();
    free_stages_.pop_back();
    return true;
  }
  if (!job.ahead() || direction_ != CopyDirection::kLoad) return false;
  const auto oldest = std::ranges::find_if(stages_, [](const auto& s) { return s->kernel && !s->passed_on; });
  if (oldest == stages_.end()) return false;
  (*oldest)->passed_on = true;
  stage.stage = (*oldest)->stage;
  stage.after = (*oldest)->kernel;
  return true;
}

Status Lane::open_staged(StageRun&& opened) {
  RunningJob& job = *opened.job;
  stages_.push_back(std::make_unique<StageRun>(std::move(opened)));
  StageRun& stage = *stages_.back();
  stage.range = job.cutter->next();
  stage.dma.of_stage(*job.plan(), job.table->table, stage.range, device_.stage(direction_, *stage.stage));
  ++job.open_stages;
  return direction_ == CopyDirection::kStore ? run_kernel(stage) : Status{};
}

void Lane::open_merged(RunningJob& job) {
  auto stage = std::make_unique<StageRun>(StageRun{.job = &job, .dma = DmaWalker(options_.register_piece_bytes)});
  if (const CopyPlan* plan = job.plan()) {
    stage->dma.of_plan(*plan);
  } else {
    const auto& copy = std::get<ByteCopy>(job.job.work);
    auto* from = const_cast<std::byte*>(copy.from);  // the direction says which side is written
    const bool store = direction_ == CopyDirection::kStore;
    stage->dma.of_range(store ? copy.to : from, store ? from : copy.to, copy.bytes);
  }
  stages_.push_back(std::move(stage));
  ++job.open_stages;
}

Status Lane::run_kernel(StageRun& stage) {
  RunningJob& job = *stage.job;
  const Queue queue = kernel_queue(direction_);
  if (job.gate && !job.gate_waited) TIERCEL_TRY(device_.wait(queue, *job.gate));
  job.gate_waited = true;
  for (const auto& chunk : stage.last) {
    if (chunk) TIERCEL_TRY(device_.wait(queue, *chunk));
  }
  StageParams params;
  fill_params(job.table->table, *job.plan(), stage.range,
              reinterpret_cast<std::uintptr_t>(device_.stage(direction_, *stage.stage)), job.table->device, params);
  TIERCEL_TRY(device_.run_stage(direction_, params));
  TIERCEL_TRY_ASSIGN(stage.kernel, device_.mark(queue));
  ++counts_.kernels;
  return {};
}

StageRun* Lane::next_to_feed() noexcept {
  const auto stage = std::ranges::find_if(stages_, [](const auto& s) { return !s->fed; });
  return stage == stages_.end() ? nullptr : stage->get();
}

std::uint32_t Lane::quieter_dma_queue() const noexcept {
  std::array<std::uint32_t, kDmaQueues> queued{};
  for (const Chunk& chunk : chunks_) ++queued[chunk.dma_queue];
  return queues_ == 1 || queued[0] <= queued[1] ? 0 : 1;
}

Status Lane::feed(std::uint64_t now_ns) {
  while (StageRun* stage = next_to_feed()) {
    if (!stage->job->ahead() && !scheduler_.may_start(direction_, now_ns)) return {};
    TIERCEL_TRY(queue_chunk(*stage, now_ns));
    if (!stage->dma.ended()) continue;
    stage->fed = true;
    if (direction_ == CopyDirection::kLoad && stage->stage) TIERCEL_TRY(run_kernel(*stage));
    if (stage->job->ahead() && stage->job->cut) TIERCEL_TRY(tell_queued(*stage->job));
  }
  return {};
}

Status Lane::tell_queued(RunningJob& job) {
  if (std::ranges::any_of(stages_, [&](const auto& stage) { return stage->job == &job && !stage->fed; })) return {};
  QueuedAhead::Tickets tickets;
  if (job.cutter && direction_ == CopyDirection::kLoad) {
    TIERCEL_TRY_ASSIGN(const Ticket ticket, device_.mark(kernel_queue(direction_)));
    tickets.push_back(ticket);
  } else {
    for (std::uint32_t number = 0; number < queues_; ++number) {
      TIERCEL_TRY_ASSIGN(const Ticket ticket, device_.mark(dma_queue(direction_, number)));
      tickets.push_back(ticket);
    }
  }
  job.job.ahead->queued(std::move(tickets));
  return {};
}

Status Lane::order_dma(StageRun& stage, std::uint32_t number) {
  if (stage.ordered[number]) return {};
  stage.ordered[number] = true;
  const Queue queue = dma_queue(direction_, number);
  if (stage.after) TIERCEL_TRY(device_.wait(queue, *stage.after));
  if (!stage.stage) return stage.job->gate ? device_.wait(queue, *stage.job->gate) : Status{};
  return direction_ == CopyDirection::kStore ? device_.wait(queue, *stage.kernel) : Status{};
}

/// A short rest goes with the chunk before it: a chunk of its own costs the bus as much as 100 KiB and more.
std::uint64_t Lane::next_chunk_bytes(const StageRun& stage) const noexcept {
  const std::uint64_t all = stage.stage ? stage.range.bytes() : stage.job->job.bytes();
  const std::uint64_t left = all - std::min(all, stage.queued_bytes);
  return left <= chunk_bytes_ + chunk_bytes_ / 4 ? std::max<std::uint64_t>(left, 1) : chunk_bytes_;
}

Status Lane::queue_chunk(StageRun& stage, std::uint64_t now_ns) {
  const std::uint32_t number = quieter_dma_queue();
  TIERCEL_TRY(order_dma(stage, number));
  std::array<Dma, kMaxChunkCopies> copies;
  std::size_t count = 0;
  std::uint64_t bytes = 0;
  const std::uint64_t limit = next_chunk_bytes(stage);
  while (count < copies.size() && bytes < limit && stage.dma.next(copies[count], limit - bytes)) {
    bytes += copies[count++].total_bytes();
  }
  stage.queued_bytes += bytes;
  TIERCEL_TRY(device_.copy(dma_queue(direction_, number), direction_, std::span(copies).first(count)));
  counts_.copies += count;
  TIERCEL_TRY_ASSIGN(const Ticket ticket, device_.mark(dma_queue(direction_, number)));
  chunks_.push_back({.ticket = ticket, .stage = &stage, .dma_queue = number, .bytes = bytes});
  stage.last[number] = ticket;
  ++stage.chunks;
  scheduler_.started(direction_, bytes, now_ns);
  return {};
}

void Lane::fail_all(const Error& error, std::vector<FinishedJob>& finished) {
  stages_.clear();
  chunks_.clear();
  for (auto& job : jobs_) {
    if (job->ahead()) (void)job->job.ahead->ended(tl::unexpected<Error>(error));  // the device is given up, tickets too
    finished.push_back({std::move(job->job), tl::unexpected<Error>(error)});
  }
  jobs_.clear();
}

}  // namespace tiercel::gpu
