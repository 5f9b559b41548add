#include "tier/disk/device.h"

#include "base/check.h"
#include "base/log.h"
#include "base/mutex.h"
#include "tier/disk/format.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace tiercel::disk {

struct Device::Token {
  std::uint64_t incarnation = 0;
  std::uint64_t late_bytes = 0;
  std::shared_ptr<void> keep;
  std::function<void()> ended;
};

void abandon(std::shared_ptr<void> kept) {
  static auto* mutex = new Mutex;                                    // guards everything that is kept
  static auto* everything = new std::vector<std::shared_ptr<void>>;  // never destroyed
  const MutexLock lock(*mutex);
  everything->push_back(std::move(kept));
}

std::shared_ptr<std::byte> allocate_pages(std::uint64_t bytes) {
  void* memory = std::aligned_alloc(kPageBytes, bytes);
  TIERCEL_CHECK(memory != nullptr, "no memory for pages of metadata");
  std::memset(memory, 0, bytes);
  return {static_cast<std::byte*>(memory), [](std::byte* pages) { std::free(pages); }};
}

Device::Device(const DiskOptions& options, const Clock& clock, Breaker& breaker, DiskCounters& counters)
    : options_(options),
      clock_(clock),
      breaker_(breaker),
      counters_(counters),
      ended_(std::make_shared<std::vector<std::unique_ptr<Token>>>()) {}

Device::~Device() {
  give_up();
  for (auto& [file, empty_it] : given_up_) {
    log_line(LogLevel::kWarn, "disk_abandoned",
             "operations of " + options_.directory + " never ended: their file and memory stay until the process ends");
    abandon(std::shared_ptr<File>(std::move(file)));
  }
}

void Device::open(std::unique_ptr<File> file) {
  TIERCEL_CHECK(file_ == nullptr, "a file is opened over another");
  file_ = std::move(file);
  short_read_ = false;
}

void Device::give_up(bool empty_it) {
  ++incarnation_;
  late_write_bytes_ = 0;
  if (file_ != nullptr) given_up_.push_back({.file = std::move(file_), .empty_it = empty_it});
  let_go();
}

/// Files whose last operation has ended.
void Device::let_go() {
  std::erase_if(given_up_, [](const GivenUp& old) {
    if (old.file->in_flight() > 0) return false;
    if (old.empty_it) (void)old.file->backend().truncate(0);  // else it stays damaged, and is refused
    return true;
  });
}

bool Device::room(IoClass io_class) const noexcept {
  if (file_ == nullptr) return false;
  std::uint32_t places = options_.depth;
  if (io_class != IoClass::kData) places += kMetadataPlaces;
  if (io_class == IoClass::kProbe) places += kProbePlaces;
  return file_->in_flight() < std::min(places, file_->depth());
}

void Device::submit(DeviceIo io) {
  auto token = std::make_unique<Token>();
  token->incarnation = incarnation_;
  token->keep = std::move(io.keep);
  token->ended = std::move(io.ended);
  Token* const raw = token.get();
  IoJob job{.kind = io.kind,
            .offset = io.offset,
            .segments = io.segments,
            .segment_count = io.segment_count,
            .deadline_ns = deadline_after(clock_.now_ns(), options_.io_deadline_ns)};
  const std::uint64_t bytes = job.bytes();
  job.done = [this, raw, bytes, kind = io.kind, io_class = io.io_class, incarnation = incarnation_,
              done = std::move(io.done)](const Status& status) {
    if (incarnation != incarnation_) return;
    if (!status && status.error().code == ErrorCode::kTimeout && kind == IoKind::kWrite) {
      raw->late_bytes = bytes;
      late_write_bytes_ += bytes;
    }
    judge(kind, io_class, status);
    done(status);
  };
  job.owner = std::shared_ptr<void>(token.release(), [ended = ended_](void* memory) {
    std::unique_ptr<Token> own(static_cast<Token*>(memory));
    own->keep.reset();
    ended->push_back(std::move(own));
  });
  TIERCEL_CHECK(file_ != nullptr && file_->submit(std::move(job)), "an operation is submitted without room");
}

void Device::judge(IoKind kind, IoClass io_class, const Status& status) {
  const bool reads = kind == IoKind::kRead;
  if (io_class == IoClass::kProbe) return;  // on_probe hears of it
  if (status) {
    if (reads) breaker_.on_read_ok();
    return;
  }
  const Error& error = status.error();
  const std::uint64_t now_ns = clock_.now_ns();
  if (error.code == ErrorCode::kTimeout) {
    breaker_.on_stall(now_ns, error.message);
  } else if (!reads) {
    ++counters_.write_errors;
    breaker_.on_write_failure(now_ns, error.message);
  } else {
    const bool cut_off = error.os_error == 0;
    ++(cut_off ? counters_.short_reads : counters_.read_errors);
    short_read_ = short_read_ || cut_off;
    breaker_.on_read_failure(now_ns, error.message);
  }
}

void Device::run_ended() {
  while (!ended_->empty()) {
    for (const auto& token : std::exchange(*ended_, {})) {
      ++counters_.ended_operations;
      if (token->incarnation != incarnation_) continue;
      late_write_bytes_ -= token->late_bytes;
      if (token->ended) token->ended();
    }
  }
}

void Device::poll(std::uint64_t wait_ns) {
  for (const GivenUp& old : given_up_) (void)old.file->poll(0);
  let_go();
  if (file_ != nullptr) (void)file_->poll(wait_ns);
  run_ended();
}

std::uint64_t Device::in_flight() const noexcept {
  std::uint64_t sum = file_ == nullptr ? 0 : file_->in_flight();
  for (const GivenUp& old : given_up_) sum += old.file->in_flight();
  return sum;
}

}  // namespace tiercel::disk
