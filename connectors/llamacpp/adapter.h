// Adapter: Tiercel under any program that runs libllama.
//
// It restores the longest cached prefix of a token list into a sequence and keeps blocks of a sequence as they fill, in
// prefill and while decoding. A block is one opaque blob of llama_state_seq_get_data, moved through a spare sequence
// (`scratch`): seq_cp of the block's positions, get_data, seq_rm; and set_data, seq_cp, seq_rm the other way.
// Cost (SmolLM2-135M, 64 tokens, 1.5 MB): about 0.3 ms a block each way, so a restore comes in pieces.
//
// The context needs kv_unified = true, one sequence more than the program uses, and all of its calls, these included,
// on one thread. The adapter owns its Session and borrows the context. A load that libllama refuses, or after which the
// positions are not contiguous, is rolled back to the last good block: the sequence is always a true prefix.
#pragma once

#include <tiercel/session.h>

#include <llama.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace tiercel::llamacpp {

/// Opens a session: of a cache in this process, or of the node service.
using SessionOpener = std::function<Result<Session>(const SessionOptions&)>;

/// What the adapter did so far. Plain counters, read on the context's thread.
struct AdapterCounters {
  std::uint64_t restored_blocks = 0;
  std::uint64_t restored_bytes = 0;
  std::uint64_t kept_blocks = 0;
  std::uint64_t kept_bytes = 0;
  std::uint64_t refused_loads = 0;   ///< set_data answered 0
  std::uint64_t evict_retries = 0;   ///< refused loads tried again after an eviction
  std::uint64_t rollbacks = 0;       ///< restores that ended early and were cut back to their last good block
  std::uint64_t not_contiguous = 0;  ///< loads whose positions were not the block's
  std::uint64_t busy = 0;            ///< reservations answered kBusy
  std::uint64_t left_blocks = 0;     ///< in the cache, and left there because computing them is faster
};

struct AdapterOptions {
  llama_seq_id scratch = 0;  ///< a sequence that nothing else uses
  std::uint32_t block_tokens = 64;
  std::uint64_t block_bytes = 0;       ///< of measure_block_bytes, if known; 0: create() measures
  std::uint32_t restore_multiple = 0;  ///< restore only up to a multiple of so many tokens; 0: of block_tokens
  std::string tenant;                  ///< empty: the default one
  std::string engine_id;               ///< by which people tell this engine from others; empty: none
  std::chrono::nanoseconds load_deadline = std::chrono::seconds(1);
  /// Frees cells of the idlest sequence; false if there is none. Called at most once a block, when libllama refused it
  /// (the engine's cache is full); then the block is tried once more.
  std::function<bool()> evict_idlest;
};

/// The cached side of one sequence: the names of its blocks and how many of them the cache has. A value; it belongs to
/// the adapter that made it.
class Trail {
 public:
  Trail() = default;
  /// Leading blocks known to be in the cache (kept by us or found there).
  [[nodiscard]] std::size_t kept_blocks() const noexcept { return kept_; }

 private:
  friend class Adapter;
  friend class Restore;
  explicit Trail(BlockChain chain) : chain_(std::move(chain)) {}
  BlockChain chain_;
  std::size_t kept_ = 0;
};

class Adapter;

/// A restore under way. Advance it with step() between two decode calls; dropped early, what was restored stays.
class Restore {
 public:
  enum class Step : std::uint8_t {
    kMore,     ///< blocks were loaded, there are more
    kWaiting,  ///< the blocks are not in memory yet; go on with other work and ask again
    kDone,     ///< position() is final
  };
  /// Loads at most `max_blocks` blocks.
  [[nodiscard]] Step step(std::size_t max_blocks);
  /// Tokens now in the sequence, [0, position()).
  [[nodiscard]] std::size_t position() const noexcept { return position_; }
  /// Tokens of [0, position()) that were in the sequence before; the rest was restored.
  [[nodiscard]] std::size_t present_tokens() const noexcept { return start_; }
  [[nodiscard]] std::uint64_t restored_bytes() const noexcept { return bytes_; }

 private:
  friend class Adapter;
  Restore(Adapter& adapter, llama_seq_id seq, std::size_t present)
      : adapter_(&adapter), seq_(seq), start_(present), position_(present) {}
  Step finish();

  Adapter* adapter_;
  llama_seq_id seq_;
  std::size_t start_;
  std::size_t position_;
  std::size_t next_block_ = 0;
  std::size_t wanted_ = 0;
  std::uint64_t bytes_ = 0;
  std::optional<Load> load_;
  std::span<const BlockRef> ready_;
  std::chrono::steady_clock::time_point give_up_;
};

class Adapter {
 public:
  /// Opens a session, and before it measures the size of a block if that is not given (two tokens are decoded into
  /// `scratch` and removed). kUnsupported: the model or the context cannot do it (see why_no_reuse); serve it without.
  [[nodiscard]] static Result<std::unique_ptr<Adapter>> create(const SessionOpener& open_session,
                                                               llama_context* context, ModelIdentity identity,
                                                               AdapterOptions options);

  struct Wish {
    std::size_t present = 0;  ///< leading tokens that the sequence holds already
    std::size_t limit = 0;    ///< not more are restored: leave at least one token to compute, for its logits
    std::size_t waiting = 0;  ///< other prompts that wait while this one is computed
  };
  /// Starts restoring a prefix of the prompt `tokens` into `seq`: as much as is loaded sooner than it is computed. A
  /// restore replaces present tokens only down to a block boundary and only if it gains tokens by it.
  [[nodiscard]] Restore restore(llama_seq_id seq, std::span<const TokenId> tokens, const Wish& wish, Trail& trail);

  /// `tokens` are the first tokens of `seq` and are computed. Keeps blocks that the cache does not have, at most
  /// `max_blocks`; true if nothing is left to keep. What the cache has no room for now is offered again next time.
  bool keep(llama_seq_id seq, std::span<const TokenId> tokens, Trail& trail, std::size_t max_blocks);

  /// How long the context computed tokens of one prompt, and of nothing else: what is restored depends on it.
  void report_prefill(const PrefillTime& prefill) noexcept { session_.report_prefill(prefill); }
  /// For people to see: `cells` of the context's KV memory are used. Waits for nothing.
  void report_cells(std::uint64_t cells) noexcept;

  [[nodiscard]] Trail start() const { return Trail(BlockChain(space_)); }
  [[nodiscard]] const AdapterCounters& counters() const noexcept { return counters_; }
  [[nodiscard]] std::uint32_t block_tokens() const noexcept { return options_.block_tokens; }
  [[nodiscard]] std::uint64_t block_bytes() const noexcept { return options_.block_bytes; }
  [[nodiscard]] const Space& space() const noexcept { return space_; }

 private:
  friend class Restore;
  Adapter(llama_context* context, Session session, AdapterOptions options);

  void note_copy(std::uint64_t bytes, std::chrono::nanoseconds time) noexcept;
  bool load_block(llama_seq_id seq, std::size_t block, std::span<const std::byte> bytes);
  bool set_scratch(std::span<const std::byte> bytes);
  [[nodiscard]] bool copy_block(llama_seq_id seq, std::size_t block, std::span<std::byte> to);
  [[nodiscard]] std::size_t publish(Reservation& room, std::span<const WriterCommit> copied, std::size_t known);
  [[nodiscard]] std::size_t usable_blocks(std::size_t blocks) const;
  void clear_scratch() { llama_memory_seq_rm(memory_, options_.scratch, -1, -1); }

  llama_context* context_;
  llama_memory_t memory_;
  Session session_;
  Space space_;
  AdapterOptions options_;
  AdapterCounters counters_;
  double copy_bytes_per_second_ = 0;  // of restored blocks, into the context; a mean of the last ones
};

/// Bytes of one blob of `block_tokens` tokens in this context. The format is a fixed head plus a fixed number of bytes
/// a cell, whatever the positions and however the cells lie, so two small blobs give it; keep() checks every blob
/// again.
[[nodiscard]] Result<std::uint64_t> measure_block_bytes(llama_context* context, llama_seq_id scratch,
                                                        std::uint32_t block_tokens);

}  // namespace tiercel::llamacpp
