// PlanWorld: an engine of random layout with its arena, and random stores and loads between them whose result a host
// engine tells.
//
// Layouts: every packing, order of axes, padding, page size and alignment of PagedEngine, a rank's heads and layers,
// several pages a block; every eighth has layers of different size with scales beside them. Slots lie apart, together,
// or in any order. `Memory` puts the tensors where the engine under test finds them (transfer/testing). One thread.
#pragma once

#include "base/check.h"
#include "base/executor.h"
#include "base/random.h"
#include "model/testing/paged_engine.h"
#include "transfer/host_copy_engine.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace tiercel::gpu {

using namespace testing_support;

/// Layers of different width, each with an opaque page of scales behind its rows.
class UnevenEngine {
 public:
  explicit UnevenEngine(Random& random) : page_tokens_(static_cast<std::uint32_t>(1U << random.below(5))) {
    const std::uint64_t layers = 1 + random.below(5);
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      const auto inner =
          static_cast<std::uint32_t>(random.below(2) == 0 ? 16 * (1 + random.below(16)) : 1 + random.below(70));
      const auto heads = static_cast<std::uint32_t>(1 + random.below(4));
      const auto scales = static_cast<std::uint32_t>(1 + random.below(40));
      const std::uint64_t rows = std::uint64_t{page_tokens_} * heads * inner;
      const std::uint64_t page = rows + scales + random.below(33);  // padded
      storage_.emplace_back(kPages * page, std::byte{0xEE});
      layers_.push_back({inner, heads, scales, rows, page});
    }
  }
  static constexpr std::uint32_t kPages = 16;

  [[nodiscard]] Group group(std::uint32_t block_tokens) const {
    Group group;
    for (std::uint32_t i = 0; i < layers_.size(); ++i) {
      group.runs.push_back({.layer = i,
                            .kind = StateKind::kKeyValue,
                            .heads = layers_[i].heads,
                            .bytes_per_head_token = layers_[i].inner});
      group.runs.push_back({.layer = i,
                            .kind = StateKind::kScales,
                            .opaque_bytes = std::uint64_t{block_tokens} / page_tokens_ * layers_[i].scales});
    }
    return group;
  }
  /// The scales are a tensor of their own in the same storage, so what follows treats each storage once.
  [[nodiscard]] std::vector<EngineTensor> tensors(const std::vector<std::byte*>& bases) const {
    std::vector<EngineTensor> tensors;
    for (std::uint32_t i = 0; i < layers_.size(); ++i) {
      const Layer& l = layers_[i];
      const auto stride = [](std::uint64_t bytes) { return static_cast<std::int64_t>(bytes); };
      tensors.push_back({.name = "kv" + std::to_string(i),
                         .base = bases[i],
                         .storage_bytes = storage_[i].size(),
                         .axes = {{Axis::kPage, kPages, stride(l.page)},
                                  {Axis::kToken, page_tokens_, stride(std::uint64_t{l.heads} * l.inner)},
                                  {Axis::kHead, l.heads, stride(l.inner)},
                                  {Axis::kInner, l.inner, 1}},
                         .kind = StateKind::kKeyValue,
                         .first_layer = i});
      tensors.push_back({.name = "scales" + std::to_string(i),
                         .base = bases[i] + l.rows,
                         .storage_bytes = storage_[i].size() - l.rows,
                         .axes = {{Axis::kPage, kPages, stride(l.page)}, {Axis::kInner, l.scales, 1}},
                         .kind = StateKind::kScales,
                         .first_layer = i});
    }
    return tensors;
  }
  [[nodiscard]] std::vector<std::vector<std::byte>>& storage() { return storage_; }
  [[nodiscard]] std::uint32_t page_tokens() const { return page_tokens_; }

 private:
  struct Layer {
    std::uint32_t inner = 0, heads = 0, scales = 0;
    std::uint64_t rows = 0, page = 0;
  };
  std::uint32_t page_tokens_;
  std::vector<Layer> layers_;
  std::vector<std::vector<std::byte>> storage_;
};

inline void randomise(std::vector<std::byte>& bytes, Random& random) {
  for (std::byte& b : bytes) b = static_cast<std::byte>(random.next() & 0xFFU);
}

/// A rank's view of a random model: what PagedEngine can say.
inline EngineShape random_rank(Random& random) {
  EngineShape shape = random_shape(random);
  if (random.below(2) == 0) shape.inner_bytes = static_cast<std::uint32_t>(16 * (1 + random.below(20)));
  if (random.below(8) == 0) shape.inner_bytes = static_cast<std::uint32_t>(8 * (1 + random.below(9)));
  for (auto& [axis, bytes] : shape.padding_bytes) {
    if (random.below(2) == 0) bytes = bytes / 16 * 16;
  }
  if (shape.packing != Packing::kLatent && random.below(2) == 0) {
    shape.first_head = static_cast<std::uint32_t>(random.below(shape.heads));
    shape.end_head = static_cast<std::uint32_t>(shape.first_head + 1 + random.below(shape.heads - shape.first_head));
  }
  if (random.below(3) == 0) {
    shape.first_layer = static_cast<std::uint32_t>(random.below(shape.layers));
    shape.end_layer =
        static_cast<std::uint32_t>(shape.first_layer + 1 + random.below(shape.layers - shape.first_layer));
  }
  return shape;
}

template <class Memory>
class PlanWorld {
 public:
  explicit PlanWorld(std::uint64_t seed, std::byte* arena, std::uint64_t arena_bytes) : random_(seed), arena_(arena) {
    std::optional<RunTable> table;
    RankPart part;
    std::uint32_t page_tokens = 0;
    if (seed % 8 == 7) {
      uneven_.emplace(random_);
      pages_ = UnevenEngine::kPages;
      page_tokens = uneven_->page_tokens();
      storages_ = &uneven_->storage();
    } else {
      const EngineShape shape = random_rank(random_);
      paged_.emplace(shape);
      pages_ = shape.pages;
      page_tokens = shape.page_tokens;
      part = {.first_layer = shape.first_layer, .end_layer = shape.end_layer};
      storages_ = const_cast<std::vector<std::vector<std::byte>>*>(&paged_->storage());
    }
    pages_per_block_ = static_cast<std::uint32_t>(1 + random_.below(std::min(4U, pages_)));
    const std::uint32_t block_tokens = pages_per_block_ * page_tokens;
    table = RunTable::make(uneven_ ? uneven_->group(block_tokens) : layout_of(paged_->shape(), block_tokens).groups[0],
                           block_tokens)
                .value();
    for (auto& bytes : *storages_) randomise(bytes, random_);
    memory_.emplace(host_tensors());
    device_geometry_ = geometry(*table, memory_->tensors(), part);
    host_geometry_ = geometry(*table, host_tensors(), part);
    place_slots(arena_bytes);
  }

  /// Blocks that exist; each has pages and a slot of its own.
  [[nodiscard]] std::size_t blocks() const { return slots_.size(); }
  [[nodiscard]] std::uint64_t used_bytes() const { return used_; }
  [[nodiscard]] Memory& memory() { return *memory_; }
  [[nodiscard]] Random& random() { return random_; }
  /// Blocks [begin, end).
  [[nodiscard]] CopyPlan plan(std::size_t begin, std::size_t end) const { return make(device_geometry_, begin, end); }

  /// Blocks [begin, end) in the host's memory, by the host engine.
  void run_on_host(std::size_t begin, std::size_t end, CopyDirection direction) {
    ManualClock clock;
    ManualExecutor executor(clock);
    HostCopyEngine engine(executor);
    TIERCEL_CHECK(engine.submit({.work = make(host_geometry_, begin, end), .direction = direction}), "busy");
    executor.run_all();
  }
  [[nodiscard]] std::vector<std::byte> arena_bytes() const { return {arena_, arena_ + used_}; }
  [[nodiscard]] std::vector<std::vector<std::byte>> storage() const { return *storages_; }
  void restore(const std::vector<std::byte>& arena, const std::vector<std::vector<std::byte>>& storage) {
    std::ranges::copy(arena, arena_);
    for (std::size_t i = 0; i < storage.size(); ++i) std::ranges::copy(storage[i], (*storages_)[i].begin());
  }

 private:
  std::vector<EngineTensor> host_tensors() {
    if (paged_) return paged_->tensors();
    std::vector<std::byte*> bases;
    for (auto& bytes : *storages_) bases.push_back(bytes.data());
    return uneven_->tensors(bases);
  }
  static std::shared_ptr<const CopyGeometry> geometry(const RunTable& table, const std::vector<EngineTensor>& tensors,
                                                      const RankPart& part) {
    return std::make_shared<const CopyGeometry>(CopyGeometry::make(table, tensors, part).value());
  }
  [[nodiscard]] CopyPlan make(const std::shared_ptr<const CopyGeometry>& geometry, std::size_t begin,
                              std::size_t end) const {
    const auto at = [](std::size_t i) { return static_cast<std::ptrdiff_t>(i); };
    return CopyPlan::make(
               geometry,
               {page_ids_.begin() + at(begin * pages_per_block_), page_ids_.begin() + at(end * pages_per_block_)},
               {slots_.begin() + at(begin), slots_.begin() + at(end)})
        .value();
  }
  void place_slots(std::uint64_t arena_bytes) {
    const std::uint64_t block = device_geometry_->block_bytes();
    const std::uint64_t gap = random_.below(2) == 0 ? 0 : random_.below(50);
    const std::uint64_t lead = random_.below(2) == 0 ? 0 : random_.below(40);
    const std::size_t blocks = std::min<std::uint64_t>(pages_ / pages_per_block_, (arena_bytes - lead) / (block + gap));
    TIERCEL_CHECK(blocks > 0, "no room for a block");
    page_ids_ = random_pages(random_, pages_, blocks * pages_per_block_);
    for (std::size_t i = 0; i < blocks; ++i) slots_.push_back(arena_ + lead + i * (block + gap));
    if (random_.below(2) == 0) {
      for (std::size_t i = blocks; i > 1; --i) std::swap(slots_[i - 1], slots_[random_.below(i)]);
    }
    used_ = lead + blocks * (block + gap);
    for (std::uint64_t i = 0; i < used_; ++i) arena_[i] = static_cast<std::byte>(random_.next() & 0xFFU);
  }

  Random random_;
  std::byte* arena_;
  std::uint64_t used_ = 0;
  std::optional<PagedEngine> paged_;
  std::optional<UnevenEngine> uneven_;
  std::vector<std::vector<std::byte>>* storages_ = nullptr;
  std::optional<Memory> memory_;
  std::uint32_t pages_ = 0;
  std::uint32_t pages_per_block_ = 0;
  std::shared_ptr<const CopyGeometry> device_geometry_;
  std::shared_ptr<const CopyGeometry> host_geometry_;
  std::vector<std::uint32_t> page_ids_;
  std::vector<std::byte*> slots_;
};

}  // namespace tiercel::gpu
