// RunTable: where every run of a block lies, computed once from a public Group.
//
// Rule: runs stand in the order of the table, which is sorted by layer, so a layer's runs are adjacent and a pipeline
// rank's layers are one range. A run starts at the next multiple of kRunAlignment; so padding follows only a run whose
// size is no multiple of it, never the last run. Padding bytes belong to no run and are never read.
// Inside a run split by heads: [head][token][bytes_per_head_token], so heads [h0, h1) are one range too.
// A RunTable is a value; reading it from several threads is safe. Errors are kInvalidArgument and name run and field.
#pragma once

#include <tiercel/layout.h>
#include <tiercel/result.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace tiercel {

/// Keeps 16-byte vector accesses of a copy kernel possible in every run.
inline constexpr std::uint64_t kRunAlignment = 16;
inline constexpr std::uint32_t kMaxBlockTokens = 65'536;

/// A run and its place in a block.
struct PlacedRun {
  Run run;
  std::uint64_t offset_bytes = 0;
  std::uint64_t bytes = 0;
  friend bool operator==(const PlacedRun&, const PlacedRun&) = default;
};

class RunTable {
 public:
  [[nodiscard]] static Result<RunTable> make(const Group& group, std::uint32_t block_tokens);

  [[nodiscard]] const std::vector<PlacedRun>& runs() const noexcept { return runs_; }
  [[nodiscard]] std::uint32_t block_tokens() const noexcept { return block_tokens_; }
  /// End of the last run.
  [[nodiscard]] std::uint64_t block_bytes() const noexcept { return block_bytes_; }
  /// Index into runs(); a table has at most one run of a kind a layer.
  [[nodiscard]] std::optional<std::size_t> find(std::uint32_t layer, StateKind kind) const noexcept;

 private:
  std::vector<PlacedRun> runs_;
  std::uint32_t block_tokens_ = 0;
  std::uint64_t block_bytes_ = 0;
};

/// The tables of all groups of a layout; errors also name the group.
[[nodiscard]] Result<std::vector<RunTable>> make_run_tables(const Layout& layout, std::uint32_t block_tokens);

/// The bytes that enter the namespace's fingerprint: docs/formats.md, "Run table". Two layouts have the same bytes if
/// and only if their blocks have. Takes any layout, valid or not.
[[nodiscard]] std::vector<std::byte> serialize_layout(const Layout& layout, std::uint32_t block_tokens);

/// "key", "value", "key_value", ... for messages.
[[nodiscard]] std::string_view state_kind_name(StateKind kind) noexcept;

}  // namespace tiercel
