// Batcher: continuous batching over the slots of one context, with restores and keeps in between.
//
// One step() = a turn of restoring (at most 50 ms), or one decode call shared by all slots (see step_plan.h), one
// sampled token for each answer, then the blocks that became full are kept; the two take turns. Owned and driven by one
// thread, which also created it; it borrows the context and the model's text. Nothing here waits. Errors reach the
// asker through its Generation.
#pragma once

#include "connectors/llamacpp/adapter.h"
#include "connectors/llamacpp/generation.h"
#include "connectors/llamacpp/handles.h"
#include "connectors/llamacpp/model_text.h"
#include "connectors/llamacpp/slot_choice.h"
#include "connectors/llamacpp/step_plan.h"
#include "connectors/llamacpp/text_stream.h"

#include <llama.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace tiercel::llamacpp {

struct BatcherOptions {
  std::uint32_t slots = 4;         ///< sequences 0 to slots - 1; sequence `slots` is the adapter's
  std::uint32_t prompt_piece = 0;  ///< prompt tokens of a step beside answers; 0: 500 ms worth of them
  bool answers_apart = false;      ///< see StepLimits::apart
  bool keep_idle = true;           ///< a finished sequence keeps its cells until they are needed
  bool exact_reuse = false;        ///< reuse only what gives bit for bit what no reuse gives; one slot
};

/// Running totals and gauges. Plain values.
struct BatcherStats {
  std::uint64_t steps = 0;
  std::uint64_t prompt_computed = 0;
  std::uint64_t prompt_restored = 0;
  std::uint64_t prompt_from_engine = 0;
  std::uint64_t completion_tokens = 0;
  std::uint64_t idle_evictions = 0;     ///< idle sequences that gave their cells back because they were needed
  std::uint64_t finished[6] = {};       ///< requests by Finish
  std::uint64_t slots_busy = 0;         ///< now
  std::uint64_t slot_tokens = 0;        ///< tokens in all sequences, now; shared ones count for each
  double prompt_tokens_per_second = 0;  ///< of steps that computed prompts only, smoothed
  AdapterCounters adapter;
};

class Batcher {
 public:
  Batcher(const ModelText& text, llama_context* context, const BatcherOptions& options);
  ~Batcher();

  /// From now on prefixes are restored and blocks kept. Requests under way join with their next block.
  void set_adapter(std::unique_ptr<Adapter> adapter) { adapter_ = std::move(adapter); }
  [[nodiscard]] bool has_adapter() const noexcept { return adapter_ != nullptr; }
  void report_cells(std::uint64_t cells) const noexcept {
    if (adapter_) adapter_->report_cells(cells);
  }

  /// Gives the request a slot. False: no slot is free, or the cells that all requests may come to need are too many.
  [[nodiscard]] bool admit(std::shared_ptr<Generation> generation);
  [[nodiscard]] bool busy() const noexcept { return active_ > 0; }

  enum class Step : std::uint8_t { kWorked, kWaiting };
  /// kWaiting: all that could be done waits for blocks to arrive; call again in a moment.
  Step step();

  /// Ends every request under way.
  void abandon(Finish finish, const std::string& why);
  /// For AdapterOptions::evict_idlest. True if cells were freed.
  bool evict_idlest();

  [[nodiscard]] BatcherStats stats() const;

 private:
  enum class Phase : std::uint8_t { kIdle, kRestore, kPrompt, kAnswer };
  struct Slot;

  void begin(Slot& slot, const SlotChoice& choice);
  void take_over(Slot& slot, const SlotChoice& choice);
  std::size_t reusable(const SlotChoice& choice, const GenerationRequest& request) const;
  void reap();
  bool restore_some();
  void end_restore(Slot& slot);
  std::vector<std::size_t> plan() const;
  bool company_may_come(const std::vector<std::size_t>& plan) const;
  void fill_batch(const std::vector<std::size_t>& plan);
  bool decode();
  void after_decode(Slot& slot, std::size_t count);
  void sample(Slot& slot);
  void keep(Slot& slot);
  void finish(Slot& slot, Finish finish, const std::string& why = {});
  void settle(Slot& slot);
  std::vector<SlotView> views() const;
  SamplerHandle make_sampler(const SamplingOptions& options) const;
  void note_prefills(const std::vector<std::size_t>& shares, double seconds);
  void note_speed(std::size_t prompt_tokens, double seconds);

  const ModelText& text_;
  llama_context* context_;
  llama_memory_t memory_;
  BatcherOptions options_;
  std::uint32_t context_tokens_;
  std::uint32_t batch_tokens_;
  llama_batch batch_;
  std::vector<Slot> slots_;
  std::unique_ptr<Adapter> adapter_;
  std::size_t active_ = 0;
  std::uint64_t tick_ = 0;
  bool copied_last_ = false;   // the last step was a turn of restoring, and no request came since
  double answers_credit_ = 0;  // seconds that answers may compute before prompts have a turn again
  BatcherStats stats_;
};

}  // namespace tiercel::llamacpp
