// PagedEngine: memory of an engine's KV tensors in any order of axes, addressed element by element.
//
// For tests alone: it computes places by its own arithmetic, so that copy geometry and copy engines are checked against
// something that shares no code with them. One rank of a model: layers [first_layer, end_layer), heads [first_head,
// end_head). Not thread-safe.
#pragma once

#include "base/random.h"
#include "model/copy_geometry.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <vector>

namespace tiercel::testing_support {

enum class Packing : std::uint8_t {
  kKvAxis,  ///< K and V by an axis of one tensor
  kLists,   ///< a K tensor and a V tensor
  kPacked,  ///< K and V of a head side by side
  kLatent,  ///< no heads: an opaque run
};

struct EngineShape {
  Packing packing = Packing::kKvAxis;
  std::vector<Axis> order{};  ///< outermost first, without kInner; with kLayer: one tensor over all layers
  std::map<Axis, std::uint64_t> padding_bytes{};  ///< after each step of an axis
  std::uint32_t pages = 8;
  std::uint32_t page_tokens = 16;
  std::uint32_t inner_bytes = 32;  ///< of K, of V, or of both where they are packed
  std::uint32_t heads = 4;         ///< of the model
  std::uint32_t layers = 2;        ///< of the model
  std::uint32_t first_head = 0;
  std::uint32_t end_head = 4;
  std::uint32_t first_layer = 0;
  std::uint32_t end_layer = 2;
};

/// The layout that fits a model of this shape.
inline Layout layout_of(const EngineShape& shape, std::uint32_t block_tokens) {
  Group group;
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer) {
    const auto add = [&](StateKind kind) {
      group.runs.push_back(
          {.layer = layer, .kind = kind, .heads = shape.heads, .bytes_per_head_token = shape.inner_bytes});
    };
    switch (shape.packing) {
      case Packing::kKvAxis:
      case Packing::kLists:
        add(StateKind::kKey);
        add(StateKind::kValue);
        break;
      case Packing::kPacked:
        add(StateKind::kKeyValue);
        break;
      case Packing::kLatent:
        group.runs.push_back({.layer = layer,
                              .kind = StateKind::kLatent,
                              .opaque_bytes = std::uint64_t{block_tokens} * shape.inner_bytes});
        break;
    }
  }
  return Layout{.groups = {group}};
}

/// Where a value of the model stands; `kv` is 0 for K or what is not split, 1 for V.
struct Place {
  std::uint32_t page = 0;
  std::uint32_t layer = 0;
  std::uint32_t kv = 0;
  std::uint32_t head = 0;
  std::uint32_t token = 0;
};

class PagedEngine {
 public:
  explicit PagedEngine(EngineShape shape) : shape_(std::move(shape)) {
    std::uint64_t extent = shape_.inner_bytes;
    for (auto it = shape_.order.rbegin(); it != shape_.order.rend(); ++it) {
      stride_[index(*it)] = extent;
      extent = extent * size(*it) + padding(*it);
    }
    one_tensor_ = std::ranges::find(shape_.order, Axis::kLayer) != shape_.order.end();
    const std::size_t layers = one_tensor_ ? 1 : shape_.end_layer - shape_.first_layer;
    const std::size_t count = layers * (shape_.packing == Packing::kLists ? 2 : 1);
    for (std::size_t i = 0; i < count; ++i) storage_.emplace_back(extent, std::byte{0xEE});
  }

  [[nodiscard]] const EngineShape& shape() const noexcept { return shape_; }

  [[nodiscard]] std::vector<EngineTensor> tensors() {
    std::vector<EngineTensor> tensors;
    for (std::size_t i = 0; i < storage_.size(); ++i) {
      EngineTensor tensor{.name = "t" + std::to_string(i),
                          .base = storage_[i].data(),
                          .storage_bytes = storage_[i].size(),
                          .first_layer = shape_.first_layer,
                          .first_head = shape_.packing == Packing::kLatent ? 0 : shape_.first_head};
      const std::size_t lists = shape_.packing == Packing::kLists ? 2 : 1;
      if (!one_tensor_) tensor.first_layer += static_cast<std::uint32_t>(i / lists);
      if (shape_.packing == Packing::kLists) tensor.kind = i % 2 == 0 ? StateKind::kKey : StateKind::kValue;
      if (shape_.packing == Packing::kLatent) tensor.kind = StateKind::kLatent;
      for (const Axis axis : shape_.order) {
        tensor.axes.push_back({axis, size(axis), static_cast<std::int64_t>(stride_[index(axis)])});
      }
      tensor.axes.push_back({Axis::kInner, shape_.inner_bytes, 1});
      tensors.push_back(std::move(tensor));
    }
    return tensors;
  }

  /// The first of inner_bytes bytes.
  [[nodiscard]] std::byte* at(const Place& place) {
    const std::uint32_t layer = place.layer - shape_.first_layer;
    std::size_t tensor = one_tensor_ ? 0 : layer;
    if (shape_.packing == Packing::kLists) tensor = 2 * tensor + place.kv;
    std::uint64_t offset = place.page * stride(Axis::kPage) + place.token * stride(Axis::kToken);
    if (one_tensor_) offset += layer * stride(Axis::kLayer);
    if (shape_.packing == Packing::kKvAxis) offset += place.kv * stride(Axis::kKv);
    if (shape_.packing != Packing::kLatent) offset += (place.head - shape_.first_head) * stride(Axis::kHead);
    return storage_[tensor].data() + offset;
  }

  /// Calls `visit(place)` for every head and token that this rank holds in `page`.
  template <class F>
  void for_each_in_page(std::uint32_t page, F visit) const {
    const bool two = shape_.packing == Packing::kKvAxis || shape_.packing == Packing::kLists;
    const bool latent = shape_.packing == Packing::kLatent;
    for (std::uint32_t layer = shape_.first_layer; layer < shape_.end_layer; ++layer) {
      for (std::uint32_t kv = 0; kv < (two ? 2U : 1U); ++kv) {
        for (std::uint32_t head = latent ? 0 : shape_.first_head; head < (latent ? 1 : shape_.end_head); ++head) {
          for (std::uint32_t token = 0; token < shape_.page_tokens; ++token) {
            visit(Place{.page = page, .layer = layer, .kv = kv, .head = head, .token = token});
          }
        }
      }
    }
  }

  /// Values that depend on the place in the model and on `salt`, not on the order of axes or the rank.
  void fill(std::uint64_t salt) {
    for (std::uint32_t page = 0; page < shape_.pages; ++page) {
      for_each_in_page(page, [&](const Place& p) {
        const std::uint64_t seed =
            ((((salt * 1031 + p.page) * 131 + p.layer) * 2 + p.kv) * 67 + p.head) * 263 + p.token;
        Random random(seed);
        std::byte* bytes = at(p);
        for (std::uint32_t i = 0; i < shape_.inner_bytes; ++i) bytes[i] = static_cast<std::byte>(random.next() & 0xFFU);
      });
    }
  }
  void clear(std::byte value) {
    for (auto& bytes : storage_) std::ranges::fill(bytes, value);
  }
  [[nodiscard]] const std::vector<std::vector<std::byte>>& storage() const noexcept { return storage_; }

  /// Element by element: this rank's part of the block that consists of `pages`.
  void reference_store(const RunTable& table, const std::vector<std::uint32_t>& pages, std::byte* block) {
    for (std::size_t i = 0; i < pages.size(); ++i) {
      for_each_in_page(pages[i], [&](const Place& p) {
        const std::size_t token = i * shape_.page_tokens + p.token;
        const PlacedRun& run = run_of(table, p);
        const std::size_t row = std::size_t{p.head} * table.block_tokens() + token;
        std::memcpy(block + run.offset_bytes + row * shape_.inner_bytes, at(p), shape_.inner_bytes);
      });
    }
  }

 private:
  static std::size_t index(Axis axis) { return static_cast<std::size_t>(axis); }
  [[nodiscard]] std::uint64_t stride(Axis axis) const { return stride_[index(axis)]; }
  [[nodiscard]] std::uint64_t padding(Axis axis) const {
    const auto it = shape_.padding_bytes.find(axis);
    return it == shape_.padding_bytes.end() ? 0 : it->second;
  }
  [[nodiscard]] std::uint64_t size(Axis axis) const {
    switch (axis) {
      case Axis::kPage:
        return shape_.pages;
      case Axis::kLayer:
        return shape_.end_layer - shape_.first_layer;
      case Axis::kKv:
        return 2;
      case Axis::kHead:
        return shape_.end_head - shape_.first_head;
      case Axis::kToken:
        return shape_.page_tokens;
      case Axis::kInner:
        return shape_.inner_bytes;
    }
    return 0;
  }
  [[nodiscard]] const PlacedRun& run_of(const RunTable& table, const Place& place) const {
    StateKind kind = place.kv == 0 ? StateKind::kKey : StateKind::kValue;
    if (shape_.packing == Packing::kPacked) kind = StateKind::kKeyValue;
    if (shape_.packing == Packing::kLatent) kind = StateKind::kLatent;
    return table.runs()[table.find(place.layer, kind).value()];
  }

  EngineShape shape_;
  std::array<std::uint64_t, kAxisCount> stride_{};
  bool one_tensor_ = false;
  std::vector<std::vector<std::byte>> storage_;
};

/// A shape with random packing, order of axes, padding and sizes, of one rank that holds everything.
inline EngineShape random_shape(Random& random) {
  EngineShape shape;
  shape.packing = static_cast<Packing>(random.below(4));
  shape.heads = shape.packing == Packing::kLatent ? 1 : static_cast<std::uint32_t>(1U << random.below(4));
  shape.layers = static_cast<std::uint32_t>(1 + random.below(4));
  shape.pages = static_cast<std::uint32_t>(4 + random.below(12));
  shape.page_tokens = static_cast<std::uint32_t>(1U << random.below(4));
  shape.inner_bytes = static_cast<std::uint32_t>(1 + random.below(48));
  shape.end_head = shape.heads;
  shape.end_layer = shape.layers;
  shape.order = {Axis::kPage, Axis::kToken};
  if (shape.packing != Packing::kLatent) shape.order.push_back(Axis::kHead);
  if (shape.packing == Packing::kKvAxis) shape.order.push_back(Axis::kKv);
  if (random.below(2) == 0) shape.order.push_back(Axis::kLayer);
  for (std::size_t i = shape.order.size(); i > 1; --i) std::swap(shape.order[i - 1], shape.order[random.below(i)]);
  for (const Axis axis : shape.order) {
    if (random.below(4) == 0) shape.padding_bytes[axis] = random.below(40);
  }
  return shape;
}

/// `count` different pages, shuffled or (every other time) with adjacent stretches.
inline std::vector<std::uint32_t> random_pages(Random& random, std::uint32_t of, std::size_t count) {
  std::vector<std::uint32_t> pages(of);
  for (std::uint32_t i = 0; i < of; ++i) pages[i] = i;
  if (random.below(2) == 0) {
    for (std::size_t i = pages.size(); i > 1; --i) std::swap(pages[i - 1], pages[random.below(i)]);
  } else {
    std::ranges::rotate(pages, pages.begin() + static_cast<std::ptrdiff_t>(random.below(of)));
  }
  pages.resize(count);
  return pages;
}

}  // namespace tiercel::testing_support
