// A recording's lines: parts, sources, requests, and how requests were extended. docs/formats.md specifies them.
#include "base/try.h"
#include "workload/json_fields.h"
#include "workload/trace_lines.h"
#include "workload/workload_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tiercel {
namespace {

constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kNone = UINT32_MAX;
constexpr double kNsPerMs = 1e6;
constexpr double kNsPerSecond = 1e9;
constexpr std::size_t kDigits = 16;  // of a block

tl::unexpected<Error> wrong(std::string message) { return fail(ErrorCode::kInvalidArgument, std::move(message)); }

std::optional<std::uint64_t> digit_of(char c) {
  if (c >= '0' && c <= '9') return static_cast<std::uint64_t>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<std::uint64_t>(c - 'a' + 10);
  return std::nullopt;
}

/// Times are written with three decimals of a millisecond, which a double does not hold exactly.
std::uint64_t to_microsecond(std::uint64_t ns) { return (ns + 500) / 1'000 * 1'000; }

class RecordingReader {
 public:
  Status add(std::string_view line) {
    TIERCEL_TRY_ASSIGN(const JsonFields fields, JsonFields::parse(line));
    if (fields.has("tiercel_recording")) return begin_part(fields);
    if (fields.has("block_tokens")) return add_source(fields);
    return fields.has("of") ? extend(fields) : add_request(fields);
  }

  [[nodiscard]] Workload finish() && {
    Workload workload = std::move(builder_).finish(false);
    for (std::size_t i = 0; i < output_tokens_.size(); ++i) workload.requests[i].output_tokens = output_tokens_[i];
    return workload;
  }

 private:
  struct Block {
    std::uint64_t id = 0;
    std::uint32_t parent = kNone;  // as its number in the part
    std::uint32_t depth = 0;
  };
  struct Request {
    std::size_t number = 0;  // in the workload
    std::uint32_t prompt_blocks = 0;
    std::uint32_t block_tokens = 0;
  };

  Status begin_part(const JsonFields& fields) {
    TIERCEL_TRY_ASSIGN(const std::uint32_t version, fields.count("tiercel_recording"));
    if (version != kVersion) return wrong(fmt::format("a recording of version {}, which is not known here", version));
    TIERCEL_TRY_ASSIGN(const std::uint64_t unix_ns, fields.time_ns("unix_seconds", kNsPerSecond));
    part_ns_ = to_microsecond(unix_ns);
    if (!first_part_ns_) first_part_ns_ = part_ns_;
    blocks_.clear();
    sources_.clear();
    requests_.clear();
    return {};
  }

  Status add_source(const JsonFields& fields) {
    TIERCEL_TRY_ASSIGN(const std::uint32_t number, fields.count("source"));
    if (number != sources_.size()) return wrong(fmt::format("source is not {}, the next", sources_.size()));
    TIERCEL_TRY_ASSIGN(sources_.emplace_back(), fields.count("block_tokens"));
    return {};
  }

  /// Walks the chain of a line: `tail_` is its last block's number in the part, which has depth `depth_`.
  Status take_chain(const JsonFields& fields) {
    tail_ = kNone;
    depth_ = 0;
    if (fields.has("known")) {
      TIERCEL_TRY_ASSIGN(depth_, fields.count("known"));
      TIERCEL_TRY_ASSIGN(tail_, fields.count("after"));
      if (tail_ >= blocks_.size() || blocks_[tail_].depth != depth_) {
        return wrong(fmt::format("after names block {}, which is not the last of {} known ones", tail_, depth_));
      }
    }
    TIERCEL_TRY_ASSIGN(const std::string hex, fields.text("new"));
    if (hex.size() % kDigits != 0) return wrong("new is not 16 digits a block");
    if (blocks_.size() + hex.size() / kDigits >= kNone) return wrong("more than 4 billion blocks in one part");
    for (std::size_t at = 0; at < hex.size(); at += kDigits) {
      std::uint64_t id = 0;
      for (std::size_t i = at; i < at + kDigits; ++i) {
        const auto digit = digit_of(hex[i]);
        if (!digit) return wrong("new has something that is not a hexadecimal digit");
        id = id << 4U | *digit;
      }
      blocks_.push_back({.id = id, .parent = tail_, .depth = ++depth_});
      tail_ = static_cast<std::uint32_t>(blocks_.size() - 1);
    }
    return {};
  }

  Status add_request(const JsonFields& fields) {
    TIERCEL_TRY_ASSIGN(const std::uint32_t source, fields.count("source"));
    if (source >= sources_.size()) return wrong(fmt::format("source {} is not known", source));
    TIERCEL_TRY_ASSIGN(const std::uint64_t read_ns, fields.time_ns("t", kNsPerMs));
    const std::uint64_t since_part_ns = to_microsecond(read_ns);
    TIERCEL_TRY(take_chain(fields));
    const std::uint64_t start_ns = part_ns_ - std::min(part_ns_, first_part_ns_.value_or(part_ns_));
    now_ns_ = std::max(now_ns_, start_ns + since_part_ns);  // the clock may have been set back between parts
    ids_.resize(depth_);
    for (std::uint32_t block = tail_, at = depth_; at > 0; block = blocks_[block].parent)
      ids_[--at] = blocks_[block].id;
    const std::uint64_t tokens = std::uint64_t{depth_} * sources_[source];
    requests_.push_back({.number = output_tokens_.size(), .prompt_blocks = depth_, .block_tokens = sources_[source]});
    output_tokens_.push_back(0);
    return builder_.add(
        {.arrival_ns = now_ns_, .input_tokens = static_cast<std::uint32_t>(std::min<std::uint64_t>(tokens, kNone))},
        ids_);
  }

  Status extend(const JsonFields& fields) {
    TIERCEL_TRY_ASSIGN(const std::uint32_t of, fields.count("of"));
    if (of >= requests_.size()) return wrong(fmt::format("of names request {}, which is not known", of));
    TIERCEL_TRY(take_chain(fields));
    const Request& request = requests_[of];
    const std::uint64_t blocks = depth_ - std::min(depth_, request.prompt_blocks);
    std::uint32_t& tokens = output_tokens_[request.number];
    tokens = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(blocks * request.block_tokens, tokens, kNone));
    return {};
  }

  WorkloadBuilder builder_;
  std::vector<std::uint32_t> output_tokens_;  // by request of the workload
  std::optional<std::uint64_t> first_part_ns_;
  std::uint64_t now_ns_ = 0;
  // Of the part.
  std::uint64_t part_ns_ = 0;
  std::vector<std::uint32_t> sources_;  // their block_tokens
  std::vector<Block> blocks_;
  std::vector<Request> requests_;
  // Of the line.
  std::uint32_t tail_ = kNone;
  std::uint32_t depth_ = 0;
  std::vector<std::uint64_t> ids_;
};

}  // namespace

Result<Workload> read_recording_lines(LineReader& lines, std::string_view first) {
  RecordingReader reader;
  for (std::optional<std::string_view> line = first; line;) {
    if (Status status = line->empty() ? Status{} : reader.add(*line); !status) {
      return lines.wrong(status.error().message);
    }
    auto next = lines.next();
    if (!next && lines.is_cut_off()) break;  // its writer ended in the middle of a frame
    TIERCEL_TRY_ASSIGN(line, std::move(next));
  }
  return std::move(reader).finish();
}

}  // namespace tiercel
