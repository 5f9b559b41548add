// TraceLines: the formats of traces, one reader each. What each takes and refuses is said in docs/replay.md.
// Each is handed the first line, which decided the format, and takes the rest from `lines`. One thread; errors name
// file and line.
#pragma once

#include "workload/line_reader.h"
#include "workload/read_workload.h"
#include "workload/workload.h"

#include <tiercel/result.h>

#include <string_view>

namespace tiercel {

/// One JSON object a request: timestamp (ms), input_length, output_length, hash_ids, session_id where there is one.
[[nodiscard]] Result<Workload> read_request_lines(LineReader& lines, std::string_view first);
/// One JSON object a session, with its requests, ids local to it; sessions are laid over each other by `layout`.
[[nodiscard]] Result<Workload> read_session_lines(LineReader& lines, std::string_view first,
                                                  const SessionLayout& layout);
/// What `tiercel serve --record` writes (docs/formats.md). A file that is cut off in its last frame ends there.
[[nodiscard]] Result<Workload> read_recording_lines(LineReader& lines, std::string_view first);
/// vLLM's KV events, one event or one batch a line: what its engine stored tells which prompts it had.
[[nodiscard]] Result<Workload> read_kv_event_lines(LineReader& lines, std::string_view first);
/// TIMESTAMP,ContextTokens,GeneratedTokens: no blocks. `first` is the heading.
[[nodiscard]] Result<Workload> read_azure_lines(LineReader& lines, std::string_view first);

}  // namespace tiercel
