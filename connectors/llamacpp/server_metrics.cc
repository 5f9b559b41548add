#include "connectors/llamacpp/server_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <mutex>

namespace tiercel::llamacpp {
namespace {

constexpr std::array<const char*, 6> kFinishNames = {"none", "stop", "length", "cancelled", "shutdown", "error"};

const prometheus::Histogram::BucketBoundaries kSeconds = {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
                                                          2.5,  5,     10,   25,  60,   120};

}  // namespace

struct ServerMetrics::Families {
  using Labels = prometheus::Labels;
  prometheus::Family<prometheus::Counter>& counters(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
  }
  prometheus::Counter& counter(const char* name, const char* help, const Labels& labels = {}) {
    return counters(name, help).Add(labels);
  }
  prometheus::Gauge& gauge(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
  }
  prometheus::Histogram& seconds(const char* name, const char* help) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add({}, kSeconds);
  }

  prometheus::Registry registry{prometheus::Registry::InsertBehavior::Merge};
  std::mutex mutex;  // one scrape at a time brings the counters up to date

  prometheus::Histogram& ttft =
      seconds("tiercel_llama_time_to_first_token_seconds", "From a request's arrival to its first token.");
  prometheus::Histogram& queue = seconds("tiercel_llama_queue_seconds", "From a request's arrival to its slot.");
  prometheus::Counter& computed = counter("tiercel_llama_prompt_tokens_total",
                                          "Prompt tokens by where their KV came from.", {{"source", "computed"}});
  prometheus::Counter& restored = counter("tiercel_llama_prompt_tokens_total", "", {{"source", "tiercel"}});
  prometheus::Counter& engine = counter("tiercel_llama_prompt_tokens_total", "", {{"source", "engine"}});
  prometheus::Counter& answered = counter("tiercel_llama_completion_tokens_total", "Tokens of answers.");
  prometheus::Counter& steps = counter("tiercel_llama_decode_calls_total", "Decode calls.");
  prometheus::Counter& evictions = counter("tiercel_llama_idle_evictions_total",
                                           "Idle sequences that gave their cells back because they were needed.");
  prometheus::Counter& restored_bytes = counter("tiercel_llama_moved_bytes_total",
                                                "Bytes between the engine and the cache.", {{"direction", "restored"}});
  prometheus::Counter& kept_bytes = counter("tiercel_llama_moved_bytes_total", "", {{"direction", "kept"}});
  prometheus::Counter& left_blocks = counter("tiercel_llama_left_blocks_total",
                                             "Blocks that were in the cache and left there: computing them is faster.");
  prometheus::Counter& refused_loads =
      counter("tiercel_llama_refused_loads_total", "Times that libllama did not take a block.");
  prometheus::Counter& rollbacks =
      counter("tiercel_llama_rollbacks_total", "Restores that were cut back to their last good block.");
  prometheus::Counter& queue_full = counter("tiercel_llama_queue_full_total", "Requests refused for a full queue.");
  prometheus::Gauge& queued = gauge("tiercel_llama_queued_requests", "Requests that wait for a slot.");
  prometheus::Gauge& busy = gauge("tiercel_llama_slots_busy", "Slots with a request.");
  prometheus::Gauge& slots = gauge("tiercel_llama_slots", "Slots.");
  prometheus::Gauge& slot_tokens =
      gauge("tiercel_llama_slot_tokens", "Tokens in all sequences; shared ones count for each.");
  prometheus::Gauge& context = gauge("tiercel_llama_context_tokens", "Cells of the engine's KV cache.");
  prometheus::Gauge& block_bytes = gauge("tiercel_llama_block_bytes", "Bytes of one block.");
  prometheus::Gauge& connections = gauge("tiercel_llama_connections", "Open HTTP connections.");
  prometheus::Family<prometheus::Counter>& requests =
      counters("tiercel_llama_requests_total", "Requests that ended, by how.");
  prometheus::Family<prometheus::Counter>& refusals =
      counters("tiercel_llama_refused_requests_total", "Requests refused, by HTTP status.");
};

ServerMetrics::ServerMetrics() : families_(std::make_unique<Families>()) {
  for (std::size_t i = 1; i < kFinishNames.size(); ++i) families_->requests.Add({{"finish", kFinishNames[i]}});
}
ServerMetrics::~ServerMetrics() = default;

void ServerMetrics::observe(Finish finish, const Timings& timings) {
  families_->requests.Add({{"finish", kFinishNames.at(static_cast<std::size_t>(finish))}}).Increment();
  if (timings.completion_tokens == 0) return;
  families_->ttft.Observe(timings.ttft_ms / 1000.0);
  families_->queue.Observe(timings.queue_ms / 1000.0);
}

void ServerMetrics::refused(int status) { families_->refusals.Add({{"status", std::to_string(status)}}).Increment(); }

std::string ServerMetrics::text(const EngineStats& stats, std::size_t connections) {
  Families& f = *families_;
  const std::lock_guard lock(f.mutex);
  const auto raise = [](prometheus::Counter& counter, std::uint64_t total) {
    counter.Increment(static_cast<double>(total) - counter.Value());
  };
  const BatcherStats& batcher = stats.batcher;
  raise(f.computed, batcher.prompt_computed);
  raise(f.restored, batcher.prompt_restored);
  raise(f.engine, batcher.prompt_from_engine);
  raise(f.answered, batcher.completion_tokens);
  raise(f.steps, batcher.steps);
  raise(f.evictions, batcher.idle_evictions);
  raise(f.restored_bytes, batcher.adapter.restored_bytes);
  raise(f.kept_bytes, batcher.adapter.kept_bytes);
  raise(f.left_blocks, batcher.adapter.left_blocks);
  raise(f.refused_loads, batcher.adapter.refused_loads);
  raise(f.rollbacks, batcher.adapter.rollbacks);
  raise(f.queue_full, stats.rejected);
  f.queued.Set(static_cast<double>(stats.queued));
  f.busy.Set(static_cast<double>(batcher.slots_busy));
  f.slots.Set(static_cast<double>(stats.slots));
  f.slot_tokens.Set(static_cast<double>(batcher.slot_tokens));
  f.context.Set(static_cast<double>(stats.context_tokens));
  f.block_bytes.Set(static_cast<double>(stats.block_bytes));
  f.connections.Set(static_cast<double>(connections));
  return prometheus::TextSerializer().Serialize(f.registry.Collect());
}

}  // namespace tiercel::llamacpp
