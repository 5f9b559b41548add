// Engine: a loaded model, its context, and the one thread that makes all calls on it.
//
// submit() puts a request into a bounded queue or says why not; the thread admits requests in order of arrival, runs
// the Batcher and sleeps when there is nothing to do. With a cache, reuse begins as soon as the digest of the weights
// is known (a thread reads the files meanwhile, once; see tiercel::file_digest). All public members are safe from any
// thread. start() answers errors as sentences; later errors reach the request's Generation.
#pragma once

#include "connectors/llamacpp/batcher.h"
#include "connectors/llamacpp/generation.h"
#include "connectors/llamacpp/handles.h"
#include "connectors/llamacpp/model_text.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace tiercel::llamacpp {

struct EngineOptions {
  std::string model;  ///< a .gguf file
  std::uint32_t slots = 4;
  std::uint32_t context_tokens = 0;  ///< cells of the KV cache, shared by all slots; 0: what the model was trained for
  std::uint32_t batch_tokens = 512;  ///< of one decode call (n_batch and n_ubatch)
  std::uint32_t prompt_piece = 0;    ///< see BatcherOptions
  std::uint32_t threads = 0;         ///< 0: the processors
  std::int32_t gpu_layers = 0;
  std::string kv_type = "f16";  ///< of K and V: f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1
  bool flash_attention = true;
  bool keep_idle = true;
  bool exact_reuse = false;
  std::size_t queue_capacity = 64;
  /// 0: 8 on processors, 64 with a GPU. Prompt tokens after the last whole block are computed again, which on a
  /// processor costs far more than more blocks do; a GPU pays two transfers a layer for each block.
  std::uint32_t block_tokens = 0;
  std::string digest_directory;                 ///< where digests of weights are kept; empty: nowhere
  std::string engine_id;                        ///< see AdapterOptions
  std::function<void(const std::string&)> log;  ///< one line; may be empty
};

enum class Submitted : std::uint8_t { kYes, kQueueFull, kDraining };

/// Whether prefixes are restored, in words for /health and the log.
struct ReuseState {
  enum class Kind : std::uint8_t { kOff, kPending, kOn, kUnsupported };
  Kind kind = Kind::kOff;
  std::string why;  ///< of kUnsupported
};

struct EngineStats {
  BatcherStats batcher;
  std::uint64_t queued = 0;    ///< now
  std::uint64_t rejected = 0;  ///< for a full queue
  std::uint64_t slots = 0;
  std::uint64_t context_tokens = 0;
  std::uint64_t block_bytes = 0;
};

class Engine {
 public:
  /// What start() checks first: values out of their ranges, a model file that is not there. Reads no file.
  [[nodiscard]] static Status check(const EngineOptions& asked);

  /// Loads the model. `open_session` may be empty: no reuse beyond the engine's own memory. It is called on the
  /// engine's thread, until a session is there.
  [[nodiscard]] static Result<std::unique_ptr<Engine>> start(const EngineOptions& options, SessionOpener open_session);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// The request must fit: a prompt of at least one token, and with max_tokens not more than context_tokens().
  [[nodiscard]] Submitted submit(const std::shared_ptr<Generation>& generation);

  /// No new requests; those in the queue end with kShutdown; those under way may finish for so long, then end with
  /// kShutdown too. Returns when the thread has ended.
  void drain(std::chrono::milliseconds limit);

  [[nodiscard]] EngineStats stats() const;
  [[nodiscard]] ReuseState reuse() const;
  [[nodiscard]] const ModelText& text() const noexcept { return *text_; }
  [[nodiscard]] std::uint32_t context_tokens() const noexcept { return context_tokens_; }
  [[nodiscard]] const EngineOptions& options() const noexcept { return options_; }

 private:
  struct Digest;  // what the digest thread leaves
  Engine(const EngineOptions& options, SessionOpener open_session);

  Status load();
  void begin_digest();
  void run();
  bool wait_for_work();
  std::shared_ptr<Generation> next_queued();
  void admit();
  void attach_if_known();
  void publish();
  void report_cells(const BatcherStats& batcher);
  void log(const std::string& line) const;

  const EngineOptions options_;
  const SessionOpener open_session_;
  ModelHandle model_;
  ContextHandle context_;
  llama_context_params params_{};
  std::unique_ptr<ModelText> text_;
  std::uint32_t context_tokens_ = 0;
  std::unique_ptr<Batcher> batcher_;     // the engine thread's own
  std::shared_ptr<Generation> waiting_;  // the engine thread's own: the head of the queue, which does not fit yet
  std::shared_ptr<Digest> digest_;
  std::chrono::steady_clock::time_point attach_after_;  // the service was away: not at every turn
  std::uint64_t reported_cells_ = UINT64_MAX;           // none yet
  std::chrono::steady_clock::time_point report_after_;
  std::uint64_t block_bytes_ = 0;

  mutable std::mutex mutex_;  // guards what follows, up to the thread
  std::condition_variable work_;
  std::condition_variable ended_;
  std::deque<std::shared_ptr<Generation>> queue_;
  bool has_waiting_ = false;  // is waiting_ set?
  bool draining_ = false;
  bool has_ended_ = false;
  std::optional<std::chrono::steady_clock::time_point> abandon_at_;
  EngineStats stats_;
  ReuseState reuse_;

  std::thread thread_;
};

}  // namespace tiercel::llamacpp
