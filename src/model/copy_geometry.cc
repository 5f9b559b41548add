#include "model/copy_geometry.h"

#include "base/try.h"

#include <fmt/format.h>

#include <algorithm>

namespace tiercel {
namespace {

Status invalid(const EngineTensor& tensor, std::string_view what) {
  return fail(ErrorCode::kInvalidArgument, fmt::format("tensor {}: {}", tensor.name, what));
}

std::uint64_t stride_of(const TensorAxis& axis) { return static_cast<std::uint64_t>(axis.stride_bytes); }

/// The pages that a block takes from this tensor for a run split by heads.
Result<std::uint64_t> pages_of_split(const EngineTensor& tensor, const Run& run, std::uint32_t block_tokens) {
  const std::uint64_t heads = tensor.axis(Axis::kHead).size;
  const std::uint64_t inner = tensor.axis(Axis::kInner).size;
  const std::uint64_t page_tokens = tensor.axis(Axis::kToken).size;
  if (inner != run.bytes_per_head_token) {
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("tensor {}: axis inner has {} bytes, but the {} run of layer {} has {} bytes a head and token",
                    tensor.name, inner, state_kind_name(run.kind), run.layer, run.bytes_per_head_token));
  }
  if (tensor.first_head >= run.heads || heads > run.heads - tensor.first_head) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("tensor {}: axis head has heads {} to {}, but the {} run of layer {} has {} heads; "
                            "first_head plus the axis' size may be at most that",
                            tensor.name, tensor.first_head, tensor.first_head + heads - 1, state_kind_name(run.kind),
                            run.layer, run.heads));
  }
  if (block_tokens % page_tokens != 0) {
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("tensor {}: axis token has {} tokens a page, which does not divide the {} tokens of a block",
                    tensor.name, page_tokens, block_tokens));
  }
  return block_tokens / page_tokens;
}

Result<std::uint64_t> pages_of_opaque(const EngineTensor& tensor, const Run& run, std::uint32_t block_tokens) {
  const std::uint64_t inner = tensor.axis(Axis::kInner).size;
  const TensorAxis token = tensor.axis(Axis::kToken);
  if (const std::uint64_t heads = tensor.axis(Axis::kHead).size; heads != 1) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("tensor {}: axis head has size {}, but the {} run of layer {} is opaque; it must be 1",
                            tensor.name, heads, state_kind_name(run.kind), run.layer));
  }
  // check_tensor has seen that a page lies inside the storage, so this product cannot wrap.
  const std::uint64_t page_bytes = inner * token.size;
  if (run.opaque_bytes % page_bytes != 0) {
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("tensor {}: axes token and inner make pages of {} bytes, which do not divide the {} bytes of "
                    "the {} run of layer {}",
                    tensor.name, page_bytes, run.opaque_bytes, state_kind_name(run.kind), run.layer));
  }
  const std::uint64_t pages = run.opaque_bytes / page_bytes;
  if (tensor.has(Axis::kToken) && (block_tokens % token.size != 0 || pages != block_tokens / token.size)) {
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("tensor {}: {} pages of {} tokens (axis token) fill the {} run of layer {}, but a block has "
                    "{} tokens",
                    tensor.name, pages, token.size, state_kind_name(run.kind), run.layer, block_tokens));
  }
  return pages;
}

/// Drops levels of one step; merges a level that continues the row on both sides; merges two levels that are one.
void merge_levels(RunPiece& piece) {
  const auto continues_row = [&](const CopyLevel& level) {
    return level.count > 1 && level.engine_stride_bytes == piece.row_bytes &&
           level.block_stride_bytes == piece.row_bytes;
  };
  for (CopyLevel* level : {&piece.inner, &piece.outer, &piece.inner}) {
    if (continues_row(*level)) piece.row_bytes *= std::exchange(*level, CopyLevel{}).count;
  }
  CopyLevel& inner = piece.inner;
  CopyLevel& outer = piece.outer;
  if (inner.count == 1) std::swap(inner, outer);
  if (inner.count == 1) inner = {};
  if (outer.count == 1) outer = {};
  if (outer.count > 1 && outer.engine_stride_bytes == inner.count * inner.engine_stride_bytes &&
      outer.block_stride_bytes == inner.count * inner.block_stride_bytes) {
    inner.count *= std::exchange(outer, CopyLevel{}).count;
  }
}

struct Source {
  const EngineTensor& tensor;
  std::uint64_t layer_index;
  std::uint64_t kv_index;
};

RunPiece make_piece(const Source& source, const PlacedRun& placed, std::uint32_t block_tokens) {
  const EngineTensor& tensor = source.tensor;
  const TensorAxis head = tensor.axis(Axis::kHead);
  const TensorAxis token = tensor.axis(Axis::kToken);
  const std::uint64_t inner = tensor.axis(Axis::kInner).size;
  const bool split = placed.run.heads != 0;
  const std::uint64_t block_head_stride = split ? block_tokens * inner : 0;
  RunPiece piece;
  piece.engine = tensor.base + source.layer_index * stride_of(tensor.axis(Axis::kLayer)) +
                 source.kv_index * stride_of(tensor.axis(Axis::kKv));
  piece.engine_page_stride_bytes = stride_of(tensor.axis(Axis::kPage));
  piece.block_offset_bytes = placed.offset_bytes + (split ? tensor.first_head * block_head_stride : 0);
  piece.block_page_stride_bytes = token.size * inner;
  piece.row_bytes = inner;
  piece.outer = {head.size, stride_of(head), block_head_stride};
  piece.inner = {token.size, stride_of(token), inner};
  merge_levels(piece);
  return piece;
}

/// Two straight pieces of a block of one page, side by side in the block and in every page.
bool joins(const RunPiece& a, const RunPiece& b) {
  return a.straight() && b.straight() && a.engine + a.row_bytes == b.engine &&
         a.block_offset_bytes + a.row_bytes == b.block_offset_bytes &&
         a.engine_page_stride_bytes == b.engine_page_stride_bytes;
}

class Mapper {
 public:
  Mapper(const RunTable& table, const RankPart& part)
      : table_(table), part_(part), holder_(table.runs().size(), nullptr) {}

  Status add(const EngineTensor& tensor) {
    TIERCEL_TRY(check_tensor(tensor));
    const std::uint64_t layers = tensor.axis(Axis::kLayer).size;
    for (std::uint64_t l = 0; l < layers; ++l) {
      if (!tensor.has(Axis::kKv)) {
        TIERCEL_TRY(add_run({tensor, l, 0}, tensor.kind));
        continue;
      }
      TIERCEL_TRY(add_run({tensor, l, 0}, StateKind::kKey));
      TIERCEL_TRY(add_run({tensor, l, 1}, StateKind::kValue));
    }
    page_count_ = std::min(page_count_, tensor.axis(Axis::kPage).size);
    return {};
  }

  Status check_all_held() const {
    for (std::size_t i = 0; i < holder_.size(); ++i) {
      const Run& run = table_.runs()[i].run;
      const bool wanted = run.layer >= part_.first_layer && run.layer < part_.end_layer &&
                          (run.heads != 0 || part_.opaque == OpaqueRuns::kCopied);
      if (wanted && holder_[i] == nullptr) {
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("no tensor holds the {} run of layer {}", state_kind_name(run.kind), run.layer));
      }
    }
    if (pieces_.empty()) return fail(ErrorCode::kInvalidArgument, "no tensor is given for this rank");
    return {};
  }

  [[nodiscard]] std::uint64_t page_count() const noexcept { return page_count_; }
  [[nodiscard]] std::uint64_t pages_per_block() const noexcept { return pages_per_block_; }

  /// Sorted by place in the block, joined, numbered.
  [[nodiscard]] std::vector<RunPiece> finish() {
    std::ranges::sort(pieces_, {}, &RunPiece::block_offset_bytes);
    std::vector<RunPiece> joined;
    for (const RunPiece& piece : pieces_) {
      if (pages_per_block_ == 1 && !joined.empty() && joins(joined.back(), piece)) {
        joined.back().row_bytes += piece.row_bytes;
      } else {
        joined.push_back(piece);
      }
    }
    std::uint64_t first_byte = 0;
    for (RunPiece& piece : joined) {
      piece.first_byte = first_byte;
      first_byte += piece.page_bytes() * pages_per_block_;
    }
    return joined;
  }

 private:
  Status add_run(const Source& source, StateKind kind) {
    const EngineTensor& tensor = source.tensor;
    const std::uint64_t layer = tensor.first_layer + source.layer_index;
    if (layer < part_.first_layer || layer >= part_.end_layer) {
      return invalid(tensor, fmt::format("axis layer reaches layer {}, but this rank has layers {} to {}", layer,
                                         part_.first_layer, part_.end_layer - 1));
    }
    const std::optional<std::size_t> index = table_.find(static_cast<std::uint32_t>(layer), kind);
    if (!index) {
      return invalid(tensor, fmt::format("{}the layout has no {} run for layer {}; a tensor's packing must be that of "
                                         "the layout",
                                         tensor.has(Axis::kKv) ? "axis kv splits K from V, but " : "",
                                         state_kind_name(kind), layer));
    }
    const PlacedRun& placed = table_.runs()[*index];
    if (placed.run.heads == 0 && part_.opaque == OpaqueRuns::kLeft) {
      return invalid(tensor, fmt::format("the {} run of layer {} is opaque and left to another rank",
                                         state_kind_name(kind), layer));
    }
    if (holder_[*index] != nullptr) {
      return invalid(tensor, fmt::format("the {} run of layer {} is held by tensor {} already", state_kind_name(kind),
                                         layer, holder_[*index]->name));
    }
    holder_[*index] = &tensor;
    TIERCEL_TRY_ASSIGN(const std::uint64_t pages, placed.run.heads != 0
                                                      ? pages_of_split(tensor, placed.run, table_.block_tokens())
                                                      : pages_of_opaque(tensor, placed.run, table_.block_tokens()));
    TIERCEL_TRY(check_pages(tensor, pages));
    pieces_.push_back(make_piece(source, placed, table_.block_tokens()));
    return {};
  }

  Status check_pages(const EngineTensor& tensor, std::uint64_t pages) {
    if (pages_per_block_ == 0) {
      if (pages > kMaxBlockTokens) {
        return invalid(tensor,
                       fmt::format("a block would take {} pages; at most {} are valid", pages, kMaxBlockTokens));
      }
      pages_per_block_ = static_cast<std::uint32_t>(pages);
      first_ = &tensor;
    }
    if (pages != pages_per_block_) {
      return invalid(
          tensor, fmt::format("a block takes {} of its pages, but {} of tensor {}; one plan has one page list", pages,
                              pages_per_block_, first_->name));
    }
    return {};
  }

  const RunTable& table_;
  const RankPart& part_;
  std::vector<const EngineTensor*> holder_;  // of each run
  std::vector<RunPiece> pieces_;
  std::uint64_t page_count_ = UINT64_MAX;
  std::uint32_t pages_per_block_ = 0;
  const EngineTensor* first_ = nullptr;
};

}  // namespace

Result<CopyGeometry> CopyGeometry::make(const RunTable& table, std::span<const EngineTensor> tensors,
                                        const RankPart& part) {
  if (part.first_layer >= part.end_layer) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("first_layer {} must be below end_layer {}", part.first_layer, part.end_layer));
  }
  Mapper mapper(table, part);
  for (const EngineTensor& tensor : tensors) TIERCEL_TRY(mapper.add(tensor));
  TIERCEL_TRY(mapper.check_all_held());
  CopyGeometry geometry;
  geometry.pieces_ = mapper.finish();
  geometry.pages_per_block_ = static_cast<std::uint32_t>(mapper.pages_per_block());
  geometry.page_count_ = mapper.page_count();
  geometry.block_bytes_ = table.block_bytes();
  const RunPiece& last = geometry.pieces_.back();
  geometry.part_bytes_ = last.first_byte + last.page_bytes() * geometry.pages_per_block_;
  return geometry;
}

}  // namespace tiercel
