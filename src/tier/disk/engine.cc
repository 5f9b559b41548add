#include "tier/disk/engine.h"

#include "base/log.h"

#include <algorithm>
#include <utility>

namespace tiercel {
namespace {

using disk::Breaker;

/// While a file is being opened nobody can end the wait; close() is seen this late at most.
constexpr std::uint64_t kOpeningWaitNs = 50'000'000;
/// Between two looks at a recovery that waits for a read.
constexpr std::uint64_t kRecoveryWaitNs = 10'000'000;
/// A step that does not poll for longer than this has let operations wait that a device may have ended long ago.
constexpr std::uint64_t kAbsenceNs = 100'000'000;

const char* state_name(DiskState state) noexcept {
  switch (state) {
    case DiskState::kStarting:
      return "starting";
    case DiskState::kOn:
      return "on";
    case DiskState::kReadOnly:
      return "read-only";
    case DiskState::kOff:
      return "off";
    case DiskState::kRefused:
      return "refused";
    case DiskState::kClosed:
      return "closed";
  }
  return "unknown";
}

Breaker::Options breaker_options(const DiskOptions& options) {
  return {.probe_interval_ns = options.probe_interval_ns, .quarantine_bytes = options.quarantine_bytes};
}

disk::WritePacer::Options pacer_options(const DiskOptions& options) {
  return {.largest_bytes = options.merge_bytes, .operations = options.depth};
}

}  // namespace

DiskTier::Engine::Engine(DiskOptions options, FileSystem& files, const Clock& clock, DiskEvents& events)
    : options_(std::move(options)),
      files_(files),
      clock_(clock),
      events_(events),
      mailbox_(options_.queued_jobs),
      breaker_(breaker_options(options_)),
      pacer_(pacer_options(options_)),
      device_(options_, clock_, breaker_, counters_),
      watch_(options_, clock_, device_, breaker_, counters_),
      registration_(options_, clock_) {}

DiskTier::Engine::~Engine() {
  mailbox_.close();
  take_mail();
  // One that was closed has nothing left to give up, and may outlive clock and files: handles keep their cache's core.
  if (phase_ != Phase::kClosed) give_up_file({.code = ErrorCode::kClosed, .message = "the disk tier is closed"});
  if (opening_ != nullptr && opening_->in_flight() > 0) disk::abandon(std::shared_ptr<void>(std::move(opening_)));
}

DiskCounters DiskTier::Engine::counters() const {
  const MutexLock lock(published_mutex_);
  DiskCounters now = published_;
  now.queued = mailbox_.unanswered();  // also what came since the last step
  return now;
}

bool DiskTier::Engine::idle() const noexcept {
  return !busy_.load(std::memory_order_acquire) && mailbox_.unanswered() == 0 && !mailbox_.has_mail();
}

bool DiskTier::Engine::step(std::uint64_t wait_ns) {
  const std::uint64_t begun_ns = clock_.now_ns();
  advance();
  take_mail();
  run_lanes();
  excuse_absence(begun_ns);
  wait_and_poll(wait_ns);
  const std::uint64_t polled_ns = clock_.now_ns();
  advance();
  take_mail();
  run_lanes();
  watch();
  judge();
  if (discard_wanted_ && phase_ == Phase::kUp && state() == DiskState::kOn) lose("what it holds is given up", false);
  publish();
  away_ns_ = clock_.now_ns() - polled_ns;
  return phase_ != Phase::kClosed || busy_.load(std::memory_order_relaxed);
}

/// What the owner does when it is told something takes its time, above all while millions of blocks are indexed.
void DiskTier::Engine::excuse_absence(std::uint64_t since_ns) {
  const std::uint64_t absent_ns = std::exchange(away_ns_, 0) + clock_.now_ns() - since_ns;
  if (absent_ns < kAbsenceNs) return;
  device_.excuse(absent_ns);
  if (recovery_ != nullptr) recovery_->excuse(absent_ns);
}

void DiskTier::Engine::take_mail() {
  disk::Mail mail;
  mailbox_.take(mail);
  if (volume_ == nullptr) {
    mailbox_.refuse(mail, {.code = ErrorCode::kIo, .message = "the disk tier has no file: " + cause_});
    return;
  }
  // What is deleted while the table is read does not come up from it later.
  if (phase_ == Phase::kRecovering) {
    for (const disk::OrderedJob& job : mail.ordered) {
      const auto* burial = std::get_if<disk::BuryJob>(&job);
      if (burial == nullptr) continue;
      for (const Tombstone& tombstone : burial->tombstones) recovery_->reader().bury(tombstone);
    }
  }
  volume_->take(mail);
}

void DiskTier::Engine::run_lanes() {
  if (volume_ == nullptr) return;
  volume_->expire();
  if (breaker_.reads_open()) {
    const std::string cause = "the device is not used: " + breaker_.cause();
    volume_->fail_reads({.code = ErrorCode::kClosed, .message = cause});  // not kIo: their blocks are as good as before
    volume_->fail_writes({.code = ErrorCode::kIo, .message = cause});
  } else if (breaker_.writes_open()) {
    volume_->fail_writes({.code = ErrorCode::kIo, .message = "nothing can be written: " + breaker_.cause()});
  }
  volume_->start();
}

void DiskTier::Engine::wait_and_poll(std::uint64_t wait_ns) {
  const std::uint64_t now_ns = clock_.now_ns();
  const std::uint64_t event_ns = next_event_ns();
  wait_ns = std::min(wait_ns, event_ns > now_ns ? event_ns - now_ns : 0);
  if (phase_ == Phase::kOpening) {
    (void)opening_->step(std::min(wait_ns, kOpeningWaitNs));
  } else if (device_.file() == nullptr) {
    device_.poll(0);
    if (opening_ != nullptr) (void)opening_->step(0);
    if (wait_ns > 0) mailbox_.wait(device_.in_flight() > 0 ? std::min(wait_ns, kOpeningWaitNs) : wait_ns);
  } else {
    const bool may_wait = wait_ns > 0 && mailbox_.begin_wait();
    device_.poll(may_wait ? wait_ns : 0);
    if (may_wait) mailbox_.end_wait();
  }
}

std::uint64_t DiskTier::Engine::next_event_ns() const {
  const std::uint64_t now_ns = clock_.now_ns();
  if (phase_ == Phase::kNone) return mailbox_.closing() ? now_ns : std::max(next_try_ns_, now_ns + 1);
  if (volume_ == nullptr) return UINT64_MAX;
  std::uint64_t event_ns = volume_->next_deadline();
  if (phase_ == Phase::kRecovering || phase_ == Phase::kUp) event_ns = std::min(event_ns, watch_.next_event());
  if (phase_ == Phase::kUp) event_ns = std::min(event_ns, registration_.next_event());
  if (volume_->writes_wait()) event_ns = std::min(event_ns, pacer_.next_change(now_ns));
  if (phase_ == Phase::kRecovering) {
    const bool went_on = owner_is_at_it_ || recovery_->reader().report().bytes_read != recovered_bytes_;
    event_ns = std::min(event_ns, went_on ? now_ns : now_ns + kRecoveryWaitNs);
  }
  return event_ns;
}

void DiskTier::Engine::watch() {
  if (phase_ != Phase::kRecovering && phase_ != Phase::kUp) return;
  watch_.step(volume_->metadata(), device_.take_short_read());
  if (phase_ == Phase::kUp) registration_.step(device_.file()->backend());
  if (const auto lost = watch_.take_lost()) lose(lost->cause, lost->empty);
}

/// The state, from what the breaker says of the device.
void DiskTier::Engine::judge() {
  if (phase_ != Phase::kRecovering && phase_ != Phase::kUp) return;
  breaker_.on_quarantine(volume_->late_bytes() + device_.late_write_bytes(), clock_.now_ns());
  if (breaker_.reads_open() && phase_ == Phase::kRecovering) {
    // Its owner goes on without what the table still has; when the device is well the table is read from its beginning,
    // and this time to its end, whatever reads of blocks would say.
    quiet_ = true;
    lose(breaker_.cause(), false);
  } else if (breaker_.reads_open()) {
    set_state(DiskState::kOff, breaker_.cause());
  } else if (phase_ == Phase::kRecovering) {
    set_state(DiskState::kStarting, "the header table is read");
  } else if (breaker_.writes_open()) {
    set_state(DiskState::kReadOnly, breaker_.cause());
  } else {
    set_state(DiskState::kOn, "");
  }
}

void DiskTier::Engine::update_doors() {
  const DiskState state = state_.load(std::memory_order_relaxed);
  const bool up = phase_ == Phase::kRecovering || phase_ == Phase::kUp;
  const bool serves = state == DiskState::kStarting || state == DiskState::kOn;
  const bool reads = (serves || state == DiskState::kReadOnly) && !(quiet_ && phase_ == Phase::kRecovering);
  mailbox_.set_doors({.reads = up && reads, .writes = up && serves, .clears = up});
}

void DiskTier::Engine::set_state(DiskState state, const std::string& cause) {
  cause_ = cause;
  if (state_.load(std::memory_order_relaxed) == state) return;
  const bool expected = state == DiskState::kStarting || state == DiskState::kOn || state == DiskState::kClosed;
  state_.store(state, std::memory_order_release);
  update_doors();
  log_line(expected ? LogLevel::kInfo : LogLevel::kWarn, "disk_state",
           options_.directory + ": " + state_name(state) + (cause.empty() ? "" : ": " + cause));
  events_.on_state(state, cause);
}

void DiskTier::Engine::publish() {
  counters_.breaker_trips = breaker_.trips();
  counters_.probes = breaker_.probes();
  counters_.in_flight = device_.in_flight() + (opening_ == nullptr ? 0 : opening_->in_flight());
  counters_.queued = mailbox_.unanswered();
  counters_.quarantined_bytes = volume_ == nullptr ? 0 : volume_->late_bytes() + device_.late_write_bytes();
  const bool lanes = volume_ != nullptr && !volume_->idle();
  const bool closing = mailbox_.closing() && phase_ != Phase::kClosed;
  busy_.store(lanes || closing || counters_.in_flight > 0, std::memory_order_release);
  const MutexLock lock(published_mutex_);
  published_ = counters_;
}

}  // namespace tiercel
