#include "connectors/llamacpp/adapter.h"

#include "connectors/llamacpp/identity.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace tiercel::llamacpp {
namespace {

llama_pos as_pos(std::size_t position) { return static_cast<llama_pos>(position); }

}  // namespace

Result<std::uint64_t> measure_block_bytes(llama_context* context, llama_seq_id scratch, std::uint32_t block_tokens) {
  const llama_model* model = llama_get_model(context);
  llama_memory_t memory = llama_get_memory(context);
  const llama_token token = std::max(llama_vocab_bos(llama_model_get_vocab(model)), 0);
  std::uint64_t sizes[2] = {};
  llama_batch batch = llama_batch_init(1, 0, 1);
  bool decoded = true;
  for (int i = 0; i < 2 && decoded; ++i) {
    batch.n_tokens = 1;
    batch.token[0] = token;
    batch.pos[0] = i;
    batch.n_seq_id[0] = 1;
    batch.seq_id[0][0] = scratch;
    batch.logits[0] = 1;
    decoded = llama_decode(context, batch) == 0;
    sizes[i] = llama_state_seq_get_size(context, scratch);
  }
  llama_batch_free(batch);
  llama_memory_seq_rm(memory, scratch, -1, -1);
  if (!decoded || sizes[0] == 0 || sizes[1] <= sizes[0]) {
    return fail(ErrorCode::kUnsupported, "libllama did not give the state of two tokens, so blocks cannot be kept");
  }
  return sizes[0] + (block_tokens - 1) * (sizes[1] - sizes[0]);
}

Adapter::Adapter(llama_context* context, Session session, AdapterOptions options)
    : context_(context),
      memory_(llama_get_memory(context)),
      session_(std::move(session)),
      space_(session_.space(options.tenant)),
      options_(std::move(options)) {}

Result<std::unique_ptr<Adapter>> Adapter::create(const SessionOpener& open_session, llama_context* context,
                                                 ModelIdentity identity, AdapterOptions options) {
  if (llama_get_memory(context) == nullptr) {
    return fail(ErrorCode::kUnsupported, "the context has no KV memory");
  }
  if (options.block_bytes == 0) {
    auto bytes = measure_block_bytes(context, options.scratch, options.block_tokens);
    if (!bytes) return tl::unexpected<Error>(bytes.error());
    options.block_bytes = *bytes;
  }
  SessionOptions session_options;
  session_options.model = std::move(identity);
  session_options.block_tokens = options.block_tokens;
  session_options.layout = Layout::blob(options.block_bytes);
  session_options.group.engine_id = options.engine_id;
  auto session = open_session(session_options);
  if (!session) return tl::unexpected<Error>(session.error());
  return std::unique_ptr<Adapter>(new Adapter(context, std::move(*session), std::move(options)));
}

Restore Adapter::restore(llama_seq_id seq, std::span<const TokenId> tokens, const Wish& wish, Trail& trail) {
  Restore restore(*this, seq, wish.present);
  const std::size_t blocks = std::min(wish.limit, tokens.size()) / options_.block_tokens;
  trail = start();
  trail.chain_.append(tokens.first(blocks * options_.block_tokens));
  const std::size_t matched = std::min(session_.match(trail.chain_).blocks(), blocks);
  trail.kept_ = matched;
  const std::size_t wanted = usable_blocks(matched);
  if (wanted * options_.block_tokens <= wish.present) return restore;

  restore.next_block_ = wish.present / options_.block_tokens;
  restore.wanted_ = wanted;
  restore.give_up_ = std::chrono::steady_clock::now() + options_.load_deadline;
  restore.load_ = session_.load(trail.chain_, wanted, options_.load_deadline,
                                {.prompt_tokens = tokens.size(),
                                 .context_tokens = wish.present,
                                 .waiting = wish.waiting,
                                 .copy_bytes_per_second = copy_bytes_per_second_});
  return restore;
}

void Adapter::report_cells(std::uint64_t cells) noexcept {
  const std::uint64_t cell_bytes =
      options_.block_bytes / options_.block_tokens;  // but for a head of some bytes a block
  const std::uint64_t total = llama_n_ctx(context_);
  const std::uint64_t used = std::min(cells, total);
  session_.report_pool(
      {.used_bytes = used * cell_bytes, .free_bytes = (total - used) * cell_bytes, .total_bytes = total * cell_bytes});
}

std::size_t Adapter::usable_blocks(std::size_t blocks) const {
  const std::size_t multiple = std::max(options_.restore_multiple, options_.block_tokens);
  return blocks * options_.block_tokens / multiple * multiple / options_.block_tokens;
}

Restore::Step Restore::finish() {
  load_.reset();
  ready_ = {};
  return Step::kDone;
}

Restore::Step Restore::step(std::size_t max_blocks) {
  if (!load_) return Step::kDone;
  if (ready_.empty()) {
    if (!load_->done() && std::chrono::steady_clock::now() < give_up_) return Step::kWaiting;
    ready_ = load_->wait();
    if (load_->outcome() == LoadOutcome::kSlower) adapter_->counters_.left_blocks += wanted_ - ready_.size();
    ready_ = ready_.first(adapter_->usable_blocks(ready_.size()));
    if (ready_.size() * adapter_->options_.block_tokens <= position_) return finish();
    // Present tokens past the last block boundary give way to the block that covers them.
    start_ = position_ = next_block_ * adapter_->options_.block_tokens;
    llama_memory_seq_rm(adapter_->memory_, seq_, as_pos(position_), -1);
  }
  const std::size_t end = std::min(ready_.size(), next_block_ + max_blocks);
  const auto started = std::chrono::steady_clock::now();
  const std::uint64_t before = bytes_;
  for (; next_block_ < end; ++next_block_) {
    const auto bytes = ready_[next_block_].bytes();
    if (!adapter_->load_block(seq_, next_block_, bytes)) {
      ++adapter_->counters_.rollbacks;
      llama_memory_seq_rm(adapter_->memory_, seq_, as_pos(position_), -1);
      return finish();
    }
    position_ += adapter_->options_.block_tokens;
    bytes_ += bytes.size();
  }
  adapter_->note_copy(bytes_ - before, std::chrono::steady_clock::now() - started);
  return next_block_ == ready_.size() ? finish() : Step::kMore;
}

void Adapter::note_copy(std::uint64_t bytes, std::chrono::nanoseconds time) noexcept {
  if (bytes == 0 || time.count() <= 0) return;
  const double speed = static_cast<double>(bytes) * 1e9 / static_cast<double>(time.count());
  double& known = copy_bytes_per_second_;
  known = known == 0 ? speed : 1 / (0.8 / known + 0.2 / speed);  // the mean of times
}

bool Adapter::set_scratch(std::span<const std::byte> bytes) {
  const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
  if (llama_state_seq_set_data(context_, data, bytes.size(), options_.scratch) == bytes.size()) return true;
  ++counters_.refused_loads;
  clear_scratch();
  if (!options_.evict_idlest || !options_.evict_idlest()) return false;
  ++counters_.evict_retries;
  if (llama_state_seq_set_data(context_, data, bytes.size(), options_.scratch) == bytes.size()) return true;
  ++counters_.refused_loads;
  clear_scratch();
  return false;
}

bool Adapter::load_block(llama_seq_id seq, std::size_t block, std::span<const std::byte> bytes) {
  // A blob of another length could hold another number of cells; the positions below then prove the rest.
  if (bytes.size() != options_.block_bytes) return false;
  if (!set_scratch(bytes)) return false;
  const llama_pos first = as_pos(block * options_.block_tokens);
  const llama_pos last = first + as_pos(options_.block_tokens) - 1;
  // So many cells as the length says, from `first` to `last`: no hole, and the block of this place.
  bool whole = llama_memory_seq_pos_min(memory_, options_.scratch) == first &&
               llama_memory_seq_pos_max(memory_, options_.scratch) == last &&
               llama_memory_seq_pos_max(memory_, seq) == first - 1;
  if (whole) {
    llama_memory_seq_cp(memory_, options_.scratch, seq, -1, -1);
    whole = llama_memory_seq_pos_min(memory_, seq) == 0 && llama_memory_seq_pos_max(memory_, seq) == last;
  }
  clear_scratch();
  if (!whole) {
    ++counters_.not_contiguous;
    return false;
  }
  ++counters_.restored_blocks;
  counters_.restored_bytes += bytes.size();
  return true;
}

bool Adapter::copy_block(llama_seq_id seq, std::size_t block, std::span<std::byte> to) {
  const llama_pos first = as_pos(block * options_.block_tokens);
  llama_memory_seq_cp(memory_, seq, options_.scratch, first, first + as_pos(options_.block_tokens));
  const std::size_t size = llama_state_seq_get_size(context_, options_.scratch);
  bool copied = size == options_.block_bytes && size <= to.size();
  if (copied) {
    auto* data = reinterpret_cast<std::uint8_t*>(to.data());
    copied = llama_state_seq_get_data(context_, data, size, options_.scratch) == size;
  }
  clear_scratch();
  return copied;
}

bool Adapter::keep(llama_seq_id seq, std::span<const TokenId> tokens, Trail& trail, std::size_t max_blocks) {
  if (tokens.size() > trail.chain_.tokens()) trail.chain_.append(tokens.subspan(trail.chain_.tokens()));
  // Only blocks that are computed: a restore names the blocks of a whole prompt before they are.
  const std::size_t full = std::min(tokens.size() / options_.block_tokens, trail.chain_.size());
  if (trail.kept_ >= full) return true;
  const std::size_t count = std::min(full - trail.kept_, max_blocks);
  Reservation room = session_.reserve(trail.chain_, trail.kept_, count);
  std::vector<WriterCommit> copied;  // published together: with a service that is one round trip
  std::size_t known = 0;             // of the first blocks of the reservation, those that are there or copied
  bool none_evicted = true;
  for (; known < room.size(); ++known) {
    const Reserved outcome = room.outcome(known);
    if (outcome == Reserved::kExists) continue;
    if (outcome == Reserved::kBusy) ++counters_.busy;
    none_evicted = none_evicted && outcome != Reserved::kNoParent;
    if (outcome != Reserved::kYes || !copy_block(seq, trail.kept_ + known, room.writer(known).bytes())) break;
    copied.push_back({.writer = known, .size = options_.block_bytes});
  }
  const std::size_t kept = publish(room, copied, known);
  trail.kept_ += kept;
  if (!none_evicted) trail.kept_ = 0;  // the sequence still has what was evicted: begin again at the next call
  return kept < room.size() || trail.kept_ >= full;
}

/// How many of the first `known` blocks are there now.
std::size_t Adapter::publish(Reservation& room, std::span<const WriterCommit> copied, std::size_t known) {
  if (copied.empty()) return known;
  const auto committed = room.commit(copied);
  if (!committed) return copied.front().writer;
  counters_.kept_blocks += committed->blocks;
  counters_.kept_bytes += committed->blocks * options_.block_bytes;
  return committed->failures.empty() ? known : committed->failures.front().writer;
}

}  // namespace tiercel::llamacpp
