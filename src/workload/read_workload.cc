#include "workload/read_workload.h"

#include "base/try.h"
#include "workload/line_reader.h"
#include "workload/trace_lines.h"

#include <string>

namespace tiercel {
namespace {

/// A batch as an object, or an event; no other format has these keys.
bool has_kv_events(std::string_view line) {
  if (!line.starts_with("{")) return false;
  const auto is_there = [&](std::string_view text) { return line.find(text) != std::string_view::npos; };
  return is_there("\"events\"") || is_there("\"BlockStored\"") || is_there("\"BlockRemoved\"") ||
         is_there("\"AllBlocksCleared\"");
}

}  // namespace

Result<Workload> read_workload(const std::string& path, const SessionLayout& layout) {
  TIERCEL_TRY_ASSIGN(LineReader lines, LineReader::open(path));
  TIERCEL_TRY_ASSIGN(const auto line, lines.next());
  if (!line) return fail(ErrorCode::kInvalidArgument, path + ": the file is empty");
  const std::string first(*line);
  if (first.starts_with("TIMESTAMP,")) return read_azure_lines(lines, first);
  if (first.starts_with("[") || has_kv_events(first)) return read_kv_event_lines(lines, first);
  if (!first.starts_with("{")) {
    return lines.wrong("neither JSON nor the heading TIMESTAMP,ContextTokens,GeneratedTokens");
  }
  if (first.starts_with("{\"tiercel_recording\"")) return read_recording_lines(lines, first);
  // A request names its blocks itself, a session has requests that do; the key that comes first decides.
  const auto requests = first.find("\"requests\"");
  if (requests != std::string::npos && requests < first.find("\"hash_ids\"")) {
    return read_session_lines(lines, first, layout);
  }
  return read_request_lines(lines, first);
}

}  // namespace tiercel
