#include "connectors/llamacpp/engine.h"

#include "connectors/llamacpp/identity.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <filesystem>
#include <utility>

namespace tiercel::llamacpp {
namespace {

using std::chrono::steady_clock;

constexpr auto kPollDigest = std::chrono::milliseconds(50);
constexpr auto kAttachAgain = std::chrono::seconds(2);
constexpr auto kReportCells = std::chrono::milliseconds(250);
constexpr auto kBlocksArrive = std::chrono::milliseconds(1);

constexpr std::array kKvTypes = {GGML_TYPE_F32,  GGML_TYPE_F16,  GGML_TYPE_BF16, GGML_TYPE_Q8_0,
                                 GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1};

Result<ggml_type> kv_type(const std::string& name) {
  std::string valid;
  for (const ggml_type type : kKvTypes) {
    if (name == ggml_type_name(type)) return type;
    valid += valid.empty() ? "" : ", ";
    valid += ggml_type_name(type);
  }
  return fail(ErrorCode::kInvalidArgument, fmt::format("--kv-type: \"{}\" is not one of {}", name, valid));
}

std::string first_line(std::string text) {
  if (const auto end = text.find('\n'); end != std::string::npos) text.resize(end);
  return text;
}

EngineOptions with_defaults(EngineOptions options) {
  if (options.block_tokens == 0) options.block_tokens = options.gpu_layers == 0 ? 16 : 64;
  return options;
}

}  // namespace

struct Engine::Digest {
  std::atomic<bool> done{false};  // set (release) after `answer` is written; pairs with the engine thread's acquire
  Result<std::vector<BlockHash>> answer = std::vector<BlockHash>{};
};

Engine::Engine(const EngineOptions& options, SessionOpener open_session)
    : options_(with_defaults(options)), open_session_(std::move(open_session)) {}

void Engine::log(const std::string& line) const {
  if (options_.log) options_.log(line);
}

Status Engine::check(const EngineOptions& asked) {
  const EngineOptions options = with_defaults(asked);
  if (options.slots < 1 || options.slots > 255) {
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("--slots: {} is out of range; valid are 1 to 255 (libllama has 256 sequences, one is spare)",
                    options.slots));
  }
  if (options.exact_reuse && options.slots != 1) {
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("--exact-reuse needs --slots 1, not {}: answers that share a batch change each other's last bits",
                    options.slots));
  }
  if (options.block_tokens < 8 || options.block_tokens > 1024) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("--block-tokens: {} is out of range; valid are 8 to 1024", options.block_tokens));
  }
  if (options.exact_reuse && options.batch_tokens % options.block_tokens != 0) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("--exact-reuse needs --batch ({}) to be a multiple of --block-tokens ({})",
                            options.batch_tokens, options.block_tokens));
  }
  if (options.batch_tokens < options.slots || options.batch_tokens > 65536) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("--batch: {} is out of range; valid are {} (--slots) to 65536",
                                                         options.batch_tokens, options.slots));
  }
  if (options.queue_capacity < 1 || options.queue_capacity > 4096) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("--queue: {} is out of range; valid are 1 to 4096", options.queue_capacity));
  }
  if (auto type = kv_type(options.kv_type); !type) return tl::unexpected<Error>(type.error());
  std::error_code error;
  if (!std::filesystem::is_regular_file(options.model, error)) {
    return fail(ErrorCode::kNotFound, fmt::format("--model: {} does not exist or is no file", options.model));
  }
  return {};
}

Result<std::unique_ptr<Engine>> Engine::start(const EngineOptions& options, SessionOpener open_session) {
  if (auto status = check(options); !status) return tl::unexpected<Error>(status.error());
  std::unique_ptr<Engine> engine(new Engine(options, std::move(open_session)));
  if (auto status = engine->load(); !status) return tl::unexpected<Error>(status.error());
  engine->begin_digest();
  engine->publish();
  engine->thread_ = std::thread([raw = engine.get()] { raw->run(); });
  return engine;
}

Status Engine::load() {
  auto type = kv_type(options_.kv_type);
  if (!type) return tl::unexpected<Error>(type.error());
  llama_model_params model_params = llama_model_default_params();
  model_params.n_gpu_layers = options_.gpu_layers;
  model_.reset(llama_model_load_from_file(options_.model.c_str(), model_params));
  if (!model_) {
    return fail(
        ErrorCode::kCorrupt,
        fmt::format("--model: {} could not be loaded; it must be a .gguf file of a model that llama.cpp {} knows",
                    options_.model, llama_version()));
  }
  const std::uint32_t trained = static_cast<std::uint32_t>(std::max(llama_model_n_ctx_train(model_.get()), 1));
  const std::uint32_t processors = std::max(std::thread::hardware_concurrency(), 1U);
  const auto threads = static_cast<std::int32_t>(options_.threads > 0 ? options_.threads : processors);
  params_ = llama_context_default_params();
  params_.n_ctx = options_.context_tokens > 0 ? options_.context_tokens : trained;
  params_.n_batch = options_.batch_tokens;
  params_.n_ubatch = options_.batch_tokens;
  params_.n_seq_max = options_.slots + 1;
  params_.n_threads = threads;
  params_.n_threads_batch = threads;
  params_.flash_attn_type = options_.flash_attention ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
  params_.type_k = *type;
  params_.type_v = *type;
  params_.kv_unified = true;
  params_.no_perf = true;
  context_.reset(llama_init_from_model(model_.get(), params_));
  if (!context_) {
    return fail(
        ErrorCode::kOutOfMemory,
        fmt::format("llama.cpp could not make a context of {} tokens with KV type {}{}; a smaller --context may fit",
                    params_.n_ctx, options_.kv_type, options_.flash_attention ? "" : " and no flash attention"));
  }
  context_tokens_ = llama_n_ctx(context_.get());
  text_ = std::make_unique<ModelText>(model_.get());
  batcher_ = std::make_unique<Batcher>(*text_, context_.get(),
                                       BatcherOptions{.slots = options_.slots,
                                                      .prompt_piece = options_.prompt_piece,
                                                      .answers_apart = options_.gpu_layers == 0,
                                                      .keep_idle = options_.keep_idle,
                                                      .exact_reuse = options_.exact_reuse});
  return {};
}

void Engine::begin_digest() {
  if (!open_session_) return;
  if (const std::string why = why_no_reuse(model_.get(), params_); !why.empty()) {
    reuse_ = {.kind = ReuseState::Kind::kUnsupported, .why = why};
    log("served without reuse: " + why);
    return;
  }
  // On a thread of its own that ends: OpenMP keeps a team for every thread that ever computed and counts all of them
  // against the processors; with this thread's team beside the engine's, every barrier of a decode sleeps instead of
  // spinning (measured on 2 processors: 26.6 instead of 13.6 ms a token).
  Result<std::uint64_t> bytes = std::uint64_t{0};
  std::thread([&] {
    bytes = measure_block_bytes(context_.get(), static_cast<llama_seq_id>(options_.slots), options_.block_tokens);
  }).join();
  if (!bytes) {
    reuse_ = {.kind = ReuseState::Kind::kUnsupported, .why = bytes.error().message};
    log("served without reuse: " + bytes.error().message);
    return;
  }
  block_bytes_ = *bytes;
  reuse_ = {.kind = ReuseState::Kind::kPending, .why = {}};
  digest_ = std::make_shared<Digest>();
  // Detached: reading a large model for the first time takes longer than a shutdown may; the thread owns all it uses.
  std::thread([digest = digest_, files = weight_files(options_.model), directory = options_.digest_directory] {
    digest->answer = digest_weights(files, directory);
    digest->done.store(true, std::memory_order_release);
  }).detach();
}

void Engine::attach_if_known() {
  if (!digest_ || !digest_->done.load(std::memory_order_acquire)) return;
  if (steady_clock::now() < attach_after_) return;
  const auto digest = std::exchange(digest_, nullptr);
  ReuseState state{.kind = ReuseState::Kind::kOn, .why = {}};
  if (!digest->answer) {
    state = {.kind = ReuseState::Kind::kUnsupported, .why = digest->answer.error().message};
  } else {
    AdapterOptions adapter_options;
    adapter_options.scratch = static_cast<llama_seq_id>(options_.slots);
    adapter_options.block_tokens = options_.block_tokens;
    adapter_options.block_bytes = block_bytes_;
    adapter_options.engine_id = options_.engine_id;
    adapter_options.restore_multiple = options_.exact_reuse ? options_.batch_tokens : 0;
    adapter_options.evict_idlest = [this] { return batcher_->evict_idlest(); };
    auto adapter = Adapter::create(open_session_, context_.get(),
                                   identify(model_.get(), params_, llama_n_ctx_seq(context_.get()), *digest->answer),
                                   std::move(adapter_options));
    if (adapter) {
      batcher_->set_adapter(std::move(*adapter));
      report_cells(batcher_->stats());
    } else if (adapter.error().code == ErrorCode::kClosed || adapter.error().code == ErrorCode::kTimeout) {
      log("computed without reuse until the service answers: " + first_line(adapter.error().message));
      attach_after_ = steady_clock::now() + kAttachAgain;
      digest_ = digest;
      return;
    } else {
      state = {.kind = ReuseState::Kind::kUnsupported, .why = adapter.error().message};
    }
  }
  if (state.kind == ReuseState::Kind::kUnsupported) log("served without reuse: " + first_line(state.why));
  const std::lock_guard lock(mutex_);
  reuse_ = std::move(state);
}

Submitted Engine::submit(const std::shared_ptr<Generation>& generation) {
  {
    const std::lock_guard lock(mutex_);
    if (draining_) return Submitted::kDraining;
    if (queue_.size() + (has_waiting_ ? 1 : 0) >= options_.queue_capacity) {
      ++stats_.rejected;
      return Submitted::kQueueFull;
    }
    queue_.push_back(generation);
  }
  work_.notify_one();
  return Submitted::kYes;
}

bool Engine::wait_for_work() {
  std::unique_lock lock(mutex_);
  while (!batcher_->busy() && queue_.empty() && !waiting_) {
    if (draining_) return false;
    if (digest_) {
      lock.unlock();
      attach_if_known();
      lock.lock();
      if (digest_) work_.wait_for(lock, kPollDigest);
    } else {
      work_.wait(lock);
    }
  }
  return true;
}

std::shared_ptr<Generation> Engine::next_queued() {
  const std::lock_guard lock(mutex_);
  if (queue_.empty()) return nullptr;
  auto generation = std::move(queue_.front());
  queue_.pop_front();
  return generation;
}

void Engine::admit() {
  // In order of arrival: a large request at the head is not overtaken for ever.
  while (auto generation = waiting_ ? std::exchange(waiting_, nullptr) : next_queued()) {
    if (generation->cancelled()) {
      generation->finish(Finish::kCancelled, {});
    } else if (!batcher_->admit(generation)) {
      waiting_ = std::move(generation);
      return;
    }
  }
}

void Engine::run() {
  while (wait_for_work()) {
    attach_if_known();
    admit();
    const Batcher::Step step = batcher_->step();
    publish();
    std::unique_lock lock(mutex_);
    if (abandon_at_ && steady_clock::now() >= *abandon_at_) {
      lock.unlock();
      batcher_->abandon(Finish::kShutdown, "the server is stopping");
      if (waiting_) std::exchange(waiting_, nullptr)->finish(Finish::kShutdown, {}, "the server is stopping");
      continue;
    }
    if (step == Batcher::Step::kWaiting) work_.wait_for(lock, kBlocksArrive);
  }
  publish();
  const std::lock_guard lock(mutex_);
  has_ended_ = true;
  ended_.notify_all();
}

void Engine::publish() {
  const BatcherStats batcher = batcher_->stats();
  report_cells(batcher);
  const std::lock_guard lock(mutex_);
  stats_.batcher = batcher;
  has_waiting_ = waiting_ != nullptr;
}

void Engine::report_cells(const BatcherStats& batcher) {
  if (!batcher_->has_adapter() || batcher.slot_tokens == reported_cells_) return;
  const auto now = steady_clock::now();
  if (now < report_after_ && batcher.slots_busy > 0) return;
  report_after_ = now + kReportCells;
  reported_cells_ = batcher.slot_tokens;
  batcher_->report_cells(batcher.slot_tokens);
}

void Engine::drain(std::chrono::milliseconds limit) {
  std::deque<std::shared_ptr<Generation>> queued;
  {
    const std::lock_guard lock(mutex_);
    draining_ = true;
    abandon_at_ = steady_clock::now() + limit;
    queued.swap(queue_);
  }
  for (const auto& generation : queued) generation->finish(Finish::kShutdown, {}, "the server is stopping");
  work_.notify_all();
  std::unique_lock lock(mutex_);
  ended_.wait(lock, [&] { return has_ended_; });
}

Engine::~Engine() {
  drain(std::chrono::milliseconds(0));
  if (thread_.joinable()) thread_.join();
}

EngineStats Engine::stats() const {
  const std::lock_guard lock(mutex_);
  EngineStats stats = stats_;
  stats.queued = queue_.size() + (has_waiting_ ? 1 : 0);
  stats.slots = options_.slots;
  stats.context_tokens = context_tokens_;
  stats.block_bytes = block_bytes_;
  return stats;
}

ReuseState Engine::reuse() const {
  const std::lock_guard lock(mutex_);
  return reuse_;
}

}  // namespace tiercel::llamacpp
