#include "cache/streamed_loads.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <utility>

namespace tiercel {
namespace {

constexpr std::uint64_t kChunkBytes = 16U << 20U;
constexpr std::chrono::microseconds kLookAgain{50};

}  // namespace

StreamedLoads::~StreamedLoads() {
  close();
  std::thread thread;
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    thread = std::move(thread_);
    changed_.notify_all();
  }
  if (thread.joinable()) thread.join();
}

void StreamedLoads::close() noexcept {
  {
    const MutexLock lock(mutex_);
    closed_.store(true);
  }
  while (open() > 0) std::this_thread::sleep_for(kLookAgain);
}

Status StreamedLoads::add(Load load, std::vector<std::uint32_t> pages, Ended ended) {
  auto stream = std::make_shared<Stream>();
  stream->load = std::move(load);
  stream->pages = std::move(pages);
  stream->ended = std::move(ended);
  const MutexLock lock(mutex_);
  if (closed_.load()) return fail(ErrorCode::kClosed, "the transfer was closed");
  if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
  streams_.push_back(std::move(stream));
  changed_.notify_all();
  return {};
}

std::size_t StreamedLoads::open() const noexcept {
  const MutexLock lock(mutex_);
  return streams_.size();
}

void StreamedLoads::work() {
  std::vector<std::shared_ptr<Stream>> streams;
  for (;;) {
    {
      MutexLock lock(mutex_);
      const auto ready = [this]() TIERCEL_NO_THREAD_SAFETY_ANALYSIS { return !streams_.empty() || stopping_; };
      changed_.wait(lock.native(), ready);
      if (streams_.empty()) return;
    }
    try {
      pass(streams);
    } catch (const std::bad_alloc&) {  // as if it had not been looked
    }
    streams.clear();
    std::this_thread::sleep_for(kLookAgain);
  }
}

void StreamedLoads::pass(std::vector<std::shared_ptr<Stream>>& streams) {
  {
    const MutexLock lock(mutex_);
    streams = streams_;
  }
  for (const auto& stream : streams) {
    if (!step(stream)) continue;
    const MutexLock lock(mutex_);
    std::erase(streams_, stream);
  }
}

bool StreamedLoads::step(const std::shared_ptr<Stream>& stream) {
  const std::size_t in_flight = stream->in_flight.load(std::memory_order_acquire);
  std::optional<Error> error;
  {
    const MutexLock lock(stream->mutex);
    error = stream->error;
  }
  const bool final = stream->load.done();
  const std::size_t room = stream->pages.size() / pages_per_block_;
  const std::span<const BlockRef> ready = stream->load.so_far();
  const std::size_t usable = std::min(ready.size(), room);
  const std::size_t fresh = usable - stream->given;
  const bool all = final && fresh == 0;
  if (!error && !all && closed_.load()) {
    error = Error{.code = ErrorCode::kClosed, .message = "the transfer was closed"};
  }
  if (!error && fresh > 0 && (final || in_flight == 0 || fresh * part_bytes_ >= kChunkBytes)) {
    if (Status given = give(stream, ready.subspan(stream->given, fresh)); given) {
      stream->given += fresh;
    } else if (given.error().code != ErrorCode::kLimit) {
      const MutexLock lock(stream->mutex);
      stream->error = std::move(given).error();
    }
    return false;
  }
  if ((!error && !all) || in_flight > 0) return false;
  stream->load = {};
  stream->ended(error ? Status(tl::unexpected<Error>(std::move(*error))) : Status{}, error ? 0 : stream->given);
  return true;
}

Status StreamedLoads::give(const std::shared_ptr<Stream>& stream, std::span<const BlockRef> blocks) {
  std::vector<BlockRef> copied;
  copied.reserve(blocks.size());
  for (const BlockRef& block : blocks) copied.emplace_back(block.begin_copy(), block.bytes());
  const auto pages =
      std::span(stream->pages).subspan(stream->given * pages_per_block_, blocks.size() * pages_per_block_);
  Done done = [stream](const Status& status) {
    if (!status) {
      const MutexLock lock(stream->mutex);
      if (!stream->error) stream->error = status.error();
    }
    stream->in_flight.fetch_sub(1, std::memory_order_release);
  };
  stream->in_flight.fetch_add(1, std::memory_order_relaxed);
  const auto not_taken = [&] { stream->in_flight.fetch_sub(1, std::memory_order_relaxed); };
  try {
    Status taken = copy_(std::move(copied), pages, std::move(done));
    if (!taken) not_taken();
    return taken;
  } catch (const std::bad_alloc&) {  // tried again
    not_taken();
    throw;
  }
}

}  // namespace tiercel
