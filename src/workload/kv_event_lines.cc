// vLLM's KV events (vllm/distributed/kv_events.py) as JSON lines: a batch [ts, [event, ...], ...] or an object with ts
// and events, or one event with a ts of its own.
//
// The events say what an engine stored, not what it was asked; so a request is read from what it stored: blocks behind
// a known block, whose chain up to the root was its prompt. What is stored within a second behind the end of a request
// is more of it (prefill in chunks, then the answer). A prompt that the engine had in full stores nothing and is not
// seen. Removals say nothing about requests.
#include "base/try.h"
#include "workload/json_fields.h"
#include "workload/trace_lines.h"
#include "workload/workload_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace tiercel {
namespace {

constexpr std::uint32_t kNone = UINT32_MAX;
constexpr double kNsPerSecond = 1e9;
constexpr std::uint64_t kGoesOn_ns = 1'000'000'000;
constexpr std::array<const char*, 2> kBatchFields = {"ts", "events"};

tl::unexpected<Error> wrong(std::string message) { return fail(ErrorCode::kInvalidArgument, std::move(message)); }

class KvEventReader {
 public:
  Status add(std::string_view line) {
    TIERCEL_TRY_ASSIGN(const JsonFields fields,
                       line.starts_with("[") ? JsonFields::parse_array(line, kBatchFields) : JsonFields::parse(line));
    TIERCEL_TRY_ASSIGN(const std::uint64_t ts_ns, fields.time_ns("ts", kNsPerSecond));
    if (!first_ns_) first_ns_ = ts_ns;
    now_ns_ = std::max(now_ns_, ts_ns - std::min(ts_ns, *first_ns_));
    if (!fields.has("events")) return add_event(fields);
    TIERCEL_TRY_ASSIGN(const auto events, fields.objects("events"));
    for (const JsonFields& event : events) TIERCEL_TRY(add_event(event));
    return {};
  }

  [[nodiscard]] Result<Workload> finish() && {
    WorkloadBuilder builder;
    std::vector<std::uint64_t> chain;
    for (const Request& request : requests_) {
      chain.clear();
      for (std::uint32_t block = request.tail; block != kNone; block = parents_[block]) chain.push_back(block);
      std::ranges::reverse(chain);
      const std::uint64_t tokens = chain.size() * request.block_tokens;
      TIERCEL_TRY(builder.add({.arrival_ns = request.begun_ns,
                               .input_tokens = static_cast<std::uint32_t>(std::min<std::uint64_t>(tokens, kNone))},
                              chain));
    }
    return std::move(builder).finish(false);
  }

 private:
  struct Request {
    std::uint64_t begun_ns = 0;
    std::uint64_t last_ns = 0;
    std::uint32_t tail = kNone;
    std::uint32_t block_tokens = 0;
  };

  Status add_event(const JsonFields& event) {
    if (event.is_text("type", "AllBlocksCleared")) {
      by_tail_.clear();
      return {};
    }
    if (event.is_text("type", "BlockRemoved")) return event.names("block_hashes", hashes_);
    if (!event.is_text("type", "BlockStored")) {
      return wrong("type is none of BlockStored, BlockRemoved and AllBlocksCleared");
    }
    return add_stored(event);
  }

  /// Of several groups of a model's layers the first, and of several media the one that is named first: the others
  /// say the same blocks again.
  Result<bool> is_counted(const JsonFields& event) {
    if (!event.is_null("group_idx")) {
      TIERCEL_TRY_ASSIGN(const std::uint32_t group, event.count("group_idx"));
      if (group != 0) return false;
    }
    std::string medium;
    if (!event.is_null("medium")) {
      TIERCEL_TRY_ASSIGN(medium, event.text("medium"));
    }
    if (!medium_) medium_ = medium;
    return *medium_ == medium;
  }

  Status add_stored(const JsonFields& event) {
    TIERCEL_TRY_ASSIGN(const bool counted, is_counted(event));
    TIERCEL_TRY(event.names("block_hashes", hashes_));
    TIERCEL_TRY_ASSIGN(const std::uint32_t block_tokens, event.count("block_size"));
    if (!counted || hashes_.empty()) return {};
    std::uint32_t parent = kNone;
    if (!event.is_null("parent_block_hash")) {
      TIERCEL_TRY_ASSIGN(const std::string name, event.name("parent_block_hash"));
      TIERCEL_TRY_ASSIGN(parent, number_of(name));
    }
    const std::uint32_t behind = parent;
    for (const std::string& name : hashes_) {
      TIERCEL_TRY_ASSIGN(const std::uint32_t block, number_of(name));
      TIERCEL_TRY(put_behind(block, parent, name));
      parent = block;
    }
    note_stored(behind, parent, block_tokens);
    return {};
  }

  Result<std::uint32_t> number_of(const std::string& name) {
    if (parents_.size() >= kNone) return wrong("more than 4 billion different blocks");
    const auto [found, is_new] = numbers_.try_emplace(name, static_cast<std::uint32_t>(parents_.size()));
    if (is_new) {
      parents_.push_back(kNone);
      is_placed_.push_back(false);
    }
    return found->second;
  }

  /// A block that was only named as a parent so far gets its own parent when it is stored.
  Status put_behind(std::uint32_t block, std::uint32_t parent, const std::string& name) {
    if (is_placed_[block]) {
      if (parents_[block] == parent) return {};
      return wrong(fmt::format("block {} stands behind two different blocks", name.substr(0, 80)));
    }
    if (was_parent_.contains(block) || parent == block) {  // else nothing stands behind it yet
      for (std::uint32_t at = parent; at != kNone; at = parents_[at]) {
        if (at == block) return wrong(fmt::format("block {} stands behind itself", name.substr(0, 80)));
      }
    }
    parents_[block] = parent;
    is_placed_[block] = true;
    if (parent != kNone && !is_placed_[parent]) was_parent_.insert(parent);
    return {};
  }

  void note_stored(std::uint32_t behind, std::uint32_t tail, std::uint32_t block_tokens) {
    std::size_t number = requests_.size();
    const auto open = behind == kNone ? by_tail_.end() : by_tail_.find(behind);
    if (open != by_tail_.end()) {
      if (now_ns_ <= requests_[open->second].last_ns + kGoesOn_ns) number = open->second;
      by_tail_.erase(open);
    }
    if (number == requests_.size()) requests_.push_back({.begun_ns = now_ns_, .block_tokens = block_tokens});
    requests_[number].last_ns = now_ns_;
    requests_[number].tail = tail;
    by_tail_[tail] = number;
  }

  std::optional<std::uint64_t> first_ns_;
  std::uint64_t now_ns_ = 0;
  std::optional<std::string> medium_;
  std::unordered_map<std::string, std::uint32_t> numbers_;
  std::vector<std::uint32_t> parents_;
  std::vector<bool> is_placed_;
  std::unordered_set<std::uint32_t> was_parent_;  // before they were placed
  std::vector<Request> requests_;
  std::unordered_map<std::uint32_t, std::size_t> by_tail_;
  std::vector<std::string> hashes_;
};

}  // namespace

Result<Workload> read_kv_event_lines(LineReader& lines, std::string_view first) {
  KvEventReader reader;
  for (std::optional<std::string_view> line = first; line;) {
    if (Status status = line->empty() ? Status{} : reader.add(*line); !status) {
      return lines.wrong(status.error().message);
    }
    TIERCEL_TRY_ASSIGN(line, lines.next());
  }
  auto workload = std::move(reader).finish();
  if (!workload) return lines.wrong(workload.error().message);
  return workload;
}

}  // namespace tiercel
