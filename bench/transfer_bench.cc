// How fast the host copy engine moves plans, next to plain memcpy of the same bytes in the same run.
//
// Bound: as many threads as the engine has workers, each one memcpy over its contiguous share. Both sides are mapped
// with huge pages where the system gives them, and touched beforehand. Bound and plan alternate; the rates are medians
// of the rounds, RATIO is the median of each round's ratio. "Shuffled": pages and slots in random order, which also
// costs page walks and DRAM rows that no copy can avoid; "in order" shows the engine's own cost. In neither do
// neighbouring runs join: a block's layers lie apart in the engine.
#include "base/clock.h"
#include "base/executor.h"
#include "base/random.h"
#include "transfer/host_copy_engine.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace tiercel;

struct Settings {
  std::uint64_t total_bytes = 512U << 20U;
  std::size_t rounds = 9;
  std::size_t threads = std::max(1U, std::thread::hardware_concurrency());
};

class Memory {
 public:
  explicit Memory(std::uint64_t bytes) : bytes_(bytes) {
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
      std::perror("mmap");
      std::exit(1);
    }
    (void)madvise(at, bytes, MADV_HUGEPAGE);
    data_ = static_cast<std::byte*>(at);
    std::memset(data_, 1, bytes);
  }
  ~Memory() { munmap(data_, bytes_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  [[nodiscard]] std::byte* data() const noexcept { return data_; }

 private:
  std::uint64_t bytes_;
  std::byte* data_ = nullptr;
};

enum class Order { kHeadMajor, kTokenMajor };
enum class Places { kInOrder, kShuffled };

struct Case {
  std::string name;
  Order order = Order::kHeadMajor;
  std::uint32_t heads = 8;
  std::uint32_t page_tokens = 16;
  std::uint32_t block_tokens = 16;
  std::uint32_t row_bytes = 256;  ///< of K and V of one head and token side by side
  std::uint32_t layers = 32;
  Places places = Places::kShuffled;
};

class Bench {
 public:
  explicit Bench(const Settings& settings)
      : settings_(settings),
        executor_({.name = "bench", .threads = settings.threads}, clock_),
        engine_(executor_),
        engine_memory_(settings.total_bytes),
        arena_(settings.total_bytes) {}

  void run(const Case& c) {
    const auto geometry = std::make_shared<const CopyGeometry>(geometry_of(c));
    const std::uint64_t blocks = settings_.total_bytes / geometry->block_bytes();
    for (const CopyDirection direction : {CopyDirection::kStore, CopyDirection::kLoad}) {
      std::vector<double> plan_ns;
      std::vector<double> memcpy_ns;
      const std::uint64_t bytes = blocks * geometry->block_bytes();
      for (std::size_t round = 0; round <= settings_.rounds; ++round) {
        CopyPlan plan = plan_of(geometry, blocks, c.places);
        const double a = time([&] { plain_memcpy(direction, bytes); });
        const double b = time([&] { submit_and_wait({.work = std::move(plan), .direction = direction}); });
        if (round == 0) continue;  // first touch of code and queues
        memcpy_ns.push_back(a);
        plan_ns.push_back(b);
      }
      std::vector<double> ratios;  // of the two that ran next to each other: a loaded machine drifts
      for (std::size_t i = 0; i < plan_ns.size(); ++i) ratios.push_back(memcpy_ns[i] / plan_ns[i]);
      const double plan_rate = static_cast<double>(bytes) / median(plan_ns);
      const double memcpy_rate = static_cast<double>(bytes) / median(memcpy_ns);
      std::printf("%-34s %-6s %8.2f GB/s   memcpy %8.2f GB/s   RATIO %.3f\n", c.name.c_str(),
                  direction == CopyDirection::kStore ? "store" : "load", plan_rate, memcpy_rate, median(ratios));
      std::fflush(stdout);
    }
  }

 private:
  CopyGeometry geometry_of(const Case& c) {
    Group group;
    for (std::uint32_t layer = 0; layer < c.layers; ++layer) {
      group.runs.push_back({.layer = layer, .heads = c.heads, .bytes_per_head_token = c.row_bytes});
    }
    const RunTable table = RunTable::make(group, c.block_tokens).value();
    const std::uint64_t page_bytes = std::uint64_t{c.heads} * c.page_tokens * c.row_bytes;
    const std::uint64_t pages = settings_.total_bytes / (page_bytes * c.layers);
    const auto row = static_cast<std::int64_t>(c.row_bytes);
    const bool head_major = c.order == Order::kHeadMajor;
    std::vector<EngineTensor> tensors;
    for (std::uint32_t layer = 0; layer < c.layers; ++layer) {
      tensors.push_back({.name = "layer " + std::to_string(layer),
                         .base = engine_memory_.data() + layer * pages * page_bytes,
                         .storage_bytes = pages * page_bytes,
                         .axes = {{Axis::kPage, pages, static_cast<std::int64_t>(page_bytes)},
                                  {Axis::kHead, c.heads, head_major ? row * c.page_tokens : row},
                                  {Axis::kToken, c.page_tokens, head_major ? row : row * c.heads},
                                  {Axis::kInner, c.row_bytes, 1}},
                         .first_layer = layer});
    }
    return CopyGeometry::make(table, tensors).value();
  }

  template <class T>
  void shuffle(std::vector<T>& items) {
    for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random_.below(i)]);
  }

  CopyPlan plan_of(const std::shared_ptr<const CopyGeometry>& geometry, std::uint64_t blocks, Places places) {
    std::vector<std::uint32_t> pages(blocks * geometry->pages_per_block());
    for (std::uint32_t i = 0; i < pages.size(); ++i) pages[i] = i;
    std::vector<std::byte*> slots(blocks);
    for (std::uint64_t i = 0; i < blocks; ++i) slots[i] = arena_.data() + i * geometry->block_bytes();
    if (places == Places::kShuffled) {
      shuffle(pages);
      shuffle(slots);
    }
    return CopyPlan::make(geometry, std::move(pages), std::move(slots)).value();
  }

  void submit_and_wait(CopyJob job) {
    std::atomic<bool> done{false};
    job.done = [&](const Status&) {
      done.store(true, std::memory_order_release);
      executor_.wake();
    };
    if (!engine_.submit(std::move(job))) std::abort();
    (void)executor_.wait_until([&] { return done.load(std::memory_order_acquire) && engine_.in_flight() == 0; },
                               UINT64_MAX);
  }

  void plain_memcpy(CopyDirection direction, std::uint64_t bytes) {
    const bool store = direction == CopyDirection::kStore;
    std::byte* to = store ? arena_.data() : engine_memory_.data();
    const std::byte* from = store ? engine_memory_.data() : arena_.data();
    const std::uint64_t share = bytes / settings_.threads;
    std::atomic<std::size_t> done{0};
    for (std::size_t i = 0; i < settings_.threads; ++i) {
      const bool taken = executor_.submit([&, i] {
        std::memcpy(to + i * share, from + i * share, share);
        if (done.fetch_add(1, std::memory_order_acq_rel) + 1 == settings_.threads) executor_.wake();
      });
      if (!taken) std::abort();
    }
    (void)executor_.wait_until([&] { return done.load(std::memory_order_acquire) == settings_.threads; }, UINT64_MAX);
  }

  template <class F>
  double time(F work) {
    const std::uint64_t begin = clock_.now_ns();
    work();
    return static_cast<double>(clock_.now_ns() - begin);
  }
  static double median(std::vector<double> values) {
    std::ranges::sort(values);
    return values[values.size() / 2];
  }

  Settings settings_;
  SteadyClock clock_;
  ThreadedExecutor executor_;
  HostCopyEngine engine_;
  Memory engine_memory_;
  Memory arena_;
  Random random_{1};
};

}  // namespace

/// transfer_bench [MiB a side] [rounds] [threads]
int main(int argc, char** argv) {
  Settings settings;
  if (argc > 1) settings.total_bytes = std::strtoull(argv[1], nullptr, 10) << 20U;
  if (argc > 2) settings.rounds = std::strtoull(argv[2], nullptr, 10);
  if (argc > 3) settings.threads = std::strtoull(argv[3], nullptr, 10);
  if (settings.total_bytes < (64U << 20U) || settings.rounds == 0 || settings.threads == 0) {
    std::fprintf(stderr, "usage: transfer_bench [MiB a side, at least 64] [rounds] [threads]\n");
    return 2;
  }
  Bench bench(settings);
  std::printf("%llu MiB a side, %zu threads, kernel %d, medians of %zu rounds\n",
              static_cast<unsigned long long>(settings.total_bytes >> 20U), settings.threads,
              static_cast<int>(best_stream_kernel()), settings.rounds);
  bench.run({.name = "straight runs of 4 KiB", .heads = 1, .places = Places::kInOrder});
  bench.run({.name = "straight runs of 4 KiB, shuffled", .heads = 1});
  bench.run({.name = "straight runs of 16 KiB, shuffled", .heads = 4});
  bench.run({.name = "straight runs of 64 KiB, shuffled", .heads = 16});
  bench.run({.name = "straight runs of 1 MiB, shuffled", .heads = 16, .page_tokens = 256, .block_tokens = 256});
  const Order foreign = Order::kTokenMajor;
  bench.run({.name = "NHD pages of 16, blocks of 16", .order = foreign});
  bench.run({.name = "NHD pages of 16, blocks of 64", .order = foreign, .block_tokens = 64});
  bench.run({.name = "NHD pages of 64, blocks of 64", .order = foreign, .page_tokens = 64, .block_tokens = 64});
  bench.run({.name = "HND pages of 16, blocks of 64", .block_tokens = 64});
  return 0;
}
