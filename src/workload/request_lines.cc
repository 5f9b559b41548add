#include "base/try.h"
#include "workload/json_fields.h"
#include "workload/trace_lines.h"
#include "workload/workload_builder.h"

#include <optional>
#include <utility>
#include <vector>

namespace tiercel {
namespace {

constexpr double kNsPerMs = 1e6;

Status add_request(std::string_view line, WorkloadBuilder& builder, std::vector<std::uint64_t>& ids) {
  TIERCEL_TRY_ASSIGN(const JsonFields fields, JsonFields::parse(line));
  WorkloadRequest request;
  TIERCEL_TRY_ASSIGN(request.arrival_ns, fields.time_ns("timestamp", kNsPerMs));
  TIERCEL_TRY_ASSIGN(request.input_tokens, fields.count("input_length"));
  TIERCEL_TRY_ASSIGN(request.output_tokens, fields.count("output_length"));
  if (fields.has("session_id")) {
    TIERCEL_TRY_ASSIGN(request.session, fields.count("session_id"));
  }
  TIERCEL_TRY(fields.ids("hash_ids", ids));
  const auto& before = builder.so_far().requests;
  if (!before.empty() && before.back().arrival_ns > request.arrival_ns) {
    return fail(ErrorCode::kInvalidArgument, "timestamp lies before that of the line before");
  }
  return builder.add(request, ids);
}

}  // namespace

Result<Workload> read_request_lines(LineReader& lines, std::string_view first) {
  WorkloadBuilder builder;
  std::vector<std::uint64_t> ids;
  for (std::optional<std::string_view> line = first; line;) {
    if (Status status = line->empty() ? Status{} : add_request(*line, builder, ids); !status) {
      return lines.wrong(status.error().message);
    }
    TIERCEL_TRY_ASSIGN(line, lines.next());
  }
  return std::move(builder).finish(false);
}

}  // namespace tiercel
