#include "workload/read_workload.h"

#include "base/try.h"
#include "workload/line_reader.h"
#include "workload/trace_lines.h"

#include <string>

namespace tiercel {

Result<Workload> read_workload(const std::string& path, const SessionLayout& layout) {
  TIERCEL_TRY_ASSIGN(LineReader lines, LineReader::open(path));
  TIERCEL_TRY_ASSIGN(const auto line, lines.next());
  if (!line) return fail(ErrorCode::kInvalidArgument, path + ": the file is empty");
  const std::string first(*line);
  if (first.starts_with("TIMESTAMP,")) return read_azure_lines(lines, first);
  if (!first.starts_with("{")) {
    return lines.wrong("neither a JSON object nor the heading TIMESTAMP,ContextTokens,GeneratedTokens");
  }
  // A request names its blocks itself, a session has requests that do; the key that comes first decides.
  const auto requests = first.find("\"requests\"");
  if (requests != std::string::npos && requests < first.find("\"hash_ids\"")) {
    return read_session_lines(lines, first, layout);
  }
  return read_request_lines(lines, first);
}

}  // namespace tiercel
