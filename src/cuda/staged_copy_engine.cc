#include "cuda/staged_copy_engine.h"

#include "base/check.h"
#include "base/log.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/prctl.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <utility>

namespace tiercel::gpu {
namespace {

constexpr std::uint64_t kMinStageBytes = 64U << 10U;
constexpr std::uint64_t kMaxStageBytes = 32U << 20U;
constexpr std::uint64_t kMaxStagesBytes = 64U << 20U;
/// Between offers of a completion to an executor whose queue is full.
constexpr std::uint64_t kOfferAgainNs = 50'000;
/// Between looks whether what a store needs is registered.
constexpr std::uint64_t kLookAgainNs = 200'000;

Status out_of_range(const char* name, std::uint64_t value, const char* valid) {
  return fail(ErrorCode::kInvalidArgument, fmt::format("GPU copies: {} is {}; valid is {}", name, value, valid));
}

}  // namespace

Status check_options(const GpuCopyOptions& options) {
  if (options.max_jobs == 0) return out_of_range("max_jobs", 0, "1 and more");
  for (const auto& [name, bytes] : {std::pair{"store_stage_bytes", options.store_stage_bytes},
                                    std::pair{"load_stage_bytes", options.load_stage_bytes}}) {
    if (bytes < kMinStageBytes || bytes > kMaxStageBytes) return out_of_range(name, bytes, "64 KiB to 32 MiB");
  }
  // Counts first, so that the sum cannot wrap.
  const std::uint64_t most = kMaxStagesBytes / kMinStageBytes;
  if (options.store_stages > most || options.load_stages > most ||
      options.store_stages * options.store_stage_bytes + options.load_stages * options.load_stage_bytes >
          kMaxStagesBytes) {
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("GPU copies: store_stages is {} and load_stages {}; valid is what keeps all stages within 64 MiB",
                    options.store_stages, options.load_stages));
  }
  for (const auto& [name, bytes] : {std::pair{"store_chunk_bytes", options.store_chunk_bytes},
                                    std::pair{"load_chunk_bytes", options.load_chunk_bytes}}) {
    if (bytes < 4096) return out_of_range(name, bytes, "4 KiB and more");
  }
  if (options.depth == 0 || options.depth > 64) return out_of_range("depth", options.depth, "1 to 64");
  for (const auto& [name, queues] :
       {std::pair{"store_queues", options.store_queues}, std::pair{"load_queues", options.load_queues}}) {
    if (queues == 0 || queues > kDmaQueues) return out_of_range(name, queues, "1 or 2");
  }
  if (options.kernel_blocks == 0) return out_of_range("kernel_blocks", 0, "1 and more");
  if (!std::has_single_bit(options.register_piece_bytes) || options.register_piece_bytes < 65'536) {
    return out_of_range("register_piece_bytes", options.register_piece_bytes, "a power of two from 64 KiB on");
  }
  if (options.register_threads == 0 || options.register_threads > 64) {
    return out_of_range("register_threads", options.register_threads, "1 to 64");
  }
  if (options.store_floor_percent < 100 && options.link_bytes_per_second == 0) {
    return out_of_range("link_bytes_per_second", 0, "the speed of the bus, where stores keep a floor of it");
  }
  return {};
}

struct StagedCopyEngine::Completions {
  explicit Completions(Executor& owner) : executor(owner) {}
  Executor& executor;
  std::atomic<std::uint64_t> in_flight{0};  // pairs: run (release) with in_flight() (acquire)

  void run(FinishedJob& finished) {
    if (finished.job.done) finished.job.done(finished.status);
    finished.job = {};  // what the completion owns goes before the job is counted out
    in_flight.fetch_sub(1, std::memory_order_release);
    executor.wake();
  }
};

StagedCopyEngine::StagedCopyEngine(Executor& executor, const Clock& clock, std::unique_ptr<CopyDevice> device,
                                   const GpuCopyOptions& options, std::optional<PathCosts> costs)
    : executor_(executor),
      clock_(clock),
      options_(options),
      device_(std::move(device)),
      registration_(
          *device_,
          {.number = options.device, .piece_bytes = options.register_piece_bytes, .threads = options.register_threads}),
      host_(executor, {.max_jobs = options.max_jobs}),
      feeder_(*device_, options, costs),
      completions_(std::make_shared<Completions>(executor)),
      thread_([this] { work(); }) {}

StagedCopyEngine::~StagedCopyEngine() {
  close();
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  work_.notify_one();
  thread_.join();
}

void StagedCopyEngine::close() noexcept {
  host_.close();
  const MutexLock lock(mutex_);
  closed_ = true;
}

std::uint64_t StagedCopyEngine::in_flight() const noexcept {
  return completions_->in_flight.load(std::memory_order_acquire) + host_.in_flight();
}

Status StagedCopyEngine::health() const {
  const MutexLock lock(mutex_);
  return error_ ? Status(tl::unexpected<Error>(*error_)) : Status{};
}

GpuCopyStats StagedCopyEngine::stats() const noexcept {
  const MutexLock lock(mutex_);
  return stats_;
}

std::string StagedCopyEngine::describe() const {
  const std::uint64_t run = feeder_.choice().merges_from();
  if (run == UINT64_MAX) return device_->describe();
  return fmt::format("{}, loads merged from runs of {} KiB", device_->describe(), run >> 10U);
}

bool StagedCopyEngine::reserve() {
  const MutexLock lock(mutex_);
  if (closed_ || error_) return false;
  if (in_flight() >= options_.max_jobs) return false;
  completions_->in_flight.fetch_add(1, std::memory_order_relaxed);
  return true;
}

bool StagedCopyEngine::submit_impl(CopyJob& job) {
  const auto* plan = std::get_if<CopyPlan>(&job.work);
  const auto* range = std::get_if<ByteCopy>(&job.work);
  const bool on_gpu = plan != nullptr ? device_->owns(plan->geometry().pieces().front().engine)
                                      : device_->owns(range->to) || device_->owns(range->from);
  if (!reserve()) return false;
  std::optional<Ticket> gate;
  std::optional<Error> error;
  if (!on_gpu && job.after_event == nullptr) {
    completions_->in_flight.fetch_sub(1, std::memory_order_release);
    return job.ahead == nullptr && host_.submit(std::move(job));
  }
  if (job.after_event != nullptr) {
    auto ticket = device_->gate(job.direction, job.after_event);
    if (ticket) {
      gate = *ticket;
    } else {
      error = std::move(ticket).error();
    }
  }
  bool wake = false;
  {
    const MutexLock lock(mutex_);
    if (error) {
      completions_->in_flight.fetch_sub(1, std::memory_order_release);
      error_ = error_ ? error_ : std::move(error);
      return false;
    }
    inbox_.push_back({std::move(job), gate, on_gpu ? TensorPlace::kGpu : TensorPlace::kHost});
    wake = sleeping_;
  }
  if (wake) work_.notify_one();
  return true;
}

bool StagedCopyEngine::take_jobs(std::vector<Intake>& jobs) {
  const MutexLock lock(mutex_);
  std::swap(jobs, inbox_);
  return stopping_;
}

void StagedCopyEngine::work() {
  pthread_setname_np(pthread_self(), fmt::format("tiercel-gpu-{}", options_.device).c_str());
  prctl(PR_SET_TIMERSLACK, 1000UL);  // ns; the usual 50 us are longer than a chunk
  std::vector<Intake> jobs;
  std::vector<FinishedJob> finished;
  Status begun = device_->begin_thread();
  if (!begun) feeder_.fail_with(std::move(begun).error());
  for (;;) {
    const bool stopping = take_jobs(jobs);
    feed(jobs, stopping);
    feeder_.pass(clock_.now_ns(), finished);
    publish();
    complete(finished, stopping);
    if (stopping && !feeder_.active() && finished.empty()) return;  // closed before, so no job comes
    std::uint64_t next_event_ns = feeder_.next_event_ns();
    if (!finished.empty()) next_event_ns = clock_.now_ns() + kOfferAgainNs;
    if (!held_.empty()) next_event_ns = std::min(next_event_ns, look_again_ns_);
    wait_for_work(next_event_ns);
  }
}

bool StagedCopyEngine::reachable(const CopyJob& job) {
  if (const auto* plan = std::get_if<CopyPlan>(&job.work)) {
    return registration_.ask_for(plan->slots(), plan->geometry().block_bytes());
  }
  const auto& copy = std::get<ByteCopy>(job.work);
  std::byte* host =
      job.direction == CopyDirection::kStore ? copy.to : const_cast<std::byte*>(copy.from);  // not written
  return registration_.ask_for(std::span(&host, 1), copy.bytes);
}

void StagedCopyEngine::feed(std::vector<Intake>& jobs, bool stopping) {
  const auto take = [&](Intake& intake, bool reached) {
    feeder_.take(std::move(intake.job), intake.gate, intake.place, reached);
  };
  for (Intake& intake : jobs) {
    const bool goes = reachable(intake.job);  // if not, its pieces come next
    if (intake.job.direction == CopyDirection::kLoad || (goes && held_.empty())) {
      take(intake, goes);
    } else {
      held_.push_back(std::move(intake));
    }
  }
  jobs.clear();
  if (held_.empty()) return;
  const std::uint64_t now_ns = clock_.now_ns();
  for (auto held = held_.begin(); held != held_.end();) {
    if (held->job.deadline_ns > now_ns) {
      ++held;
      continue;
    }
    take(*held, false);  // the feeder ends it
    held = held_.erase(held);
  }
  const bool all = stopping || feeder_.error();
  if (!all && now_ns < look_again_ns_) return;
  while (!held_.empty() && (all || reachable(held_.front().job))) {
    take(held_.front(), !all);
    held_.pop_front();
  }
  look_again_ns_ = now_ns + kLookAgainNs;
}

void StagedCopyEngine::publish() {
  std::optional<Error> fresh;
  {
    const MutexLock lock(mutex_);
    stats_ = feeder_.stats();
    if (!error_ && feeder_.error()) fresh = error_ = feeder_.error();
  }
  if (fresh) {
    log_line(LogLevel::kError, "gpu_copies",
             fmt::format("GPU copies are switched off until the process ends: {}", fresh->message));
  }
}

void StagedCopyEngine::complete(std::vector<FinishedJob>& finished, bool last) {
  std::size_t handed = 0;
  for (FinishedJob& job : finished) {
    auto shared = std::make_shared<FinishedJob>(std::move(job));
    if (executor_.submit([completions = completions_, shared] { completions->run(*shared); })) {
      ++handed;
    } else if (last) {
      completions_->run(*shared);
      ++handed;
    } else {
      job = std::move(*shared);
      break;
    }
  }
  finished.erase(finished.begin(), finished.begin() + static_cast<std::ptrdiff_t>(handed));
}

void StagedCopyEngine::wait_for_work(std::uint64_t next_event_ns) {
  const std::uint64_t now_ns = clock_.now_ns();
  if (next_event_ns == 0) {
    if (options_.poll_ns > 0) std::this_thread::sleep_for(std::chrono::nanoseconds(options_.poll_ns));
    return;
  }
  if (next_event_ns <= now_ns) return;
  const std::uint64_t linger_end_ns = std::min(next_event_ns, deadline_after(now_ns, options_.linger_ns));
  while (options_.linger_ns > 0 && clock_.now_ns() < linger_end_ns) {
    const MutexLock lock(mutex_);
    if (!inbox_.empty() || stopping_) return;
  }
  MutexLock lock(mutex_);
  sleeping_ = true;
  const auto ready = [this]() TIERCEL_NO_THREAD_SAFETY_ANALYSIS { return !inbox_.empty() || stopping_; };
  if (next_event_ns == UINT64_MAX) {
    work_.wait(lock.native(), ready);
  } else {
    work_.wait_for(lock.native(), std::chrono::nanoseconds(next_event_ns - now_ns), ready);
  }
  sleeping_ = false;
}

}  // namespace tiercel::gpu
