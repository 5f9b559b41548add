#include "bench/never_slower/world.h"

#include "base/executor.h"
#include "base/try.h"
#include "cache/core.h"
#include "cache/disk_drivers.h"
#include "cache/session_access.h"
#include "connectors/llamacpp/engine.h"
#include "io/delayed_backend.h"
#include "io/system_file_system.h"
#include "io/wrapped_file_system.h"
#include "transfer/host_copy_engine.h"

#include <tiercel/cache.h>

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <thread>
#include <utility>

#include <unistd.h>

namespace tiercel::bench {
namespace {

using llamacpp::Engine;
using llamacpp::EngineOptions;
using llamacpp::Generation;
using llamacpp::GenerationRequest;
using llamacpp::Timings;
using std::chrono::milliseconds;

constexpr std::size_t kPrompts = 6;
constexpr std::uint64_t kHostBytes = 64_MiB;
constexpr std::size_t kFreeSlots = 64;  // that an arena cut into slots of whole pages may have fewer

const SteadyClock& steady_clock() {
  static const SteadyClock kClock;
  return kClock;
}

/// A session that says nothing of what is ahead: all that is there is loaded.
class AlwaysLoads final : public detail::SessionBackend {
 public:
  explicit AlwaysLoads(Session session)
      : session_(std::move(session)), inner_(detail::SessionAccess::backend(session_)) {}
  [[nodiscard]] Space space(std::string_view tenant) const override { return inner_->space(tenant); }
  [[nodiscard]] Match match(const detail::ChainRef& chain) const override { return inner_->match(chain); }
  [[nodiscard]] std::unique_ptr<detail::LoadBackend> load(const LoadCall& call) override {
    return inner_->load({.chain = call.chain, .blocks = call.blocks, .deadline = std::chrono::hours(1)});
  }
  [[nodiscard]] std::shared_ptr<detail::ReservationBackend> reserve(const detail::ChainRef& chain, std::size_t first,
                                                                    std::size_t count) override {
    return inner_->reserve(chain, first, count);
  }
  [[nodiscard]] Result<std::vector<BlockPart>> parts(std::uint64_t id, std::span<const std::size_t> blocks) override {
    return inner_->parts(id, blocks);
  }
  [[nodiscard]] Status report(std::uint64_t id, std::span<const std::size_t> blocks) override {
    return inner_->report(id, blocks);
  }
  [[nodiscard]] Result<std::unique_ptr<detail::PinBackend>> pin(const detail::ChainRef& chain, std::size_t blocks,
                                                                std::chrono::nanoseconds ttl) override {
    return inner_->pin(chain, blocks, ttl);
  }
  [[nodiscard]] Result<Dropped> drop(const detail::ChainRef& chain, std::size_t first) override {
    return inner_->drop(chain, first);
  }
  [[nodiscard]] Result<Dropped> drop(const Space& space) override { return inner_->drop(space); }
  void report_pool(const KvPool& pool) override { inner_->report_pool(pool); }
  void report_prefill(double) override {}
  void report_prefill(const PrefillTime&) override {}
  [[nodiscard]] std::uint64_t block_bytes() const noexcept override { return inner_->block_bytes(); }
  [[nodiscard]] const SessionOptions& options() const noexcept override { return inner_->options(); }
  [[nodiscard]] std::shared_ptr<const Mapping> arena() const override { return inner_->arena(); }
  void close() noexcept override { inner_->close(); }

 private:
  Session session_;  // it closes its backend when it goes
  std::shared_ptr<detail::SessionBackend> inner_;
};

/// A cache of its own with a disk that can be held back. Blocks go to disk when they are used a second time.
class HeldBackCache {
 public:
  static Result<std::unique_ptr<HeldBackCache>> open(const std::string& directory) {
    std::unique_ptr<HeldBackCache> made(new HeldBackCache(directory));
    auto core = detail::CacheCore::create(made->config_, {.clock = steady_clock(),
                                                          .executor = made->executor_,
                                                          .copies = made->copies_,
                                                          .seed = 1,
                                                          .files = made->files_.get()});
    if (!core) return tl::unexpected<Error>(core.error());
    made->core_ = *core;
    made->cache_.emplace(made->core_, nullptr);
    made->drivers_.start(made->core_, made->files_);
    return made;
  }
  ~HeldBackCache() {
    hold_back({});
    filler_.reset();
    if (!cache_) return;
    (void)cache_->close(std::chrono::seconds(2));
    (void)drivers_.stop(*core_, std::chrono::seconds(2));
    std::error_code error;
    std::filesystem::remove_all(config_.disk.directories.front(), error);
  }

  [[nodiscard]] llamacpp::SessionOpener opener(bool always) {
    return [this, always](const SessionOptions& options) -> Result<Session> {
      auto session = cache_->open_session(options);
      if (!session || !always) return session;
      return Session(std::make_shared<AlwaysLoads>(std::move(*session)));
    };
  }
  void hold_back(const Disk& disk) {
    gate_->limit(IoKind::kRead, disk.bytes_per_second);
    gate_->delay(IoKind::kRead, disk.latency_ms * 1'000'000);
  }
  /// Fills the arena with what goes to no disk: blocks as large as the engine's, so that they take the same slots.
  Status push_out(std::uint64_t block_bytes) {
    if (!filler_) {
      TIERCEL_TRY_ASSIGN(
          auto filler,
          cache_->open_session({.model = {.name = "filler"}, .block_tokens = 4, .layout = Layout::blob(block_bytes)}));
      filler_.emplace(std::move(filler));
    }
    const std::size_t blocks = kHostBytes / block_bytes;
    std::vector<TokenId> tokens(4 * blocks);
    for (TokenId& token : tokens) token = next_++;
    const BlockChain chain = hash_blocks(filler_->space(), tokens);
    std::size_t stored = 0;
    for (int tries = 0; stored < blocks && tries < 1000; ++tries) {
      Reservation room = filler_->reserve(chain, stored, 16);
      std::size_t given = 0;
      while (given < room.size() && room.outcome(given) == Reserved::kYes && room.writer(given).commit()) ++given;
      stored += given;
      if (given == 0) std::this_thread::sleep_for(milliseconds(1));
    }
    TIERCEL_TRY(filler_->drop(filler_->space()));
    if (stored + kFreeSlots < blocks) return fail(ErrorCode::kLimit, "the arena could not be filled");
    return {};
  }
  [[nodiscard]] Stats stats() { return cache_->stats(); }

 private:
  explicit HeldBackCache(const std::string& directory)
      : executor_({.name = "bench", .threads = 2, .queue_capacity = 4096}, steady_clock()), copies_(executor_) {
    std::filesystem::create_directories(directory);
    config_.host.capacity = kHostBytes;
    config_.host.prefault = false;
    config_.host.extent_bytes = 4_MiB;
    config_.host.min_slot_bytes = 64_KiB;
    config_.disk.directories = {directory};
    config_.disk.capacity = 512_MiB;
    config_.disk.admission = Admission::kSecondSight;
    files_ = std::make_shared<WrappedFileSystem>(
        system_files_, [gate = gate_](const std::string& path, std::unique_ptr<IoBackend> file) {
          if (path.ends_with(".log")) return file;
          return std::unique_ptr<IoBackend>(std::make_unique<DelayedBackend>(std::move(file), gate));
        });
  }

  Config config_;
  ThreadedExecutor executor_;
  HostCopyEngine copies_;
  std::shared_ptr<DelayGate> gate_ = std::make_shared<DelayGate>(steady_clock());
  SystemFileSystem system_files_{IoEngine::kAuto};
  std::shared_ptr<FileSystem> files_;
  std::shared_ptr<detail::CacheCore> core_;
  std::optional<Cache> cache_;
  detail::DiskDrivers drivers_;
  std::optional<Session> filler_;
  TokenId next_ = 1;
};

class EngineWorld final : public World {
 public:
  Status start(const std::string& model, std::size_t tokens) {
    llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    const std::string place =
        (std::filesystem::temp_directory_path() / fmt::format("never_slower.{}", ::getpid())).string();
    const EngineOptions options{
        .model = model, .slots = 1, .context_tokens = 4096, .keep_idle = false, .block_tokens = kBlockTokens};
    for (const bool always : {false, true}) {
      auto cache = HeldBackCache::open(place + (always ? ".load" : ".plan"));
      if (!cache) return tl::unexpected<Error>(cache.error());
      (always ? load_cache_ : plan_cache_) = std::move(*cache);
    }
    for (auto* engine : {&compute_, &load_, &plan_}) {
      auto started = Engine::start(options, engine == &compute_ ? llamacpp::SessionOpener()
                                            : engine == &load_  ? load_cache_->opener(true)
                                                                : plan_cache_->opener(false));
      if (!started) return tl::unexpected<Error>(started.error());
      *engine = std::move(*started);
    }
    for (auto* engine : {&load_, &plan_}) {
      for (int i = 0; (*engine)->reuse().kind != llamacpp::ReuseState::Kind::kOn; ++i) {
        if (i > 600) return fail(ErrorCode::kTimeout, "the engine does not attach to its cache");
        std::this_thread::sleep_for(milliseconds(100));
      }
    }
    std::mt19937_64 random(5);
    for (std::size_t i = 0; i < kPrompts; ++i) {
      const std::size_t length = tokens * (4 + i) / 6 + random() % 8;  // from two thirds to one and a half
      auto& prompt = prompts_.emplace_back();
      for (std::size_t t = 0; t < length; ++t) prompt.push_back(100 + static_cast<TokenId>(random() % 40'000));
    }
    return prime();
  }

  double kv_bytes_per_second() override {
    double bytes = 0;
    double seconds = 0;
    for (const auto& prompt : prompts_) {
      const Timings timings = ask(*compute_, prompt);
      bytes += static_cast<double>(prompt.size()) * block_bytes() / kBlockTokens;
      seconds += timings.ttft_ms / 1000;
    }
    return bytes / seconds;
  }

  Times measure(const Disk& disk, std::size_t requests) override {
    load_cache_->hold_back(disk);
    plan_cache_->hold_back(disk);
    Times times;
    std::uint64_t restored = 0;
    std::uint64_t asked = 0;
    for (std::size_t i = 0; i < requests; ++i) {
      const auto& prompt = prompts_[i % kPrompts];
      for (auto* cache : {load_cache_.get(), plan_cache_.get()}) {
        if (const Status pushed = cache->push_out(plan_->stats().block_bytes); !pushed) {
          fmt::print(stderr, "warning: {}\n", pushed.error().message);
        }
      }
      for (std::size_t turn = 0; turn < 3; ++turn) {  // who comes first changes
        switch ((i + turn) % 3) {
          case 0:
            times.computed.push_back(ask(*compute_, prompt).ttft_ms);
            break;
          case 1:
            times.loaded.push_back(ask(*load_, prompt).ttft_ms);
            break;
          default:
            const Timings timings = ask(*plan_, prompt);
            times.planned.push_back(timings.ttft_ms);
            restored += timings.prompt_restored;
            asked += timings.prompt_tokens;
        }
      }
    }
    times.left_share = 1 - static_cast<double>(restored) / static_cast<double>(asked);
    return times;
  }

  Stats planned_stats() override { return plan_cache_->stats(); }

  ~EngineWorld() override {
    for (auto* engine : {&compute_, &load_, &plan_}) engine->reset();
  }

 private:
  static Timings ask(Engine& engine, const std::vector<TokenId>& prompt) {
    GenerationRequest request{.prompt = prompt, .max_tokens = 1, .ignore_end = true};
    request.sampling.temperature = 0;
    const auto generation = std::make_shared<Generation>(std::move(request));
    if (engine.submit(generation) != llamacpp::Submitted::kYes) return {};
    while (generation->wait(milliseconds(1000)).finish == llamacpp::Finish::kNone) {
    }
    return generation->timings();
  }
  [[nodiscard]] double block_bytes() const { return static_cast<double>(plan_->stats().block_bytes); }

  /// Each prompt twice, so that its blocks go to disk.
  Status prime() {
    for (int round = 0; round < 2; ++round) {
      for (const auto& prompt : prompts_) {
        (void)ask(*load_, prompt);
        (void)ask(*plan_, prompt);
      }
    }
    std::size_t blocks = 0;
    for (const auto& prompt : prompts_) blocks += (prompt.size() - 1) / kBlockTokens;
    for (auto* cache : {load_cache_.get(), plan_cache_.get()}) {
      for (int i = 0; cache->stats().tiers[1].blocks < blocks; ++i) {
        if (i > 100) {
          return fail(ErrorCode::kTimeout,
                      fmt::format("{} of {} blocks reached the disk", cache->stats().tiers[1].blocks, blocks));
        }
        std::this_thread::sleep_for(milliseconds(100));
      }
    }
    return {};
  }

  static constexpr std::size_t kBlockTokens = 8;  // of engines on processors
  std::unique_ptr<HeldBackCache> load_cache_;
  std::unique_ptr<HeldBackCache> plan_cache_;
  std::unique_ptr<Engine> compute_;
  std::unique_ptr<Engine> load_;
  std::unique_ptr<Engine> plan_;
  std::vector<std::vector<TokenId>> prompts_;
};

}  // namespace

Result<std::unique_ptr<World>> World::open(const std::string& model, std::size_t tokens) {
  auto world = std::make_unique<EngineWorld>();
  if (const Status status = world->start(model, tokens); !status) return tl::unexpected<Error>(status.error());
  return world;
}

}  // namespace tiercel::bench
