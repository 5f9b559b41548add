// Transfer: what stands between a session's blocks and a CopyEngine: the geometry, the engine and its thread, the arena
// that the engine must reach.
//
// A call: checks (O(blocks)), one CopyPlan of three vectors, one submit. The completion lets go of the blocks before
// the copy counts as done. The engine is destroyed first: it waits for what it took, which needs executor, clock and
// arena.
#include <tiercel/transfer.h>

#include "base/clock.h"
#include "base/executor.h"
#include "base/mutex.h"
#include "base/try.h"
#include "cache/layer_ranges.h"
#include "cache/session_access.h"
#include "cache/session_backend.h"
#include "cache/streamed_loads.h"
#include "model/copy_geometry.h"
#include "model/run_table.h"
#include "transfer/gpu_copy_engine.h"
#include "transfer/host_copy_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <new>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

namespace tiercel {
namespace detail {
namespace {

const Clock& steady_clock() {
  static const SteadyClock kClock;
  return kClock;
}

/// Empty where there is none.
std::string default_cache_folder() {
  const auto value = [](const char* name) {
    const char* text = std::getenv(name);
    return std::string(text != nullptr ? text : "");
  };
  if (auto folder = value("TIERCEL_CACHE_DIR"); !folder.empty()) return folder;
  if (auto folder = value("XDG_CACHE_HOME"); !folder.empty()) return folder + "/tiercel";
  if (auto folder = value("HOME"); !folder.empty()) return folder + "/.cache/tiercel";
  return {};
}

}  // namespace

class CopyState {
 public:
  CopyState(std::size_t count, std::uint64_t part_bytes, std::vector<BlockRef> blocks, std::vector<BlockPart> parts)
      : count_(count), part_bytes_(part_bytes), blocks_(std::move(blocks)), parts_(std::move(parts)) {}

  void end(const Status& status) noexcept { end(status, status ? count_.load(std::memory_order_relaxed) : 0); }
  void end(const Status& status, std::size_t copied) noexcept {
    blocks_.clear();
    parts_.clear();
    const MutexLock lock(mutex_);
    copied_ = copied;
    if (status) count_.store(copied, std::memory_order_relaxed);
    status_ = status;
    ended_.notify_all();
  }
  [[nodiscard]] std::size_t copied() const noexcept {
    const MutexLock lock(mutex_);
    return copied_;
  }
  [[nodiscard]] bool done() const noexcept {
    const MutexLock lock(mutex_);
    return status_.has_value();
  }
  [[nodiscard]] Status status() const {
    const MutexLock lock(mutex_);
    if (status_) return *status_;
    return fail(ErrorCode::kIncomplete, "the copy is under way");
  }
  [[nodiscard]] bool wait(std::chrono::nanoseconds at_most) const {
    MutexLock lock(mutex_);
    const auto ended = [this]() TIERCEL_NO_THREAD_SAFETY_ANALYSIS { return status_.has_value(); };
    if (at_most < kForever) return ended_.wait_for(lock.native(), at_most, ended);
    ended_.wait(lock.native(), ended);
    return true;
  }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return count_.load(std::memory_order_relaxed) * part_bytes_; }

  // Written before the copy is submitted, if a stream may wait for it.
  const CopyEngine* engine = nullptr;
  std::shared_ptr<QueuedAhead> ahead;

 private:
  static constexpr std::chrono::nanoseconds kForever = std::chrono::hours(24 * 365);

  std::atomic<std::size_t> count_;  // of blocks, a stream's at its end those that came
  const std::uint64_t part_bytes_;
  std::vector<BlockRef> blocks_;  // until end(), which alone touches them then
  std::vector<BlockPart> parts_;
  mutable Mutex mutex_;
  mutable std::condition_variable ended_;
  std::optional<Status> status_ TIERCEL_GUARDED_BY(mutex_);
  std::size_t copied_ TIERCEL_GUARDED_BY(mutex_) = 0;
};

/// A copy that was submitted ahead waits at most for those before it.
constexpr std::chrono::seconds kQueuedWithin{30};

class TransferCore {
 public:
  [[nodiscard]] static Result<std::unique_ptr<TransferCore>> open(std::shared_ptr<SessionBackend> session,
                                                                  std::span<const EngineTensor> tensors,
                                                                  const RankPart& part, const TransferOptions& options);
  TransferCore(std::shared_ptr<SessionBackend> session, LayerRanges ranges, const TransferOptions& options)
      : session_(std::move(session)),
        ranges_(std::move(ranges)),
        geometry_(ranges_.whole()),
        max_copies_(options.max_copies),
        executor_({.name = "tiercel-copy",
                   .threads = options.device == kHostMemory ? options.threads : 1,
                   .queue_capacity = 2 * options.max_copies + 64},
                  steady_clock()),
        streams_([this](auto blocks, auto pages, auto done) { return give(std::move(blocks), pages, std::move(done)); },
                 geometry_->pages_per_block(), geometry_->part_bytes()) {}

  [[nodiscard]] Status start(const TransferOptions& options);
  /// `slots`: the first byte of each block, of block_bytes.
  [[nodiscard]] Result<Copy> submit(CopyDirection direction, std::vector<std::byte*> slots,
                                    std::span<const std::uint32_t> pages, const CopyOrder& order,
                                    std::vector<BlockRef> blocks, std::vector<BlockPart> parts);
  [[nodiscard]] Result<Copy> stream(Load load, std::span<const std::uint32_t> pages);
  [[nodiscard]] Status check_size(std::size_t place, std::uint64_t bytes) const;

  [[nodiscard]] const CopyGeometry& geometry() const noexcept { return *geometry_; }
  [[nodiscard]] GpuCopyEngine* gpu() const noexcept { return gpu_; }
  [[nodiscard]] Status wait_in_stream(void* stream, const CopyState& copy);
  [[nodiscard]] std::string describe() const;
  void close() noexcept;

 private:
  Status give(std::vector<BlockRef> blocks, std::span<const std::uint32_t> pages, StreamedLoads::Done done);
  /// The session's arena may be another after its service was restarted.
  void reach_arena();

  const std::shared_ptr<SessionBackend> session_;
  LayerRanges ranges_;
  const std::shared_ptr<const CopyGeometry> geometry_;
  const std::size_t max_copies_;
  Mutex mutex_;  // a leaf
  std::vector<std::shared_ptr<const Mapping>> arenas_ TIERCEL_GUARDED_BY(mutex_);
  ThreadedExecutor executor_;
  std::unique_ptr<CopyEngine> engine_;
  GpuCopyEngine* gpu_ = nullptr;  // the same, where it is one
  StreamedLoads streams_;         // ends first: it copies by the engine
};

Result<std::unique_ptr<TransferCore>> TransferCore::open(std::shared_ptr<SessionBackend> session,
                                                         std::span<const EngineTensor> tensors, const RankPart& part,
                                                         const TransferOptions& options) {
  if (options.max_copies == 0 || options.max_copies > 65'536) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("max_copies is {}; it must be from 1 to 65,536", options.max_copies));
  }
  if (options.threads == 0 || options.threads > 256) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("threads is {}; it must be from 1 to 256", options.threads));
  }
  if (options.device < kHostMemory) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("device is {}; it must be a CUDA device's number, or -1 for host memory", options.device));
  }
  const SessionOptions& of = session->options();
  TIERCEL_TRY_ASSIGN(const auto tables, make_run_tables(of.layout, of.block_tokens));
  TIERCEL_TRY_ASSIGN(LayerRanges ranges, LayerRanges::make(tables.front(), tensors, part));
  auto core = std::make_unique<TransferCore>(std::move(session), std::move(ranges), options);
  TIERCEL_TRY(core->start(options));
  return core;
}

Status TransferCore::start(const TransferOptions& options) {
  if (options.device == kHostMemory) {
    engine_ = std::make_unique<HostCopyEngine>(executor_, HostCopyOptions{.max_jobs = options.max_copies});
    return {};
  }
  const std::string folder = options.cache_folder.empty() ? default_cache_folder() : options.cache_folder;
  TIERCEL_TRY_ASSIGN(auto gpu, open_gpu_copy_engine(executor_, steady_clock(),
                                                    {.device = options.device,
                                                     .max_jobs = options.max_copies,
                                                     .store_bytes_per_second = options.store_bytes_per_second,
                                                     .calibrate = options.calibrate,
                                                     .calibration_folder = folder},
                                                    options.library));
  gpu_ = gpu.get();
  engine_ = std::move(gpu);
  reach_arena();
  return {};
}

void TransferCore::reach_arena() {
  auto arena = session_->arena();
  if (!arena) return;
  const MutexLock lock(mutex_);
  if (std::ranges::find(arenas_, arena) != arenas_.end()) return;
  gpu_->register_memory(arena->data(), arena->bytes());
  arenas_.push_back(std::move(arena));
}

Status TransferCore::check_size(std::size_t place, std::uint64_t bytes) const {
  if (bytes == geometry_->block_bytes()) return {};
  return fail(ErrorCode::kInvalidArgument, fmt::format("block {} has {} bytes; this layout's blocks have {}", place,
                                                       bytes, geometry_->block_bytes()));
}

Result<Copy> TransferCore::submit(CopyDirection direction, std::vector<std::byte*> slots,
                                  std::span<const std::uint32_t> pages, const CopyOrder& order,
                                  std::vector<BlockRef> blocks, std::vector<BlockPart> parts) {
  if (order.after_event != nullptr && gpu_ == nullptr) {
    return fail(ErrorCode::kInvalidArgument, "after_event: the tensors lie in host memory, where no event counts");
  }
  if (order.ahead && direction != CopyDirection::kLoad) {
    return fail(ErrorCode::kInvalidArgument, "ahead: is for loads; a store keeps to its pace");
  }
  if (order.ahead && gpu_ == nullptr) {
    return fail(ErrorCode::kInvalidArgument, "ahead: the tensors lie in host memory, where no stream waits");
  }
  const bool some_layers = order.first_layer != 0 || order.end_layer != UINT32_MAX;
  if (some_layers && direction != CopyDirection::kLoad) {
    return fail(ErrorCode::kInvalidArgument, "first_layer, end_layer: are for loads; a store is of all layers");
  }
  TIERCEL_TRY_ASSIGN(auto geometry, ranges_.of(order.first_layer, order.end_layer));
  TIERCEL_TRY_ASSIGN(CopyPlan plan,
                     CopyPlan::make(std::move(geometry), {pages.begin(), pages.end()}, std::move(slots)));
  if (gpu_ != nullptr) {
    TIERCEL_TRY(gpu_->health());
    reach_arena();
  }
  auto state =
      std::make_shared<CopyState>(plan.blocks(), plan.geometry().part_bytes(), std::move(blocks), std::move(parts));
  if (order.ahead) {
    state->ahead = std::make_shared<QueuedAhead>();
    state->engine = engine_.get();
  }
  CopyJob job{.work = std::move(plan),
              .direction = direction,
              .done = [state](const Status& status) { state->end(status); },
              .after_event = order.after_event,
              .ahead = state->ahead};
  if (order.begin_within != std::chrono::nanoseconds::max()) {
    const auto left = std::max(order.begin_within, std::chrono::nanoseconds(0));
    job.deadline_ns = deadline_after(steady_clock().now_ns(), static_cast<std::uint64_t>(left.count()));
  }
  if (engine_->submit(std::move(job))) return Copy(std::move(state));
  if (gpu_ != nullptr) TIERCEL_TRY(gpu_->health());
  return fail(ErrorCode::kLimit, "max_copies copies are in flight, or the transfer is closed");
}

Status TransferCore::give(std::vector<BlockRef> blocks, std::span<const std::uint32_t> pages,
                          StreamedLoads::Done done) {
  std::vector<std::byte*> slots;
  slots.reserve(blocks.size());
  for (const BlockRef& block : blocks) {
    TIERCEL_TRY(check_size(slots.size(), block.bytes().size()));
    slots.push_back(const_cast<std::byte*>(block.bytes().data()));  // a load reads them
  }
  TIERCEL_TRY_ASSIGN(CopyPlan plan, CopyPlan::make(geometry_, {pages.begin(), pages.end()}, std::move(slots)));
  if (gpu_ != nullptr) {
    TIERCEL_TRY(gpu_->health());
    reach_arena();
  }
  auto held = std::make_shared<std::vector<BlockRef>>(std::move(blocks));
  CopyJob job{.work = std::move(plan),
              .direction = CopyDirection::kLoad,
              .done = [held, done = std::move(done)](const Status& status) {
                held->clear();
                done(status);
              }};
  if (engine_->submit(std::move(job))) return {};
  if (gpu_ != nullptr) TIERCEL_TRY(gpu_->health());
  return fail(ErrorCode::kLimit, "max_copies copies are in flight");
}

Result<Copy> TransferCore::stream(Load load, std::span<const std::uint32_t> pages) {
  if (pages.size() % geometry_->pages_per_block() != 0) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("{} pages; it must be a multiple of {}, those of a block",
                                                         pages.size(), geometry_->pages_per_block()));
  }
  for (const std::uint32_t page : pages) {
    if (page < geometry_->page_count()) continue;
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("page {}: the tensors have pages 0 to {}", page, geometry_->page_count() - 1));
  }
  if (gpu_ != nullptr) TIERCEL_TRY(gpu_->health());
  if (streams_.open() >= max_copies_) return fail(ErrorCode::kLimit, "max_copies loads are being streamed");
  auto state = std::make_shared<CopyState>(pages.size() / geometry_->pages_per_block(), geometry_->part_bytes(),
                                           std::vector<BlockRef>(), std::vector<BlockPart>());
  TIERCEL_TRY(streams_.add(std::move(load), {pages.begin(), pages.end()},
                           [state](const Status& status, std::size_t copied) { state->end(status, copied); }));
  return Copy(std::move(state));
}

Status TransferCore::wait_in_stream(void* stream, const CopyState& copy) {
  if (copy.engine != engine_.get() || copy.ahead == nullptr) {
    return fail(ErrorCode::kInvalidArgument,
                "wait_in_stream: the copy is of another transfer, or was not submitted ahead");
  }
  return gpu_->wait_in_stream(stream, *copy.ahead, kQueuedWithin);
}

std::string TransferCore::describe() const {
  if (gpu_ != nullptr) return gpu_->describe();
  return fmt::format("host memory, {} thread{}", executor_.concurrency(), executor_.concurrency() == 1 ? "" : "s");
}

void TransferCore::close() noexcept {
  streams_.close();
  engine_->close();
  (void)executor_.wait_until([this] { return engine_->in_flight() == 0; }, UINT64_MAX);
}

}  // namespace detail

namespace {

tl::unexpected<Error> no_memory() { return fail(ErrorCode::kOutOfMemory, "no memory for the copy's bookkeeping"); }
tl::unexpected<Error> no_thread(const std::system_error& error) {
  return fail(ErrorCode::kIo, fmt::format("threads: the system gives no more threads: {}", error.what()),
              error.code().value());
}
tl::unexpected<Error> moved() { return fail(ErrorCode::kClosed, "the transfer was moved away"); }

}  // namespace

bool Copy::done() const { return state_->done(); }
bool Copy::wait(std::chrono::nanoseconds at_most) const { return state_->wait(at_most); }
Status Copy::status() const { return state_->status(); }
std::size_t Copy::blocks() const noexcept { return state_->copied(); }
std::uint64_t Copy::bytes() const noexcept { return state_->bytes(); }

Result<Transfer> Transfer::open(const Session& session, std::span<const EngineTensor> tensors, const RankPart& part,
                                const TransferOptions& options) {
  const auto& backend = detail::SessionAccess::backend(session);
  if (!backend) return fail(ErrorCode::kClosed, "the session was moved away");
  try {
    TIERCEL_TRY_ASSIGN(auto core, detail::TransferCore::open(backend, tensors, part, options));
    return Transfer(std::move(core));
  } catch (const std::bad_alloc&) {
    return no_memory();
  } catch (const std::system_error& error) {
    return no_thread(error);
  }
}

Transfer::Transfer(std::unique_ptr<detail::TransferCore> core) : core_(std::move(core)) {}
Transfer::Transfer(Transfer&&) noexcept = default;
Transfer& Transfer::operator=(Transfer&&) noexcept = default;
Transfer::~Transfer() = default;

Result<Copy> Transfer::load(std::vector<BlockRef> blocks, std::span<const std::uint32_t> pages,
                            const CopyOrder& order) {
  if (!core_) return moved();
  try {
    std::vector<std::byte*> slots;
    slots.reserve(blocks.size());
    for (const BlockRef& block : blocks) {
      TIERCEL_TRY(core_->check_size(slots.size(), block.bytes().size()));
      slots.push_back(const_cast<std::byte*>(block.bytes().data()));  // a load reads them
    }
    return core_->submit(CopyDirection::kLoad, std::move(slots), pages, order, std::move(blocks), {});
  } catch (const std::bad_alloc&) {
    return no_memory();
  }
}

Result<Copy> Transfer::stream(Load load, std::span<const std::uint32_t> pages) {
  if (!core_) return moved();
  try {
    return core_->stream(std::move(load), pages);
  } catch (const std::bad_alloc&) {
    return no_memory();
  } catch (const std::system_error& error) {
    return no_thread(error);
  }
}

Result<Copy> Transfer::store(std::vector<BlockPart> blocks, std::span<const std::uint32_t> pages,
                             const CopyOrder& order) {
  if (!core_) return moved();
  try {
    std::vector<std::byte*> slots;
    slots.reserve(blocks.size());
    for (const BlockPart& block : blocks) {
      TIERCEL_TRY(core_->check_size(slots.size(), block.bytes().size()));
      slots.push_back(block.bytes().data());
    }
    return core_->submit(CopyDirection::kStore, std::move(slots), pages, order, {}, std::move(blocks));
  } catch (const std::bad_alloc&) {
    return no_memory();
  }
}

Result<Copy> Transfer::store(Reservation& reservation, std::span<const std::size_t> writers,
                             std::span<const std::uint32_t> pages, const CopyOrder& order) {
  try {
    std::vector<BlockPart> parts;
    parts.reserve(writers.size());
    for (const std::size_t number : writers) {
      if (number >= reservation.size() || reservation.writer(number).bytes().empty()) {
        return fail(ErrorCode::kInvalidArgument, fmt::format("writer {} is empty, or there is none", number));
      }
      Writer& writer = reservation.writer(number);
      parts.emplace_back(writer.begin_copy(), writer.bytes());
    }
    return store(std::move(parts), pages, order);
  } catch (const std::bad_alloc&) {
    return no_memory();
  }
}

Status Transfer::wait_in_stream(void* stream, const Copy& copy) {
  return core_ ? core_->wait_in_stream(stream, *copy.state_) : Status(moved());
}

std::size_t Transfer::pages_per_block() const noexcept { return core_ ? core_->geometry().pages_per_block() : 0; }
std::uint64_t Transfer::part_bytes() const noexcept { return core_ ? core_->geometry().part_bytes() : 0; }

std::uint64_t Transfer::registered_bytes() const noexcept {
  return core_ && core_->gpu() != nullptr ? core_->gpu()->registered_bytes() : 0;
}

void Transfer::pause_registration() {
  if (core_ && core_->gpu() != nullptr) core_->gpu()->pause_registration();
}

void Transfer::resume_registration() {
  if (core_ && core_->gpu() != nullptr) core_->gpu()->resume_registration();
}

Status Transfer::health() const {
  if (!core_) return moved();
  return core_->gpu() != nullptr ? core_->gpu()->health() : Status{};
}

std::string Transfer::choice() const {
  return core_ && core_->gpu() != nullptr ? core_->gpu()->choice() : std::string();
}

std::string Transfer::describe() const { return core_ ? core_->describe() : "moved away"; }

Result<std::string> calibrate_gpu(const TransferOptions& options) try {
  ThreadedExecutor executor({.name = "tiercel-copy", .threads = 1, .queue_capacity = 8}, detail::steady_clock());
  const std::string folder = options.cache_folder.empty() ? detail::default_cache_folder() : options.cache_folder;
  TIERCEL_TRY_ASSIGN(const auto engine,
                     open_gpu_copy_engine(executor, detail::steady_clock(),
                                          {.device = options.device, .calibrate = true, .calibration_folder = folder},
                                          options.library));
  return engine->choice();
} catch (const std::bad_alloc&) {
  return no_memory();
} catch (const std::system_error& error) {
  return no_thread(error);
}

void Transfer::close() noexcept {
  if (core_) core_->close();
}

}  // namespace tiercel
