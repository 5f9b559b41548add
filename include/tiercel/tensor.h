// EngineTensor: how an engine's paged KV tensor lies in memory, by named axes with strides in bytes. RankPart: which
// part of a block the tensors of one rank hold.
//
// Read from the tensor itself (base, shape, strides, storage), never derived from an engine's version. Any order of
// axes and any padding between them can be said: K/V first or block first, HND or NHD, one tensor a layer or one over
// all layers. Plain values; the memory belongs to the engine and may be on another device: nothing here reads it.
#pragma once

#include <tiercel/export.h>
#include <tiercel/layout.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel {

enum class Axis : std::uint8_t {
  kPage = 0,   ///< the engine's pages (its "blocks"); required
  kLayer = 1,  ///< absent: the tensor holds one layer
  kKv = 2,     ///< of size 2, K at 0 and V at 1; absent: the tensor holds one state kind
  kHead = 3,   ///< absent: one head, or what is not split by head
  kToken = 4,  ///< tokens of a page; absent: a page of one token, or an opaque page
  kInner = 5,  ///< bytes of one head and token, or of an opaque page; required, stride 1
};
[[nodiscard]] TIERCEL_API std::string_view axis_name(Axis axis) noexcept;

struct TensorAxis {
  Axis axis = Axis::kInner;
  std::uint64_t size = 1;         ///< in steps of this axis; of kInner: bytes
  std::int64_t stride_bytes = 1;  ///< not used where size is 1
};

struct EngineTensor {
  std::string name;                       ///< for messages
  std::byte* base = nullptr;              ///< address of the element with index 0 on every axis
  std::uint64_t storage_bytes = 0;        ///< bytes of the allocation from `base` on
  std::vector<TensorAxis> axes{};         ///< in any order, each at most once
  StateKind kind = StateKind::kKeyValue;  ///< of a tensor without kKv axis
  std::uint32_t first_layer = 0;          ///< the model's number of the layer at index 0
  std::uint32_t first_head = 0;           ///< the model's number of the head at index 0: a tensor-parallel rank's part

  /// Size 1 and stride 0 for an axis that is absent.
  [[nodiscard]] TIERCEL_API TensorAxis axis(Axis which) const noexcept;
  [[nodiscard]] TIERCEL_API bool has(Axis which) const noexcept;
};

/// Who copies what cannot be split by head, when several tensor-parallel ranks hold the same bytes of it.
enum class OpaqueRuns : std::uint8_t {
  kCopied = 0,
  kLeft = 1,  ///< another rank's task: opaque runs need no tensor and give no piece
};

/// The part of a block that one rank moves. Its heads are said by the tensors (first_head and the head axis).
struct RankPart {
  std::uint32_t first_layer = 0;
  std::uint32_t end_layer = UINT32_MAX;  ///< a pipeline rank's layers: [first_layer, end_layer)
  OpaqueRuns opaque = OpaqueRuns::kCopied;
};

}  // namespace tiercel
