#include "model/run_table.h"

#include "base/try.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace tiercel {
namespace {

// Strides and offsets of copies are signed 64-bit.
constexpr std::uint64_t kMaxBlockBytes = std::numeric_limits<std::int64_t>::max();

Status invalid(std::string message) { return fail(ErrorCode::kInvalidArgument, std::move(message)); }

bool known(StateKind kind) { return kind <= StateKind::kBlob; }

Result<std::uint64_t> run_bytes(const Run& run, std::uint32_t block_tokens) {
  if (run.heads == 0 && run.opaque_bytes == 0) {
    return fail(ErrorCode::kInvalidArgument,
                "heads and opaque_bytes are both 0; a run needs heads and bytes_per_head_token, or opaque_bytes");
  }
  if (run.heads != 0 && run.opaque_bytes != 0) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("heads is {} and opaque_bytes is {}; one of them must be 0", run.heads, run.opaque_bytes));
  }
  if (run.heads == 0) {
    if (run.bytes_per_head_token != 0) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("bytes_per_head_token is {}; it must be 0 in an opaque run", run.bytes_per_head_token));
    }
    return run.opaque_bytes;
  }
  if (run.bytes_per_head_token == 0) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("bytes_per_head_token is 0; a run of {} heads needs at least 1", run.heads));
  }
  std::uint64_t bytes = std::uint64_t{run.heads} * run.bytes_per_head_token;  // below 2^64: two 32-bit factors
  if (__builtin_mul_overflow(bytes, std::uint64_t{block_tokens}, &bytes) || bytes > kMaxBlockBytes) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("heads {} x {} tokens x bytes_per_head_token {} is more than {} bytes", run.heads,
                            block_tokens, run.bytes_per_head_token, kMaxBlockBytes));
  }
  return bytes;
}

Status check_group(const Group& group) {
  if (group.kind > GroupKind::kRecurrent) {
    return invalid(fmt::format("kind is {}; valid are 0 to 2", static_cast<unsigned>(group.kind)));
  }
  if (group.kind == GroupKind::kSlidingWindow && group.window_tokens == 0) {
    return invalid("window_tokens is 0; a sliding window needs at least 1");
  }
  if (group.kind != GroupKind::kSlidingWindow && group.window_tokens != 0) {
    return invalid(
        fmt::format("window_tokens is {}; it must be 0 in a group without a sliding window", group.window_tokens));
  }
  if (group.runs.empty()) return invalid("runs is empty; a group needs at least one run");
  return {};
}

/// `runs` before `i` are in order already.
Status check_order(const std::vector<Run>& runs, std::size_t i) {
  const Run& run = runs[i];
  if (!known(run.kind)) {
    return invalid(fmt::format("kind is {}; valid are 0 to 6", static_cast<unsigned>(run.kind)));
  }
  if (i > 0 && run.layer < runs[i - 1].layer) {
    return invalid(
        fmt::format("layer {} comes after layer {}; runs must be sorted by layer", run.layer, runs[i - 1].layer));
  }
  for (std::size_t j = i; j > 0 && runs[j - 1].layer == run.layer; --j) {
    if (runs[j - 1].kind == run.kind) {
      return invalid(fmt::format("layer {} has two {} runs; each kind may appear once a layer", run.layer,
                                 state_kind_name(run.kind)));
    }
  }
  return {};
}

Error with_prefix(const std::string& prefix, Error error) {
  error.message = prefix + error.message;
  return error;
}

class LittleEndian {
 public:
  template <class T>
  void put(T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      bytes_.push_back(static_cast<std::byte>((static_cast<std::uint64_t>(value) >> (8 * i)) & 0xFFU));
    }
  }
  [[nodiscard]] std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace

Result<RunTable> RunTable::make(const Group& group, std::uint32_t block_tokens) {
  if (block_tokens == 0 || block_tokens > kMaxBlockTokens) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("block_tokens is {}; valid are 1 to {}", block_tokens, kMaxBlockTokens));
  }
  TIERCEL_TRY(check_group(group));
  RunTable table;
  table.block_tokens_ = block_tokens;
  table.runs_.reserve(group.runs.size());
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < group.runs.size(); ++i) {
    const std::string prefix = fmt::format("runs[{}]: ", i);
    if (Status order = check_order(group.runs, i); !order) {
      return tl::unexpected(with_prefix(prefix, std::move(order).error()));
    }
    Result<std::uint64_t> bytes = run_bytes(group.runs[i], block_tokens);
    if (!bytes) return tl::unexpected(with_prefix(prefix, std::move(bytes).error()));
    // `end` is at most 2^63 - 1, so rounding it up cannot wrap.
    const std::uint64_t offset = (end + kRunAlignment - 1) / kRunAlignment * kRunAlignment;
    if (offset > kMaxBlockBytes || *bytes > kMaxBlockBytes - offset) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("{}a block would be more than {} bytes", prefix, kMaxBlockBytes));
    }
    table.runs_.push_back({.run = group.runs[i], .offset_bytes = offset, .bytes = *bytes});
    end = offset + *bytes;
  }
  table.block_bytes_ = end;
  return table;
}

std::optional<std::size_t> RunTable::find(std::uint32_t layer, StateKind kind) const noexcept {
  auto it = std::ranges::lower_bound(runs_, layer, {}, [](const PlacedRun& placed) { return placed.run.layer; });
  for (; it != runs_.end() && it->run.layer == layer; ++it) {
    if (it->run.kind == kind) return static_cast<std::size_t>(it - runs_.begin());
  }
  return std::nullopt;
}

Result<std::vector<RunTable>> make_run_tables(const Layout& layout, std::uint32_t block_tokens) {
  if (layout.groups.empty()) {
    return fail(ErrorCode::kInvalidArgument, "layout.groups is empty; a layout needs at least one group");
  }
  std::vector<RunTable> tables;
  tables.reserve(layout.groups.size());
  for (std::size_t i = 0; i < layout.groups.size(); ++i) {
    Result<RunTable> table = RunTable::make(layout.groups[i], block_tokens);
    if (!table) return tl::unexpected(with_prefix(fmt::format("layout.groups[{}]: ", i), std::move(table).error()));
    tables.push_back(std::move(*table));
  }
  return tables;
}

std::vector<std::byte> serialize_layout(const Layout& layout, std::uint32_t block_tokens) {
  constexpr std::uint32_t kVersion = 1;
  constexpr std::uint32_t kGroupHeadBytes = 1 + 4 + 4;
  constexpr std::uint64_t kRunBytes = 4 + 1 + 4 + 4 + 8;
  LittleEndian out;
  out.put(kVersion);
  out.put(block_tokens);
  out.put(static_cast<std::uint32_t>(kRunAlignment));
  out.put(static_cast<std::uint32_t>(layout.groups.size()));
  for (const Group& group : layout.groups) {
    out.put(kGroupHeadBytes + kRunBytes * group.runs.size());
    out.put(static_cast<std::uint8_t>(group.kind));
    out.put(group.window_tokens);
    out.put(static_cast<std::uint32_t>(group.runs.size()));
    for (const Run& run : group.runs) {
      out.put(run.layer);
      out.put(static_cast<std::uint8_t>(run.kind));
      out.put(run.heads);
      out.put(run.bytes_per_head_token);
      out.put(run.opaque_bytes);
    }
  }
  return out.take();
}

std::string_view state_kind_name(StateKind kind) noexcept {
  switch (kind) {
    case StateKind::kKey:
      return "key";
    case StateKind::kValue:
      return "value";
    case StateKind::kKeyValue:
      return "key_value";
    case StateKind::kLatent:
      return "latent";
    case StateKind::kScales:
      return "scales";
    case StateKind::kRecurrent:
      return "recurrent";
    case StateKind::kBlob:
      return "blob";
  }
  return "unknown";
}

}  // namespace tiercel
