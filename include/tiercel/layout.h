// What a block is made of, and what decides its bytes: Layout (the run table) and ModelIdentity.
//
// A block holds the KV of one token block in one group over all layers, as a table of runs. A run is
// [head][token][bytes_per_head_token] in the engine's own packing of those bytes, so that the part of a tensor-parallel
// rank is one contiguous range a run; what cannot be split by head is an opaque run. Plain values.
#pragma once

#include <tiercel/block.h>
#include <tiercel/export.h>
#include <tiercel/result.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace tiercel {

/// One kind of layer state in a model.
enum class GroupKind : std::uint8_t {
  kFullAttention = 0,  ///< needs every block before a position
  kSlidingWindow = 1,  ///< needs the blocks of the last `window_tokens` tokens
  kRecurrent = 2,      ///< needs the state at exactly one position
};

/// What a run holds.
enum class StateKind : std::uint8_t {
  kKey = 0,
  kValue = 1,
  kKeyValue = 2,   ///< K and V of a head side by side, as vLLM 0.26 packs them
  kLatent = 3,     ///< the compressed latent of MLA
  kScales = 4,     ///< quantisation scales
  kRecurrent = 5,  ///< a state-space or linear-attention state
  kBlob = 6,       ///< an engine's own serialised state, for example llama.cpp's
};

/// One run of a block. Exactly one of the two forms: split by head (`heads` > 0: bytes = heads * block_tokens *
/// bytes_per_head_token) or opaque (`heads` == 0: `opaque_bytes`).
struct Run {
  std::uint32_t layer = 0;
  StateKind kind = StateKind::kKeyValue;
  std::uint32_t heads = 0;
  std::uint32_t bytes_per_head_token = 0;
  std::uint64_t opaque_bytes = 0;
  friend bool operator==(const Run&, const Run&) = default;
};

struct Group {
  GroupKind kind = GroupKind::kFullAttention;
  std::uint32_t window_tokens = 0;  ///< of a sliding window; else 0
  std::vector<Run> runs;
  friend bool operator==(const Group&, const Group&) = default;
};

/// The run tables of a model's groups, the same for all blocks of a session.
struct Layout {
  std::vector<Group> groups;

  /// One full-attention group whose block is one opaque blob of at most `bytes` bytes.
  [[nodiscard]] static Layout blob(std::uint64_t bytes) {
    return Layout{.groups = {Group{.runs = {Run{.kind = StateKind::kBlob, .opaque_bytes = bytes}}}}};
  }
  friend bool operator==(const Layout&, const Layout&) = default;
};

/// All that decides the bytes of a block besides tokens, extra keys, tenant and layout. Every field enters the
/// fingerprint; a session with any other value shares nothing with this one.
struct ModelIdentity {
  std::string name;                 ///< for people; not part of the fingerprint
  BlockHash config_digest;          ///< SHA-256 of the model's configuration (file_digest)
  std::vector<BlockHash> weights;   ///< SHA-256 of every weight file in full, in the order of the files
  std::uint64_t weights_epoch = 0;  ///< changed when weights are replaced in place (for example in RL training)
  std::string kv_dtype;             ///< "f16", "q8_0", "fp8_e4m3", ...
  /// Whatever else changes the bytes: scales, rope overrides, attention kind, engine build. Sorted before hashing;
  /// one key twice is an error.
  std::vector<std::pair<std::string, std::string>> properties;
};

/// SHA-256 of a file's bytes in full. The result is kept under `cache_directory` (not kept if empty), keyed by device,
/// inode, size, mtime and ctime, so that a second start does not read the file again.
[[nodiscard]] TIERCEL_API Result<BlockHash> file_digest(const std::string& path, const std::string& cache_directory);

}  // namespace tiercel
