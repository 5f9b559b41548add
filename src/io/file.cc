#include "io/file.h"

#include "base/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <system_error>
#include <utility>

namespace tiercel {

struct File::Operation {
  enum class State : std::uint8_t {
    kFree,
    kWaiting,  ///< not in the backend: it had no room, or a short transfer goes on
    kStarted,
    kExpired,  ///< in the backend, `done` has been called
  };

  IoJob job;
  std::array<struct iovec, IoJob::kMaxSegments> buffers{};  ///< what is left of the segments
  std::uint64_t bytes = 0;
  std::uint64_t moved = 0;
  State state = State::kFree;
};

namespace {

std::string describe(const IoJob& job) {
  if (job.kind == IoKind::kSync) return "sync";
  return fmt::format("{} of {} bytes at {}", job.kind == IoKind::kRead ? "read" : "write", job.bytes(), job.offset);
}

tl::unexpected<Error> system_failure(const IoJob& job, int error) {
  return fail(ErrorCode::kIo, fmt::format("{}: {}", describe(job), std::system_category().message(error)), error);
}

tl::unexpected<Error> timeout(const IoJob& job) {
  return fail(ErrorCode::kTimeout, describe(job) + ": not done at its deadline");
}

/// The segments without their first `moved` bytes; returns how many are left.
std::size_t remaining_buffers(const IoJob& job, std::uint64_t moved,
                              std::array<struct iovec, IoJob::kMaxSegments>& buffers) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < job.segment_count; ++i) {
    const IoSegment& segment = job.segments[i];
    const std::uint64_t skipped = std::min(moved, segment.bytes);
    moved -= skipped;
    if (skipped == segment.bytes) continue;
    buffers[count++] = {.iov_base = segment.data + skipped, .iov_len = segment.bytes - skipped};
  }
  return count;
}

}  // namespace

File::File(std::unique_ptr<IoBackend> backend, const Clock& clock)
    : backend_(std::move(backend)), clock_(clock), operations_(backend_->depth()) {
  free_.reserve(operations_.size());
  waiting_.reserve(2 * operations_.size());
  for (std::uint32_t id = backend_->depth(); id > 0; --id) free_.push_back(id - 1);
}

File::~File() { TIERCEL_CHECK(in_flight_ == 0, "a File is destroyed while operations are in flight"); }

bool File::submit(IoJob&& job) {
  if (free_.empty()) return false;
  Operation& operation = operations_[free_.back()];
  free_.pop_back();
  ++in_flight_;
  operation.job = std::move(job);
  if (operation.job.kind == IoKind::kSync) operation.job.segment_count = 0;
  operation.bytes = operation.job.bytes();
  operation.moved = 0;
  operation.state = Operation::State::kWaiting;
  next_deadline_ns_ = std::min(next_deadline_ns_, operation.job.deadline_ns);
  // A malformed job waits for poll(), which alone calls `done`.
  if (!waiting_.empty() || !check_job(operation.job) || !start(operation)) waiting_.push_back(id_of(operation));
  return true;
}

std::size_t File::poll(std::uint64_t wait_ns) {
  TIERCEL_CHECK(!polling_, "File::poll is called from within a job's done");
  polling_ = true;
  std::size_t ended = start_waiting();
  std::uint64_t wait = ended > 0 ? 0 : std::min(wait_ns, until(next_deadline_ns_));
  std::array<IoReaped, 32> reaped;
  std::size_t count = 0;
  do {
    count = backend_->reap(reaped, wait);
    for (std::size_t i = 0; i < count; ++i) ended += take(reaped[i]);
    wait = 0;
  } while (count == reaped.size());
  ended += expire();
  ended += start_waiting();
  polling_ = false;
  return ended;
}

void File::excuse(std::uint64_t ns) noexcept {
  for (Operation& operation : operations_) operation.job.deadline_ns = deadline_after(operation.job.deadline_ns, ns);
  next_deadline_ns_ = deadline_after(next_deadline_ns_, ns);
}

Status File::run(IoJob job) {
  TIERCEL_CHECK(!job.done, "File::run is given a job with a done of its own");
  std::optional<Status> outcome;
  job.done = [&outcome](const Status& status) { outcome = status; };
  const std::uint64_t deadline_ns = job.deadline_ns;
  while (!submit(std::move(job))) {                    // NOLINT(bugprone-use-after-move): a refused job is untouched
    if (until(deadline_ns) == 0) return timeout(job);  // NOLINT(bugprone-use-after-move): untouched
    poll(until(deadline_ns));
  }
  while (!outcome) poll(UINT64_MAX);
  wake();
  return *outcome;
}

Status File::check_job(const IoJob& job) const {
  if (job.segment_count > IoJob::kMaxSegments) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("an IO of {} segments; at most {} are possible", job.segment_count, IoJob::kMaxSegments));
  }
  if (job.kind == IoKind::kSync) return {};
  std::uint64_t bits = job.offset;
  for (std::size_t i = 0; i < job.segment_count; ++i) {
    bits |= job.segments[i].bytes | reinterpret_cast<std::uintptr_t>(job.segments[i].data);
  }
  if (job.bytes() == 0) return fail(ErrorCode::kInvalidArgument, describe(job) + ": there is nothing to move");
  if ((bits & (backend_->alignment() - 1U)) != 0) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("{}: offset, buffers and lengths must be multiples of {}",
                                                         describe(job), backend_->alignment()));
  }
  return {};
}

bool File::start(Operation& operation) {
  const std::size_t count = remaining_buffers(operation.job, operation.moved, operation.buffers);
  const IoOperation request{.id = id_of(operation),
                            .kind = operation.job.kind,
                            .offset = operation.job.offset + operation.moved,
                            .buffers = std::span(operation.buffers).first(count)};
  if (!backend_->start(request)) return false;
  operation.state = Operation::State::kStarted;
  return true;
}

/// What `done` submits meanwhile stands behind and has its turn with the next poll, so that this one ends.
std::size_t File::start_waiting() {
  std::size_t ended = 0;
  std::size_t passed = 0;
  for (const std::size_t count = waiting_.size(); passed < count; ++passed) {
    Operation& operation = operations_[waiting_[passed]];
    if (const Status valid = check_job(operation.job); !valid) {
      end(operation, valid);
      ++ended;
    } else if (!start(operation)) {
      break;
    }
  }
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(passed));
  return ended;
}

std::size_t File::take(const IoReaped& reaped) {
  TIERCEL_CHECK(reaped.id < operations_.size(), "the backend reaps an operation that was never started");
  Operation& operation = operations_[reaped.id];
  if (operation.state == Operation::State::kExpired) {
    --expired_;
    expired_bytes_ -= operation.bytes;
    release(operation);
    return 0;
  }
  TIERCEL_CHECK(operation.state == Operation::State::kStarted, "the backend reaps an operation that is not in flight");
  const IoJob& job = operation.job;
  if (reaped.result == -EINTR || reaped.result == -EAGAIN) return go_on(operation);
  if (reaped.result < 0) {
    end(operation, system_failure(job, static_cast<int>(-reaped.result)));
    return 1;
  }
  // A transfer that ends inside a page goes on from the page's start; without a whole page it cannot go on at all.
  const std::uint64_t alignment_mask = backend_->alignment() - 1U;
  const auto result = static_cast<std::uint64_t>(reaped.result);
  TIERCEL_CHECK(result <= operation.bytes - operation.moved, "the backend moved more than it was asked to");
  const bool whole = operation.moved + result == operation.bytes;
  operation.moved += whole ? result : result & ~alignment_mask;
  if (whole || job.kind == IoKind::kSync) {
    end(operation, {});
  } else if (result > alignment_mask) {
    return go_on(operation);
  } else if (job.kind == IoKind::kRead) {
    end(operation, fail(ErrorCode::kIo, fmt::format("{}: the file ends {} bytes after its start", describe(job),
                                                    operation.moved + result)));
  } else {
    end(operation, fail(ErrorCode::kIo, describe(job) + ": the system took no more of it, without saying why"));
  }
  return 1;
}

/// Starts the rest of an operation, or ends it where its time is over: its buffers are nobody's now.
std::size_t File::go_on(Operation& operation) {
  if (until(operation.job.deadline_ns) == 0) {
    end(operation, timeout(operation.job));
    return 1;
  }
  operation.state = Operation::State::kWaiting;
  waiting_.push_back(id_of(operation));
  return 0;
}

std::size_t File::expire() {
  const std::uint64_t now_ns = clock_.now_ns();
  if (now_ns < next_deadline_ns_) return 0;
  next_deadline_ns_ = UINT64_MAX;
  std::size_t ended = 0;
  for (Operation& operation : operations_) {
    if (operation.state == Operation::State::kFree || operation.state == Operation::State::kExpired) continue;
    if (operation.job.deadline_ns > now_ns) {
      next_deadline_ns_ = std::min(next_deadline_ns_, operation.job.deadline_ns);
      continue;
    }
    ++ended;
    if (operation.state == Operation::State::kWaiting) {
      std::erase(waiting_, id_of(operation));
      end(operation, timeout(operation.job));
      continue;
    }
    operation.state = Operation::State::kExpired;
    ++expired_;
    expired_bytes_ += operation.bytes;
    const auto done = std::exchange(operation.job.done, nullptr);
    if (done) done(timeout(operation.job));
  }
  return ended;
}

void File::end(Operation& operation, const Status& status) {
  const std::shared_ptr<void> owner = std::move(operation.job.owner);
  const auto done = std::exchange(operation.job.done, nullptr);
  release(operation);  // first: `done` may submit into this place
  if (done) done(status);
}

void File::release(Operation& operation) {
  const std::shared_ptr<void> owner = std::move(operation.job.owner);
  operation.state = Operation::State::kFree;
  free_.push_back(id_of(operation));
  --in_flight_;
}

std::uint32_t File::id_of(const Operation& operation) const noexcept {
  return static_cast<std::uint32_t>(&operation - operations_.data());
}

std::uint64_t File::until(std::uint64_t deadline_ns) const noexcept {
  if (deadline_ns == UINT64_MAX) return UINT64_MAX;
  const std::uint64_t now_ns = clock_.now_ns();
  return deadline_ns > now_ns ? deadline_ns - now_ns : 0;
}

}  // namespace tiercel
