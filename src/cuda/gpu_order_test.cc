// Goal: on a GPU, a store reads what the compute before its event wrote, a load touches pages behind its event alone, a
// capture of graphs beside both is not disturbed, random traffic has no wrong byte, and a dead context is survived.
#include "base/random.h"
#include "cuda/testing/gpu_memory.h"
#include "cuda/testing/stage_options.h"
#include "cuda/testing/writer_kernel.h"
#include "model/run_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <deque>
#include <thread>

namespace tiercel::gpu {
namespace {

constexpr std::uint32_t kLayers = 4;
constexpr std::uint64_t kPieceBytes = 8192;
constexpr std::uint64_t kBlockBytes = kLayers * kPieceBytes;
constexpr std::uint64_t kPieceWords = kPieceBytes / 4;
constexpr std::uint64_t kDelayCycles = 30'000'000;  // about 15 ms

/// kLayers tensors of `pages` pages of kPieceBytes, straight; slots in pinned memory.
class Pool {
 public:
  Pool(std::uint32_t pages, std::uint32_t slots)
      : gpu_(DeviceMemory::make(kLayers * pages * kPieceBytes).value()),
        arena_(PinnedMemory::make(slots * kBlockBytes).value()),
        pages_(pages) {
    Group group;
    std::vector<EngineTensor> tensors;
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      group.runs.push_back({.layer = layer, .kind = StateKind::kKeyValue, .heads = 2, .bytes_per_head_token = 256});
      tensors.push_back({.name = "t",
                         .base = page(layer, 0),
                         .storage_bytes = pages * kPieceBytes,
                         .axes = {{Axis::kPage, pages, kPieceBytes},
                                  {Axis::kHead, 2, 16 * 256},
                                  {Axis::kToken, 16, 256},
                                  {Axis::kInner, 256, 1}},
                         .first_layer = layer});
    }
    geometry_ =
        std::make_shared<const CopyGeometry>(CopyGeometry::make(RunTable::make(group, 16).value(), tensors).value());
    must(cudaStreamCreateWithFlags(&compute_, cudaStreamNonBlocking));
    must(cudaMemset(gpu_.data(), 0, kLayers * pages * kPieceBytes));
    std::memset(arena_.data(), 0, slots * kBlockBytes);
  }
  ~Pool() { (void)cudaStreamDestroy(compute_); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  [[nodiscard]] std::byte* page(std::uint32_t layer, std::uint64_t number) const {
    return gpu_.data() + (layer * std::uint64_t{pages_} + number) * kPieceBytes;
  }
  [[nodiscard]] std::byte* slot(std::uint64_t number) const { return arena_.data() + number * kBlockBytes; }
  [[nodiscard]] cudaStream_t compute() const { return compute_; }
  [[nodiscard]] const std::shared_ptr<const CopyGeometry>& geometry() const { return geometry_; }

  /// One writer for each layer: word i of the block's layer l is written_word(version + l, i).
  void write(std::uint64_t number, std::uint32_t version, std::uint64_t delay_cycles = 0) const {
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      must(launch_writer(reinterpret_cast<std::uint32_t*>(page(layer, number)), kPieceWords, version + layer,
                         delay_cycles, compute_));
      delay_cycles = 0;
    }
  }
  void check(std::uint64_t number, std::uint32_t version, unsigned long long* wrong) const {
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      must(launch_checker(reinterpret_cast<const std::uint32_t*>(page(layer, number)), kPieceWords, version + layer,
                          wrong, compute_));
    }
  }
  [[nodiscard]] bool slot_holds(std::uint64_t number, std::uint32_t version) const {
    for (std::uint64_t i = 0; i < kBlockBytes / 4; ++i) {
      std::uint32_t word = 0;
      std::memcpy(&word, slot(number) + i * 4, 4);
      if (word != written_word(static_cast<std::uint32_t>(version + i / kPieceWords), i % kPieceWords)) return false;
    }
    return true;
  }
  void fill_slot(std::uint64_t number, std::uint32_t version) const {
    for (std::uint64_t i = 0; i < kBlockBytes / 4; ++i) {
      const std::uint32_t word = written_word(static_cast<std::uint32_t>(version + i / kPieceWords), i % kPieceWords);
      std::memcpy(slot(number) + i * 4, &word, 4);
    }
  }
  [[nodiscard]] CopyPlan plan(std::vector<std::uint32_t> pages, const std::vector<std::uint64_t>& slots) const {
    std::vector<std::byte*> at;
    for (const std::uint64_t s : slots) at.push_back(slot(s));
    return CopyPlan::make(geometry_, std::move(pages), std::move(at)).value();
  }

 private:
  DeviceMemory gpu_;
  PinnedMemory arena_;
  std::uint32_t pages_;
  std::shared_ptr<const CopyGeometry> geometry_;
  cudaStream_t compute_ = nullptr;
};

class GpuOrder : public testing::TestWithParam<CopyPath> {
 protected:
  void SetUp() override {
    if (const std::string missing = gpu_missing(); !missing.empty()) GTEST_SKIP() << missing;
    gpu_.emplace(with_stages({.stage_bytes = 1U << 20U, .chunk_bytes = 65'536},
                             {.store_bytes_per_second = 0, .merge_bytes = 4096, .path = GetParam()}));
    pool_.emplace(64, 64);
  }
  std::optional<GpuEngine> gpu_;
  std::optional<Pool> pool_;
  CudaEvent event_ = CudaEvent::make().value_or(CudaEvent{});
};

TEST_P(GpuOrder, a_store_reads_what_was_written_before_its_event) {
  for (const bool behind_event : {false, true}) {
    pool_->write(3, 100, kDelayCycles);
    must(cudaEventRecord(event_.get(), pool_->compute()));
    ASSERT_TRUE(gpu_->engine().submit({.work = pool_->plan({3}, {5}),
                                       .direction = CopyDirection::kStore,
                                       .after_event = behind_event ? event_.get() : nullptr}));
    must(cudaEventRecord(event_.get(), nullptr));  // recorded again at once, for something else
    ASSERT_TRUE(gpu_->settle_all());
    EXPECT_EQ(pool_->slot_holds(5, 100), behind_event)
        << "without the event the store must have come too early, or this test sees nothing";
    must(cudaDeviceSynchronize());
    pool_->write(3, 7);
    must(cudaDeviceSynchronize());
  }
}

TEST_P(GpuOrder, a_stream_waits_for_a_load_by_itself) {
  DeviceMemory wrong = DeviceMemory::make(sizeof(unsigned long long)).value();
  auto* count = reinterpret_cast<unsigned long long*>(wrong.data());
  std::uint32_t version = 1000;
  for (const bool waits : {false, true, true, true}) {
    must(cudaMemset(count, 0, sizeof(unsigned long long)));
    for (std::uint64_t i = 0; i < 32; ++i) pool_->fill_slot(i, version);
    std::vector<std::uint32_t> pages;
    std::vector<std::uint64_t> slots;
    for (std::uint32_t i = 0; i < 32; ++i) {
      pages.push_back(i);
      slots.push_back(i);
    }
    pool_->write(0, version + 1, kDelayCycles);  // holds the load up, on a page of its own
    must(cudaEventRecord(event_.get(), pool_->compute()));
    const auto ahead = waits ? std::make_shared<QueuedAhead>() : nullptr;
    ASSERT_TRUE(gpu_->engine().submit({.work = pool_->plan(pages, slots),
                                       .direction = CopyDirection::kLoad,
                                       .after_event = event_.get(),
                                       .ahead = ahead}));
    if (waits) {
      ASSERT_TRUE(gpu_->engine().wait_in_stream(pool_->compute(), *ahead, std::chrono::seconds(20)));
    }
    for (std::uint64_t i = 0; i < 32; ++i) pool_->check(i, version, count);
    must(cudaStreamSynchronize(pool_->compute()));
    unsigned long long found = 0;
    must(cudaMemcpy(&found, count, sizeof(found), cudaMemcpyDeviceToHost));
    EXPECT_EQ(found == 0, waits) << "without the wait the step must have come too early, or this test sees nothing";
    ASSERT_TRUE(gpu_->settle_all());
    version += 100;
  }
}

TEST_P(GpuOrder, a_load_waits_for_the_last_step_that_used_its_pages) {
  for (const bool behind_event : {false, true}) {
    pool_->fill_slot(9, 500);
    pool_->write(4, 200, kDelayCycles);  // the step before: it still writes the page
    must(cudaEventRecord(event_.get(), pool_->compute()));
    ASSERT_TRUE(gpu_->engine().submit({.work = pool_->plan({4}, {9}),
                                       .direction = CopyDirection::kLoad,
                                       .after_event = behind_event ? event_.get() : nullptr}));
    ASSERT_TRUE(gpu_->settle_all());
    must(cudaStreamSynchronize(pool_->compute()));
    const DeviceMemory wrong = DeviceMemory::make(8).value();
    must(cudaMemset(wrong.get(), 0, 8));
    pool_->check(4, 500, static_cast<unsigned long long*>(wrong.get()));
    unsigned long long count = 0;
    must(cudaStreamSynchronize(pool_->compute()));
    must(cudaMemcpy(&count, wrong.get(), 8, cudaMemcpyDeviceToHost));
    EXPECT_EQ(count == 0, behind_event) << "without the event the late writer must have won, or this test sees nothing";
  }
}

TEST_P(GpuOrder, loads_do_not_wait_behind_a_store_that_waits) {
  pool_->fill_slot(1, 300);
  pool_->write(2, 1, kDelayCycles);
  must(cudaEventRecord(event_.get(), pool_->compute()));
  std::atomic<int> order{0};
  std::atomic<int> load_was{0};
  std::atomic<int> store_was{0};
  ASSERT_TRUE(gpu_->engine().submit({.work = pool_->plan({2}, {2}),
                                     .direction = CopyDirection::kStore,
                                     .done = [&](const Status&) { store_was = ++order; },
                                     .after_event = event_.get()}));
  ASSERT_TRUE(gpu_->engine().submit({.work = pool_->plan({10}, {1}),
                                     .direction = CopyDirection::kLoad,
                                     .done = [&](const Status&) { load_was = ++order; }}));
  ASSERT_TRUE(gpu_->settle_all());
  EXPECT_EQ(load_was.load(), 1);
  EXPECT_EQ(store_was.load(), 2);
}

TEST_P(GpuOrder, a_capture_beside_it_is_not_disturbed) {
  std::vector<std::byte> memory(4U << 20U);
  cudaGraph_t graph = nullptr;
  must(cudaStreamBeginCapture(pool_->compute(), cudaStreamCaptureModeGlobal));
  std::thread other([&] {
    gpu_->engine().register_memory(memory.data(), memory.size());
    for (int i = 0; i < 20; ++i)
      EXPECT_TRUE(gpu_->engine().submit({.work = pool_->plan({20}, {20}), .direction = CopyDirection::kStore}));
    EXPECT_TRUE(gpu_->settle_all());
    EXPECT_TRUE(gpu_->settle([&] { return gpu_->engine().registered_bytes() == memory.size(); }));
  });
  for (int i = 0; i < 200; ++i) pool_->write(30, static_cast<std::uint32_t>(i));
  other.join();
  EXPECT_EQ(cudaStreamEndCapture(pool_->compute(), &graph), cudaSuccess) << "the capture was invalidated";
  EXPECT_TRUE(gpu_->engine().health().has_value());
  if (graph != nullptr) must(cudaGraphDestroy(graph));
  gpu_->drop_engine();
}

/// Stores of freshly written pages and loads of stored slots in random interleaving, the writer always at work; each
/// loaded block is checked on the GPU. Every block carries the version that it was written with.
TEST_P(GpuOrder, random_traffic_has_no_wrong_byte) {
  constexpr std::uint32_t kPages = 512;
  constexpr std::uint32_t kSlots = 512;
  const std::uint64_t wanted = how_many("TIERCEL_GPU_BLOCKS", 20'000);
  Pool pool(kPages, kSlots);
  const DeviceMemory wrong = DeviceMemory::make(8).value();
  must(cudaMemset(wrong.get(), 0, 8));
  Random random(static_cast<std::uint64_t>(GetParam()) + 11);
  std::vector<std::uint32_t> free_pages(kPages);
  for (std::uint32_t i = 0; i < kPages; ++i) free_pages[i] = i;
  std::vector<std::uint64_t> empty_slots(kSlots);
  for (std::uint32_t i = 0; i < kSlots; ++i) empty_slots[i] = i;
  std::vector<std::uint64_t> full_slots;
  std::vector<std::uint32_t> version_of(kSlots);
  struct Traffic {
    CopyDirection direction{};
    std::vector<std::uint32_t> pages;
    std::vector<std::uint64_t> slots;
    CudaEvent event;
    std::atomic<bool> ended{false};
  };
  std::deque<std::unique_ptr<Traffic>> traffic;
  const auto take = [&](auto& from, std::size_t count) {
    std::remove_reference_t<decltype(from)> taken;
    for (std::size_t i = 0; i < count; ++i) {
      std::swap(from[random.below(from.size())], from.back());
      taken.push_back(from.back());
      from.pop_back();
    }
    return taken;
  };
  std::atomic<int> failed{0};
  std::uint32_t version = 1;
  std::uint64_t blocks = 0;
  while (blocks < wanted || !traffic.empty()) {
    for (auto it = traffic.begin(); it != traffic.end();) {
      if (!(*it)->ended.load()) {
        ++it;
        continue;
      }
      Traffic& t = **it;
      if (t.direction == CopyDirection::kLoad) {
        for (std::size_t i = 0; i < t.pages.size(); ++i)
          pool.check(t.pages[i], version_of[t.slots[i]], static_cast<unsigned long long*>(wrong.get()));
      }
      auto& slots = t.direction == CopyDirection::kLoad ? empty_slots : full_slots;
      slots.insert(slots.end(), t.slots.begin(), t.slots.end());
      free_pages.insert(free_pages.end(), t.pages.begin(), t.pages.end());
      it = traffic.erase(it);
    }
    if (blocks >= wanted || traffic.size() >= 12) {
      std::this_thread::yield();
      continue;
    }
    const auto direction = static_cast<CopyDirection>(random.below(2));
    const bool store = direction == CopyDirection::kStore;
    const std::size_t room =
        std::min({free_pages.size(), store ? empty_slots.size() : full_slots.size(), std::size_t{64}});
    if (room == 0) continue;
    auto t = std::make_unique<Traffic>();
    const std::size_t count = 1 + random.below(room);
    t->direction = direction;
    t->pages = take(free_pages, count);
    t->slots = take(store ? empty_slots : full_slots, count);
    t->event = CudaEvent::make().value();
    for (std::size_t i = 0; i < count; ++i) {
      version += kLayers;
      // A load's pages are written too: that write must lose.
      if (store || random.below(4) == 0) pool.write(t->pages[i], version, random.below(8) == 0 ? 20'000 : 0);
      if (store) version_of[t->slots[i]] = version;
    }
    must(cudaEventRecord(t->event.get(), pool.compute()));
    ASSERT_TRUE(gpu_->engine().submit({.work = pool.plan(t->pages, t->slots),
                                       .direction = direction,
                                       .done =
                                           [&failed, traffic = t.get()](const Status& status) {
                                             failed += status ? 0 : 1;
                                             traffic->ended.store(true);
                                           },
                                       .after_event = t->event.get()}));
    blocks += count;
    traffic.push_back(std::move(t));
  }
  must(cudaStreamSynchronize(pool.compute()));
  unsigned long long count = 0;
  must(cudaMemcpy(&count, wrong.get(), 8, cudaMemcpyDeviceToHost));
  EXPECT_EQ(count, 0U) << "wrong words";
  EXPECT_EQ(failed.load(), 0);
  std::printf("random traffic: %lu block copies of %lu bytes, %llu wrong words\n", blocks, kBlockBytes, count);
}

INSTANTIATE_TEST_SUITE_P(Paths, GpuOrder, testing::Values(CopyPath::kMerged, CopyPath::kStaged));

}  // namespace
}  // namespace tiercel::gpu
