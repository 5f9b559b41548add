#include "recording/recorder.h"

#include "base/log.h"
#include "base/try.h"
#include "recording/recording_file.h"

#include <tiercel/config.h>

#include <fmt/format.h>
#include <zstd.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <system_error>
#include <utility>

namespace tiercel {
namespace {

constexpr std::size_t kFrameText = 256U << 10U;
constexpr std::uint64_t kFrameAge_ns = 1'000'000'000;
constexpr std::uint64_t kFarewell_ns = 10'000'000'000;
constexpr int kLevel = 3;
constexpr std::size_t kNamed = RecordingLines::kSpaces;
constexpr std::size_t kLongestName = 256;

}  // namespace

void Recorder::FreeContext::operator()(void* context) const noexcept {
  (void)ZSTD_freeCCtx(static_cast<ZSTD_CCtx*>(context));
}

Result<std::unique_ptr<Recorder>> Recorder::begin(Parts parts) {
  ZSTD_CCtx* compression = ZSTD_createCCtx();
  if (compression == nullptr) return fail(ErrorCode::kOutOfMemory, "no memory for compression");
  std::unique_ptr<void, FreeContext> owned(compression);
  (void)ZSTD_CCtx_setParameter(compression, ZSTD_c_compressionLevel, kLevel);
  (void)ZSTD_CCtx_setParameter(compression, ZSTD_c_checksumFlag, 1);
  std::unique_ptr<Recorder> recorder(new Recorder(std::move(parts), std::move(owned)));
  recorder->begin_part();
  TIERCEL_TRY(recorder->write_frame());
  recorder->lines_.clear();
  return recorder;
}

Recorder::Recorder(Parts parts, std::unique_ptr<void, FreeContext> compression)
    : output_(std::move(parts.output)),
      executor_(parts.executor),
      clock_(parts.clock),
      unix_ms_(std::move(parts.unix_ms)),
      max_bytes_(parts.max_bytes),
      ring_(parts.ring_words),
      compression_(std::move(compression)) {
  bytes_.store(output_->size(), std::memory_order_relaxed);
  frame_.reserve(ZSTD_compressBound(2 * kFrameText));
}

Recorder::~Recorder() { close(); }

// ---- on the threads of callers

bool Recorder::is_over() const noexcept {
  return full_.load(std::memory_order_relaxed) || closing_.load(std::memory_order_acquire);
}

void Recorder::heed(RequestRing::Pushed pushed) noexcept {
  using Pushed = RequestRing::Pushed;
  if (pushed == Pushed::kRefused) shed_.fetch_add(1, std::memory_order_relaxed);
  if (pushed == Pushed::kHalfFull) executor_.wake();
  if (pushed == Pushed::kUnheeded && !executor_.submit([this] { work(); })) ring_.unheeded();
}

std::uint32_t Recorder::open_session(std::string_view engine, std::string_view model) noexcept {
  const std::uint32_t number = sessions_.fetch_add(1, std::memory_order_relaxed);
  if (is_over()) return number;
  try {
    std::string text(engine.substr(0, kLongestName));
    text += '\0';
    text += model.substr(0, kLongestName);
    heed(ring_.push({.kind = RequestRing::Kind::kSession, .session = number}, std::string_view(text)));
  } catch (const std::bad_alloc&) {  // it goes without its names
  }
  return number;
}

void Recorder::name_space(const Space& space) noexcept {
  if (is_over()) return;
  const RecordedBlock print = recorded_block(space.fingerprint());
  const MutexLock lock(names_mutex_);
  try {
    if (named_.size() >= kNamed || !named_.insert(print).second) return;
  } catch (const std::bad_alloc&) {
    return;
  }
  const RequestRing::Pushed pushed =
      ring_.push({.kind = RequestRing::Kind::kSpace, .space = print, .block_tokens = space.block_tokens()},
                 std::string_view(space.tenant()).substr(0, kLongestName));
  if (pushed == RequestRing::Pushed::kRefused) named_.erase(print);
  heed(pushed);
}

void Recorder::called(const Call& call, const Space& space, std::span<const BlockHash> chain) noexcept {
  if (chain.empty()) return;
  if (is_over()) {
    shed_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  heed(ring_.push({.kind = static_cast<RequestRing::Kind>(call.kind),
                   .session = call.session,
                   .now_ns = call.now_ns,
                   .space = recorded_block(space.fingerprint())},
                  chain));
}

RequestSinkFigures Recorder::figures() const noexcept {
  return {.requests = requests_.load(std::memory_order_relaxed),
          .shed = shed_.load(std::memory_order_relaxed),
          .bytes = bytes_.load(std::memory_order_relaxed),
          .errors = errors_.load(std::memory_order_relaxed),
          .full = full_.load(std::memory_order_relaxed)};
}

void Recorder::close() noexcept {
  closing_.store(true, std::memory_order_release);
  executor_.wake();
  (void)executor_.wait_until([this] { return !ring_.heeded(); }, deadline_after(clock_.now_ns(), kFarewell_ns));
}

// ---- the writer

void Recorder::work() noexcept {
  Executor& executor = executor_;  // this may be gone once nobody is at work
  do {
    try {
      take_all();
      if (lines_.text().empty()) continue;
      (void)executor_.wait_until([this] { return closing_.load(std::memory_order_acquire) || ring_.half_full(); },
                                 deadline_after(frame_begun_ns_, kFrameAge_ns));
      take_all();
      flush();
    } catch (const std::bad_alloc&) {
      lose(ErrorCode::kOutOfMemory, "no memory");
    }
  } while (!ring_.leave());
  executor.wake();
}

void Recorder::take_all() {
  while (ring_.pop(taken_)) {
    if (full_.load(std::memory_order_relaxed)) {
      shed_.fetch_add(1, std::memory_order_relaxed);
      continue;
    }
    if (lines_.text().empty()) frame_begun_ns_ = clock_.now_ns();
    if (lost_ || lines_.is_full()) begin_part();
    lines_.add(taken_);
    if (lines_.text().size() >= kFrameText) flush();
  }
}

void Recorder::begin_part() {
  lines_.begin_part(unix_ms_(), clock_.now_ns());
  lost_ = false;
}

/// What no frame has is given up.
void Recorder::lose(ErrorCode code, std::string_view why) {
  lines_.clear();
  lost_ = true;
  if (code == ErrorCode::kLimit) {
    full_.store(true, std::memory_order_relaxed);
    log_line(LogLevel::kWarn, "recording_full", why);
  } else {
    errors_.fetch_add(1, std::memory_order_relaxed);
    log_line(LogLevel::kError, "recording", why);
  }
}

void Recorder::flush() {
  if (lines_.text().empty()) return;
  if (const Status status = write_frame(); !status) return lose(status.error().code, status.error().message);
  requests_.fetch_add(lines_.requests(), std::memory_order_relaxed);
  lines_.clear();
}

Status Recorder::write_frame() {
  const std::string& text = lines_.text();
  frame_.resize(ZSTD_compressBound(text.size()));
  const std::size_t size = ZSTD_compress2(static_cast<ZSTD_CCtx*>(compression_.get()), frame_.data(), frame_.size(),
                                          text.data(), text.size());
  if (ZSTD_isError(size) != 0U) return fail(ErrorCode::kIo, ZSTD_getErrorName(size));
  if (output_->size() + size > max_bytes_) {
    return fail(ErrorCode::kLimit, fmt::format("the recording has reached recording.max_size ({}) and ends here",
                                               format_bytes(max_bytes_)));
  }
  TIERCEL_TRY(output_->append(std::span(frame_).first(size)));
  bytes_.store(output_->size(), std::memory_order_relaxed);
  return {};
}

// ---- with a file and a thread

namespace {

struct Running {
  const SteadyClock clock;  // as the caches': times of one are compared
  ThreadedExecutor executor{{.name = "tiercel-record", .threads = 1, .queue_capacity = 4}, clock};
  std::unique_ptr<Recorder> recorder;
};

std::uint64_t unix_ms_now() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(
      std::max<std::int64_t>(0, std::chrono::duration_cast<std::chrono::milliseconds>(now).count()));
}

}  // namespace

Result<std::shared_ptr<Recorder>> open_recorder(const RecordingConfig& config) {
  const auto of_key = [](const Error& error) {
    return fail(error.code, "recording.file: " + error.message, error.os_error);
  };
  auto file = RecordingFile::open(config.file);
  if (!file) return of_key(file.error());
  if ((*file)->cut_bytes() > 0) {
    log_line(LogLevel::kInfo, "recording",
             fmt::format("{}: {} bytes behind the last whole frame were cut off", config.file, (*file)->cut_bytes()));
  }
  try {
    auto running = std::make_shared<Running>();
    auto recorder = Recorder::begin({.output = std::move(*file),
                                     .executor = running->executor,
                                     .clock = running->clock,
                                     .unix_ms = unix_ms_now,
                                     .max_bytes = config.max_size});
    if (!recorder) return of_key(recorder.error());
    running->recorder = std::move(*recorder);
    Recorder* made = running->recorder.get();
    return std::shared_ptr<Recorder>(std::move(running), made);
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kOutOfMemory, "recording.file: no memory for a recording");
  } catch (const std::system_error& error) {
    return fail(ErrorCode::kIo, fmt::format("recording.file: the system gives no thread for it: {}", error.what()),
                error.code().value());
  }
}

}  // namespace tiercel
