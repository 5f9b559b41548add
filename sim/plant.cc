#include "sim/plant.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace tiercel::sim {
namespace {

constexpr std::array<std::string_view, 8> kNames{"none", "wrong_bytes", "mixed_block", "resurrected",
                                                 "late", "orphan",      "older_disk",  "empty_disk"};
constexpr std::uint64_t kEvery = 16;  // loads or reservations between two errors

using Bytes = std::vector<std::byte>;

/// What the planted session remembers: lives as long as any of its handles.
struct Memory {
  Plant plant = Plant::kNone;
  ManualClock* clock = nullptr;
  std::uint64_t calls = 0;
  std::map<BlockHash, Bytes> loaded;  // of kResurrected
  std::set<BlockHash> dropped;
  Bytes other;             // of kMixedBlock: the last block that was loaded
  std::deque<Bytes> kept;  // wrong blocks that were given out
};

class PlantedLoad final : public detail::LoadBackend {
 public:
  PlantedLoad(std::unique_ptr<detail::LoadBackend> inner, std::shared_ptr<Memory> memory, std::vector<BlockHash> asked,
              std::uint64_t deadline_ns)
      : inner_(std::move(inner)), memory_(std::move(memory)), asked_(std::move(asked)), deadline_ns_(deadline_ns) {}

  [[nodiscard]] std::span<const BlockRef> wait() override {
    if (!std::exchange(answered_, true)) answer();
    return blocks_;
  }
  [[nodiscard]] bool done() override { return answered_ || inner_->done(); }
  [[nodiscard]] LoadOutcome outcome() const override { return inner_->outcome(); }
  [[nodiscard]] std::vector<BlockRef> take() override {
    (void)wait();
    return std::exchange(blocks_, {});
  }

 private:
  void give(Bytes bytes) {
    memory_->kept.push_back(std::move(bytes));
    blocks_.emplace_back(CopyPin(), memory_->kept.back());
  }

  void answer() {
    (void)inner_->wait();
    blocks_ = inner_->take();
    const bool now = ++memory_->calls % kEvery == 0;
    if (memory_->plant == Plant::kResurrected) resurrect();
    if (memory_->plant == Plant::kLate && now) {
      const std::uint64_t at = memory_->clock->now_ns();
      memory_->clock->advance(deadline_ns_ > at ? deadline_ns_ - at + 1 : 1);
    }
    if (blocks_.empty() || (memory_->plant != Plant::kWrongBytes && memory_->plant != Plant::kMixedBlock)) return;
    const std::span<const std::byte> last = blocks_.back().bytes();
    Bytes bytes(last.begin(), last.end());
    const Bytes other = std::exchange(memory_->other, bytes);
    if (!now) return;
    if (memory_->plant == Plant::kWrongBytes) bytes[bytes.size() / 2] ^= std::byte{4};
    if (memory_->plant == Plant::kMixedBlock) {
      for (std::size_t i = bytes.size() / 16 * 8; i < std::min(bytes.size(), other.size()); ++i) bytes[i] = other[i];
    }
    blocks_.pop_back();
    give(std::move(bytes));
  }

  void resurrect() {
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      const auto bytes = blocks_[i].bytes();
      memory_->loaded[asked_[i]] = Bytes(bytes.begin(), bytes.end());
    }
    while (blocks_.size() < asked_.size()) {
      const BlockHash& next = asked_[blocks_.size()];
      if (!memory_->dropped.contains(next) || !memory_->loaded.contains(next)) return;
      give(memory_->loaded[next]);
    }
  }

  std::unique_ptr<detail::LoadBackend> inner_;
  std::shared_ptr<Memory> memory_;
  std::vector<BlockHash> asked_;
  std::uint64_t deadline_ns_;
  bool answered_ = false;
  std::vector<BlockRef> blocks_;
};

class PlantedReservation final : public detail::ReservationBackend {
 public:
  explicit PlantedReservation(std::shared_ptr<detail::ReservationBackend> inner) : inner_(std::move(inner)) {}
  [[nodiscard]] std::size_t size() const noexcept override { return inner_->size(); }
  [[nodiscard]] Reserved outcome(std::size_t item) const override {
    const Reserved outcome = inner_->outcome(item);
    return outcome == Reserved::kNoParent ? Reserved::kExists : outcome;
  }
  [[nodiscard]] std::span<std::byte> bytes(std::size_t item) const override { return inner_->bytes(item); }
  [[nodiscard]] CopyPin begin_copy(std::size_t item) const override { return inner_->begin_copy(item); }
  [[nodiscard]] Status commit(std::size_t item, std::optional<std::size_t> size) override {
    return inner_->commit(item, size);
  }
  void abort(std::size_t item) noexcept override { inner_->abort(item); }
  void finish() noexcept override { inner_->finish(); }
  [[nodiscard]] std::uint64_t id() const noexcept override { return inner_->id(); }

 private:
  std::shared_ptr<detail::ReservationBackend> inner_;
};

class PlantedSession final : public detail::SessionBackend {
 public:
  PlantedSession(std::shared_ptr<detail::SessionBackend> inner, Plant plant, ManualClock& clock)
      : inner_(std::move(inner)), memory_(std::make_shared<Memory>()) {
    memory_->plant = plant;
    memory_->clock = &clock;
  }
  [[nodiscard]] Space space(std::string_view tenant) const override { return inner_->space(tenant); }
  [[nodiscard]] Match match(const detail::ChainRef& chain) const override { return inner_->match(chain); }
  [[nodiscard]] std::unique_ptr<detail::LoadBackend> load(const LoadCall& call) override {
    auto inner = inner_->load(call);
    if (!inner) return nullptr;
    const auto asked = call.chain.hashes.first(std::min(call.blocks, call.chain.size()));
    const std::uint64_t deadline_ns =
        deadline_after(memory_->clock->now_ns(), static_cast<std::uint64_t>(call.deadline.count()));
    return std::make_unique<PlantedLoad>(std::move(inner), memory_, std::vector(asked.begin(), asked.end()),
                                         deadline_ns);
  }
  [[nodiscard]] std::shared_ptr<detail::ReservationBackend> reserve(const detail::ChainRef& chain, std::size_t first,
                                                                    std::size_t count) override {
    auto inner = inner_->reserve(chain, first, count);
    if (memory_->plant != Plant::kOrphan || !inner) return inner;
    return std::make_shared<PlantedReservation>(std::move(inner));
  }
  [[nodiscard]] Result<std::vector<BlockPart>> parts(std::uint64_t id, std::span<const std::size_t> blocks) override {
    return inner_->parts(id, blocks);
  }
  [[nodiscard]] Status report(std::uint64_t id, std::span<const std::size_t> blocks) override {
    return inner_->report(id, blocks);
  }
  [[nodiscard]] Result<std::unique_ptr<detail::PinBackend>> pin(const detail::ChainRef& chain, std::size_t blocks,
                                                                std::chrono::nanoseconds ttl) override {
    return inner_->pin(chain, blocks, ttl);
  }
  [[nodiscard]] Result<Dropped> drop(const detail::ChainRef& chain, std::size_t first) override {
    for (std::size_t i = first; i < chain.size(); ++i) memory_->dropped.insert(chain[i]);
    return inner_->drop(chain, first);
  }
  [[nodiscard]] Result<Dropped> drop(const Space& space) override { return inner_->drop(space); }
  void report_pool(const KvPool& pool) override { inner_->report_pool(pool); }
  void report_prefill(double bytes_per_second) override { inner_->report_prefill(bytes_per_second); }
  void report_prefill(const PrefillTime& prefill) override { inner_->report_prefill(prefill); }
  [[nodiscard]] std::uint64_t block_bytes() const noexcept override { return inner_->block_bytes(); }
  [[nodiscard]] const SessionOptions& options() const noexcept override { return inner_->options(); }
  [[nodiscard]] std::shared_ptr<const Mapping> arena() const override { return inner_->arena(); }
  void close() noexcept override { inner_->close(); }

 private:
  std::shared_ptr<detail::SessionBackend> inner_;
  std::shared_ptr<Memory> memory_;
};

}  // namespace

std::string_view plant_name(Plant plant) noexcept { return kNames[static_cast<std::size_t>(plant)]; }

Result<Plant> parse_plant(std::string_view text) {
  const auto found = std::ranges::find(kNames, text);
  if (found != kNames.end()) return static_cast<Plant>(found - kNames.begin());
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("plant: there is none called \"{}\"; valid are {}", text, fmt::join(kNames, ", ")));
}

std::shared_ptr<detail::SessionBackend> planted(std::shared_ptr<detail::SessionBackend> inner, Plant plant,
                                                ManualClock& clock) {
  if (plant == Plant::kNone || is_of_disks(plant)) return inner;
  return std::make_shared<PlantedSession>(std::move(inner), plant, clock);
}

}  // namespace tiercel::sim
