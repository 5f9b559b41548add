#include "connectors/llamacpp/batcher.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace tiercel::llamacpp {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;

constexpr std::size_t kRestoreBlocksAtOnce = 8;               // between two looks at the clock, or two answered tokens
constexpr auto kRestoreTime = std::chrono::milliseconds(50);  // what answers under way are made to wait
constexpr double kAnswersShare = 0.25;  // of the time of a prompt's call, for the answers after it
constexpr std::size_t kKeepTokensAStep = 1024;

double milliseconds_since(SteadyTime start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

struct Batcher::Slot {
  llama_seq_id seq = 0;
  Phase phase = Phase::kIdle;
  std::vector<TokenId> tokens;  // in the KV cache, from position 0
  std::size_t exact = 0;        // leading tokens computed in whole aligned batches, or restored as such
  std::uint64_t last_used = 0;
  std::uint64_t arrival = 0;
  std::shared_ptr<Generation> generation;
  std::optional<Restore> restore;
  Trail trail;
  bool has_trail = false;
  SamplerHandle sampler;
  TextStream text;
  TokenId next = 0;             // sampled, not yet decoded
  std::int32_t logits_at = -1;  // index in the batch
  Timings timings;
  std::size_t prefill_from = 0;  // the prompt's first token that is computed
  double prefill_s = 0;          // that its steps took so far
  bool prefill_alone = true;     // nothing else was computed in them

  [[nodiscard]] bool active() const noexcept { return phase != Phase::kIdle; }
  [[nodiscard]] const std::vector<TokenId>& prompt() const { return generation->request.prompt; }
};

Batcher::Batcher(const ModelText& text, llama_context* context, const BatcherOptions& options)
    : text_(text),
      context_(context),
      memory_(llama_get_memory(context)),
      options_(options),
      context_tokens_(llama_n_ctx(context)),
      batch_tokens_(llama_n_ubatch(context)),
      batch_(llama_batch_init(static_cast<std::int32_t>(batch_tokens_), 0, 1)) {
  for (std::uint32_t i = 0; i < options.slots; ++i) {
    Slot slot;
    slot.seq = static_cast<llama_seq_id>(i);
    slots_.push_back(std::move(slot));
  }
}

Batcher::~Batcher() { llama_batch_free(batch_); }

std::vector<SlotView> Batcher::views() const {
  std::vector<SlotView> views;
  views.reserve(slots_.size());
  for (const Slot& slot : slots_) {
    views.push_back({.active = slot.active(), .tokens = slot.tokens, .last_used = slot.last_used});
  }
  return views;
}

bool Batcher::admit(std::shared_ptr<Generation> generation) {
  // Every admitted request can run to its end: no answer is cut for want of cells.
  std::size_t promised = generation->request.prompt.size() + generation->request.max_tokens;
  for (const Slot& slot : slots_) {
    if (slot.active()) promised += slot.prompt().size() + slot.generation->request.max_tokens;
  }
  if (active_ > 0 && promised > context_tokens_) return false;
  const auto choice = choose_slot(views(), generation->request.prompt);
  if (!choice) return false;

  Slot& slot = slots_[choice->slot];
  slot.generation = std::move(generation);
  begin(slot, *choice);
  return true;
}

std::size_t Batcher::reusable(const SlotChoice& choice, const GenerationRequest& request) const {
  if (!options_.keep_idle) return 0;
  const std::size_t shared = std::min(choice.shared, request.prompt.size() - 1);  // one token is left to compute
  if (!options_.exact_reuse) return shared;
  return shared / batch_tokens_ * batch_tokens_;
}

void Batcher::take_over(Slot& slot, const SlotChoice& choice) {
  std::size_t shared = reusable(choice, slot.generation->request);
  if (choice.source == choice.slot) {
    if (!llama_memory_seq_rm(memory_, slot.seq, static_cast<llama_pos>(shared), -1)) {
      llama_memory_seq_rm(memory_, slot.seq, -1, -1);  // a model whose state has no middle
      shared = 0;
    }
    slot.tokens.resize(shared);
  } else {
    llama_memory_seq_rm(memory_, slot.seq, -1, -1);
    const Slot& source = slots_[choice.source];
    llama_memory_seq_cp(memory_, source.seq, slot.seq, 0, static_cast<llama_pos>(shared));
    slot.tokens.assign(source.tokens.begin(), source.tokens.begin() + static_cast<std::ptrdiff_t>(shared));
  }
  // The same cells as a fresh start, so that sums run in the same order.
  if (options_.exact_reuse && shared == 0) llama_memory_clear(memory_, false);
}

void Batcher::begin(Slot& slot, const SlotChoice& choice) {
  const GenerationRequest& request = slot.generation->request;
  take_over(slot, choice);
  slot.timings = {};
  slot.timings.queue_ms = milliseconds_since(slot.generation->arrival);
  slot.timings.prompt_tokens = request.prompt.size();
  slot.sampler = make_sampler(request.sampling);
  slot.text = TextStream(request.stops);
  slot.arrival = ++tick_;
  slot.last_used = tick_;
  slot.trail = {};
  slot.has_trail = false;
  slot.restore.reset();
  slot.phase = Phase::kRestore;
  copied_last_ = false;
  ++active_;
  if (adapter_) {
    const std::size_t limit = request.prompt.size() - 1;
    const auto waiting = std::ranges::count_if(slots_, [](const Slot& one) { return one.phase == Phase::kPrompt; });
    slot.restore.emplace(adapter_->restore(
        slot.seq, request.prompt,
        {.present = slot.tokens.size(), .limit = limit, .waiting = static_cast<std::size_t>(waiting)}, slot.trail));
    slot.has_trail = true;
  } else {
    end_restore(slot);
  }
}

void Batcher::end_restore(Slot& slot) {
  std::size_t present = slot.tokens.size();
  if (slot.restore) {
    present = slot.restore->present_tokens();
    const auto position = static_cast<std::ptrdiff_t>(slot.restore->position());
    slot.tokens.assign(slot.prompt().begin(), slot.prompt().begin() + position);
    slot.timings.bytes_restored = slot.restore->restored_bytes();
    slot.restore.reset();
  }
  slot.timings.prompt_from_engine = present;
  slot.timings.prompt_restored = slot.tokens.size() - present;
  stats_.prompt_from_engine += slot.timings.prompt_from_engine;
  stats_.prompt_restored += slot.timings.prompt_restored;
  slot.exact = slot.tokens.size() / batch_tokens_ * batch_tokens_;
  slot.prefill_from = slot.tokens.size();
  slot.prefill_s = 0;
  slot.prefill_alone = true;
  slot.phase = Phase::kPrompt;
}

void Batcher::reap() {
  for (Slot& slot : slots_) {
    if (slot.active() && slot.generation->cancelled()) finish(slot, Finish::kCancelled);
  }
}

/// A turn: where an answer waits for it, as many blocks as one look at the clock; else as many as the time allows.
bool Batcher::restore_some() {
  const bool answers = std::ranges::any_of(slots_, [](const Slot& slot) { return slot.phase == Phase::kAnswer; });
  const SteadyTime end = std::chrono::steady_clock::now() + kRestoreTime;
  bool worked = false;
  for (Slot& slot : slots_) {
    while (slot.phase == Phase::kRestore && std::chrono::steady_clock::now() < end && !(worked && answers)) {
      const Restore::Step step = slot.restore->step(kRestoreBlocksAtOnce);
      if (step == Restore::Step::kWaiting) break;
      worked = true;
      if (step == Restore::Step::kDone) end_restore(slot);
    }
  }
  return worked;
}

std::vector<std::size_t> Batcher::plan() const {
  std::vector<StepSlot> slots;
  for (const Slot& slot : slots_) {
    StepSlot view{.done = slot.tokens.size(), .arrival = slot.arrival};
    if (slot.phase == Phase::kAnswer) view.kind = StepSlot::Kind::kAnswer;
    if (slot.phase == Phase::kPrompt) {
      view.kind = StepSlot::Kind::kPrompt;
      view.left = slot.prompt().size() - slot.tokens.size();
    }
    slots.push_back(view);
  }
  StepLimits limits{.batch_tokens = batch_tokens_,
                    .aligned = options_.exact_reuse,
                    .apart = options_.answers_apart && !options_.exact_reuse,
                    .prompts_turn = answers_credit_ <= 0};
  limits.prompt_beside_answers =
      options_.prompt_piece > 0 ? options_.prompt_piece : prompt_piece(stats_.prompt_tokens_per_second, batch_tokens_);
  return plan_step(slots, limits);
}

bool Batcher::company_may_come(const std::vector<std::size_t>& plan) const {
  if (active_ == slots_.size()) return false;
  std::size_t prompt_tokens = 0;
  std::chrono::steady_clock::time_point newest;
  for (std::size_t s = 0; s < slots_.size(); ++s) {
    if (slots_[s].phase == Phase::kAnswer) return false;
    if (plan[s] == 0) continue;
    prompt_tokens += plan[s];
    newest = std::max(newest, slots_[s].generation->arrival);
  }
  const auto wait = wait_for_company(prompt_tokens, stats_.prompt_tokens_per_second, batch_tokens_);
  return std::chrono::steady_clock::now() - newest < wait;
}

void Batcher::fill_batch(const std::vector<std::size_t>& plan) {
  batch_.n_tokens = 0;
  const auto add = [&](const Slot& slot, TokenId token, std::size_t position, bool logits) {
    const auto i = batch_.n_tokens++;
    batch_.token[i] = token;
    batch_.pos[i] = static_cast<llama_pos>(position);
    batch_.n_seq_id[i] = 1;
    batch_.seq_id[i][0] = slot.seq;
    batch_.logits[i] = logits ? 1 : 0;
  };
  for (std::size_t s = 0; s < slots_.size(); ++s) {
    Slot& slot = slots_[s];
    slot.logits_at = -1;
    if (plan[s] == 0) continue;
    if (slot.phase == Phase::kAnswer) {
      add(slot, slot.next, slot.tokens.size(), true);
      slot.logits_at = batch_.n_tokens - 1;
      continue;
    }
    const std::size_t first = slot.tokens.size();
    for (std::size_t i = first; i < first + plan[s]; ++i) {
      const bool last = i + 1 == slot.prompt().size();
      add(slot, slot.prompt()[i], i, last);
      if (last) slot.logits_at = batch_.n_tokens - 1;
    }
  }
}

bool Batcher::decode() {
  for (;;) {
    const std::int32_t answer = llama_decode(context_, batch_);
    if (answer == 0) return true;
    // 1: no room for the batch, nothing was changed. Idle conversations make room, the idlest first.
    if (answer == 1 && evict_idlest()) continue;
    abandon(Finish::kError, answer == 1 ? "the engine's KV cache is full" : "the engine could not compute this batch");
    // What a failed call left in the cache is not known; nothing of it may be reused.
    llama_memory_clear(memory_, false);
    for (Slot& slot : slots_) slot.tokens.clear();
    return false;
  }
}

Batcher::Step Batcher::step() {
  reap();
  // A turn of copies, then a turn of computing: requests that came meanwhile are admitted between the two, and share
  // the decode call.
  const bool copied = std::exchange(copied_last_, false);
  if (!copied && restore_some()) {
    copied_last_ = true;
    return Step::kWorked;
  }
  const std::vector<std::size_t> shares = plan();
  if (company_may_come(shares)) return Step::kWaiting;
  fill_batch(shares);
  if (batch_.n_tokens == 0) return busy() && !copied ? Step::kWaiting : Step::kWorked;

  std::size_t prompt_tokens = 0;
  bool answers = false;
  for (std::size_t s = 0; s < slots_.size(); ++s) {
    if (slots_[s].phase == Phase::kPrompt) prompt_tokens += shares[s];
    answers = answers || (slots_[s].phase == Phase::kAnswer && shares[s] > 0);
  }
  const auto start = std::chrono::steady_clock::now();
  if (!decode()) return Step::kWorked;
  ++stats_.steps;
  note_prefills(shares, milliseconds_since(start) / 1000.0);
  // Logits of this call are valid until the next one, so all slots are sampled before anything else is decoded.
  for (std::size_t s = 0; s < slots_.size(); ++s) {
    if (shares[s] > 0) after_decode(slots_[s], shares[s]);
  }
  const double seconds = milliseconds_since(start) / 1000.0;
  answers_credit_ = answers ? answers_credit_ - seconds : kAnswersShare * seconds;
  if (!answers) note_speed(prompt_tokens, seconds);
  return Step::kWorked;
}

/// A step's time is a prompt's if it had the step for itself. The last step of a prompt ends its prefill.
void Batcher::note_prefills(const std::vector<std::size_t>& shares, double seconds) {
  const auto computed = std::ranges::count_if(shares, [](std::size_t share) { return share > 0; });
  for (std::size_t s = 0; s < slots_.size(); ++s) {
    Slot& slot = slots_[s];
    if (slot.phase != Phase::kPrompt || shares[s] == 0) continue;
    slot.prefill_s += seconds;
    slot.prefill_alone = slot.prefill_alone && computed == 1;
    if (!adapter_ || !slot.prefill_alone || slot.logits_at < 0) continue;
    adapter_->report_prefill({.context_tokens = slot.prefill_from,
                              .tokens = slot.prompt().size() - slot.prefill_from,
                              .time = std::chrono::nanoseconds(static_cast<std::int64_t>(slot.prefill_s * 1e9))});
  }
}

void Batcher::after_decode(Slot& slot, std::size_t count) {
  slot.last_used = ++tick_;
  if (slot.phase == Phase::kAnswer) {
    slot.tokens.push_back(slot.next);
  } else {
    const std::size_t first = slot.tokens.size();
    const auto from = slot.prompt().begin() + static_cast<std::ptrdiff_t>(first);
    slot.tokens.insert(slot.tokens.end(), from, from + static_cast<std::ptrdiff_t>(count));
    if (first == slot.exact && count == batch_tokens_) slot.exact += count;
    slot.timings.prompt_computed += count;
    stats_.prompt_computed += count;
  }
  if (slot.logits_at >= 0) sample(slot);
  if (slot.active()) keep(slot);
}

void Batcher::sample(Slot& slot) {
  const GenerationRequest& request = slot.generation->request;
  const TokenId token = llama_sampler_sample(slot.sampler.get(), context_, slot.logits_at);
  if (slot.timings.completion_tokens == 0) slot.timings.ttft_ms = milliseconds_since(slot.generation->arrival);
  ++slot.timings.completion_tokens;
  ++stats_.completion_tokens;
  if (text_.is_end(token) && !request.ignore_end) {
    slot.generation->push(token, slot.text.finish());
    return finish(slot, Finish::kStop);
  }
  slot.generation->push(token, slot.text.push(text_.piece(token)));
  if (slot.text.stopped()) return finish(slot, Finish::kStop);
  if (slot.timings.completion_tokens >= request.max_tokens) {
    slot.generation->push(slot.text.finish());
    return finish(slot, Finish::kLength);
  }
  slot.next = token;
  slot.phase = Phase::kAnswer;
}

void Batcher::keep(Slot& slot) {
  if (!adapter_) return;
  if (!slot.has_trail) {
    slot.trail = adapter_->start();
    slot.has_trail = true;
  }
  const std::span<const TokenId> tokens(slot.tokens);
  const std::uint64_t before = adapter_->counters().kept_bytes;
  const std::size_t max_blocks = std::max<std::size_t>(kKeepTokensAStep / adapter_->block_tokens(), 1);
  adapter_->keep(slot.seq, options_.exact_reuse ? tokens.first(slot.exact) : tokens, slot.trail, max_blocks);
  slot.timings.bytes_kept += adapter_->counters().kept_bytes - before;
}

void Batcher::finish(Slot& slot, Finish finish, const std::string& why) {
  if (slot.phase == Phase::kRestore) {
    if (slot.restore) end_restore(slot);  // the sequence holds what was restored so far
  }
  keep(slot);
  slot.timings.total_ms = milliseconds_since(slot.generation->arrival);
  ++stats_.finished[static_cast<std::size_t>(finish)];
  slot.phase = Phase::kIdle;
  --active_;
  settle(slot);
  slot.generation->finish(finish, slot.timings, why);
  slot.generation.reset();
  slot.restore.reset();
  slot.sampler.reset();
}

void Batcher::settle(Slot& slot) {
  std::size_t stay = slot.tokens.size();
  if (options_.exact_reuse) stay = std::min(stay, slot.exact);
  if (!options_.keep_idle) stay = 0;
  if (stay == slot.tokens.size()) return;
  llama_memory_seq_rm(memory_, slot.seq, static_cast<llama_pos>(stay), -1);
  slot.tokens.resize(stay);
}

void Batcher::abandon(Finish finish_as, const std::string& why) {
  for (Slot& slot : slots_) {
    if (slot.active()) finish(slot, finish_as, why);
  }
}

bool Batcher::evict_idlest() {
  const auto idlest = idlest_slot(views(), std::nullopt);
  if (!idlest) return false;
  Slot& slot = slots_[*idlest];
  llama_memory_seq_rm(memory_, slot.seq, -1, -1);
  slot.tokens.clear();
  ++stats_.idle_evictions;
  return true;
}

SamplerHandle Batcher::make_sampler(const SamplingOptions& options) const {
  SamplerHandle chain(llama_sampler_chain_init(llama_sampler_chain_default_params()));
  const auto add = [&](llama_sampler* sampler) { llama_sampler_chain_add(chain.get(), sampler); };
  if (options.frequency_penalty != 0.0F || options.presence_penalty != 0.0F) {
    const auto all = static_cast<std::int32_t>(context_tokens_);
    add(llama_sampler_init_penalties(text_.vocabulary_size(), all, 1.0F, options.frequency_penalty,
                                     options.presence_penalty));
  }
  if (options.temperature <= 0.0F) {
    add(llama_sampler_init_greedy());
    return chain;
  }
  if (options.top_k > 0) add(llama_sampler_init_top_k(options.top_k));
  if (options.top_p < 1.0F) add(llama_sampler_init_top_p(options.top_p, 1));
  add(llama_sampler_init_temp(options.temperature));
  add(llama_sampler_init_dist(options.seed));
  return chain;
}

void Batcher::note_speed(std::size_t prompt_tokens, double seconds) {
  if (prompt_tokens < kAttentionTile || seconds <= 0) return;  // small batches say little about speed
  const double speed = static_cast<double>(prompt_tokens) / seconds;
  double& known = stats_.prompt_tokens_per_second;
  known = known == 0 ? speed : 0.7 * known + 0.3 * speed;
}

BatcherStats Batcher::stats() const {
  BatcherStats stats = stats_;
  stats.slots_busy = active_;
  for (const Slot& slot : slots_) stats.slot_tokens += slot.tokens.size();
  if (adapter_) stats.adapter = adapter_->counters();
  return stats;
}

}  // namespace tiercel::llamacpp
