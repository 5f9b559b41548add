#include "base/random.h"
#include "base/try.h"
#include "workload/json_fields.h"
#include "workload/trace_lines.h"
#include "workload/workload_builder.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

namespace tiercel {
namespace {

constexpr double kNsPerSecond = 1e9;

struct Turn {
  WorkloadRequest request;  // its arrival counts from the session's start
  std::vector<std::uint64_t> ids;
  std::size_t place = 0;  // in the line, for turns of the same moment
};

/// `start_ns`: what `t` of these requests counts from.
Status collect_turns(const JsonFields& owner, std::uint64_t start_ns, bool in_subagent, std::vector<Turn>& turns) {
  TIERCEL_TRY_ASSIGN(const auto requests, owner.objects("requests"));
  for (const JsonFields& fields : requests) {
    TIERCEL_TRY_ASSIGN(const std::uint64_t after_ns, fields.time_ns("t", kNsPerSecond));
    if (start_ns + after_ns < start_ns) return fail(ErrorCode::kInvalidArgument, "t is too far from the start");
    if (fields.is_text("type", "subagent")) {
      if (in_subagent) return fail(ErrorCode::kInvalidArgument, "a sub-agent inside a sub-agent");
      TIERCEL_TRY(collect_turns(fields, start_ns + after_ns, true, turns));
      continue;
    }
    Turn turn;
    turn.request.arrival_ns = start_ns + after_ns;
    TIERCEL_TRY_ASSIGN(turn.request.input_tokens, fields.count("in"));
    TIERCEL_TRY_ASSIGN(turn.request.output_tokens, fields.count("out"));
    TIERCEL_TRY(fields.ids("hash_ids", turn.ids));
    turn.place = turns.size();
    turns.push_back(std::move(turn));
  }
  return {};
}

class SessionReader {
 public:
  explicit SessionReader(const SessionLayout& layout) : layout_(layout), random_(layout.seed) {}

  [[nodiscard]] Status add(std::string_view line) {
    TIERCEL_TRY_ASSIGN(const JsonFields fields, JsonFields::parse(line));
    turns_.clear();
    TIERCEL_TRY(collect_turns(fields, 0, false, turns_));
    std::ranges::sort(turns_, {}, [](const Turn& turn) { return std::pair(turn.request.arrival_ns, turn.place); });
    builder_.begin_scope();
    std::uint64_t recorded_ns = 0;
    std::uint64_t laid_ns = layout_.window_ns == 0 ? 0 : random_.below(layout_.window_ns);
    for (Turn& turn : turns_) {
      laid_ns += std::min(turn.request.arrival_ns - recorded_ns, layout_.longest_gap_ns);
      recorded_ns = turn.request.arrival_ns;
      turn.request.arrival_ns = laid_ns;
      turn.request.session = session_;
      TIERCEL_TRY(builder_.add(turn.request, turn.ids));
    }
    ++session_;
    return {};
  }

  [[nodiscard]] Workload finish() && { return std::move(builder_).finish(true); }

 private:
  SessionLayout layout_;
  Random random_;
  WorkloadBuilder builder_;
  std::vector<Turn> turns_;
  std::uint32_t session_ = 0;
};

}  // namespace

Result<Workload> read_session_lines(LineReader& lines, std::string_view first, const SessionLayout& layout) {
  SessionReader reader(layout);
  for (std::optional<std::string_view> line = first; line;) {
    if (Status status = line->empty() ? Status{} : reader.add(*line); !status) {
      return lines.wrong(status.error().message);
    }
    TIERCEL_TRY_ASSIGN(line, lines.next());
  }
  return std::move(reader).finish();
}

}  // namespace tiercel
