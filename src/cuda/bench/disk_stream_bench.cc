// tiercel-gpu-disk-bench: how fast KV comes from files into a GPU's pages, beside what files and bus give alone.
//
//   tiercel-gpu-disk-bench DIRECTORY [--gib N] [--rounds N] [--workers N] [--depth N] [--threads]
//
// Makes a cache in DIRECTORY with N GiB (8) of blocks of Qwen3-8B (16 tokens, 2.25 MiB), and removes it again. Then,
// each with the cache opened anew, so that nothing is in RAM: the load into RAM alone; the load and then the copy; the
// load streamed into the pages as it comes (Transfer::stream). Beside them in the same run: threads that read the same
// file and hash what they read (XXH3), into memory of their own that is used again and into memory as large as the
// file, as a load does, and the copy from RAM alone. Medians of the rounds (3). After each streamed load the bytes of
// three layers of every block are compared. --workers and --depth: workers.threads and disk.depth; --threads: disk.io =
// threads.
#include "base/log.h"
#include "cuda/bench/stopwatch.h"
#include "model/block_checksum.h"

#include <tiercel/cache.h>
#include <tiercel/transfer.h>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <thread>

namespace {

using namespace tiercel;
using namespace std::chrono_literals;

constexpr std::uint32_t kLayers = 36;
constexpr std::uint64_t kHeads = 8;
constexpr std::uint64_t kTokens = 16;
constexpr std::uint64_t kRowBytes = 512;
constexpr std::uint64_t kPageBytes = kHeads * kTokens * kRowBytes;
constexpr std::uint64_t kBlockBytes = kLayers * kPageBytes;

constexpr std::uint64_t kExtentBytes = 64_MiB;  // of the tier's files
constexpr std::uint64_t kBlocksOfExtent = kExtentBytes / kBlockBytes;

constexpr const char* kUsage =
    "usage: tiercel-gpu-disk-bench DIRECTORY [--gib N] [--rounds N] [--workers N] [--depth N] [--threads]";

struct Arguments {
  std::string directory;
  std::uint64_t gib = 8;
  std::uint64_t rounds = 3;
  std::uint64_t workers = 0;
  std::uint64_t depth = DiskConfig{}.depth;
  bool threads = false;
};

std::string made;  // removed at the end, however that comes

[[noreturn]] void give_up(const std::string& what) {
  std::fprintf(stderr, "tiercel-gpu-disk-bench: %s\n", what.c_str());
  std::exit(1);
}
template <class T>
T must(Result<T> result) {
  if (!result) give_up(result.error().message);
  return std::move(*result);
}

std::uint64_t word_of(std::uint64_t block, std::uint64_t layer) {
  return (block * kLayers + layer + 1) * 0x9E3779B97F4A7C15U;
}

class Bench {
 public:
  explicit Bench(const Arguments& arguments)
      : directory_(arguments.directory), blocks_((arguments.gib << 30U) / kBlockBytes) {
    config_.disk.directories = {directory_};
    config_.disk.depth = static_cast<std::uint32_t>(arguments.depth);
    if (arguments.threads) config_.disk.io = DiskIo::kThreads;
    config_.workers.threads = static_cast<std::uint32_t>(arguments.workers);
    config_.disk.capacity = (blocks_ + kBlocksOfExtent - 1) / kBlocksOfExtent * kExtentBytes;
    config_.host.capacity = config_.disk.capacity + 512_MiB;
    Group group;
    for (std::uint32_t layer = 0; layer < kLayers; ++layer)
      group.runs.push_back({.layer = layer, .heads = kHeads, .bytes_per_head_token = kRowBytes});
    of_ = {.model = {.name = "tiercel-gpu-disk-bench", .kv_dtype = "bf16"}, .block_tokens = kTokens};
    of_.layout.groups.push_back(std::move(group));
    tokens_.resize(blocks_ * kTokens);
    std::iota(tokens_.begin(), tokens_.end(), 0);
    gpu_ = must(gpu::DeviceMemory::make(blocks_ * kBlockBytes));
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      tensors_.push_back({.name = fmt::format("layer {}", layer),
                          .base = layer_at(layer),
                          .storage_bytes = blocks_ * kPageBytes,
                          .axes = {{Axis::kPage, blocks_, static_cast<std::int64_t>(kPageBytes)},
                                   {Axis::kHead, kHeads, static_cast<std::int64_t>(kTokens * kRowBytes)},
                                   {Axis::kToken, kTokens, static_cast<std::int64_t>(kRowBytes)},
                                   {Axis::kInner, kRowBytes, 1}},
                          .first_layer = layer});
    }
    pages_.resize(blocks_);
    for (std::uint64_t i = 0; i < blocks_; ++i) pages_[i] = static_cast<std::uint32_t>((i * 7919 + 3) % blocks_);
  }
  [[nodiscard]] std::uint64_t bytes() const { return blocks_ * kBlockBytes; }

  void fill() {
    Opened open = opened();
    constexpr std::size_t kAtOnce = 64;
    for (std::size_t first = 0; first < blocks_; first += kAtOnce) {
      Reservation room = open.session.reserve(open.chain, first, kAtOnce);
      for (std::size_t i = 0; i < room.size(); ++i) {
        if (room.outcome(i) != Reserved::kYes) give_up("a block found no room");
        const auto to = room.writer(i).bytes();
        for (std::uint64_t layer = 0; layer < kLayers; ++layer) {
          auto* words = reinterpret_cast<std::uint64_t*>(to.data() + layer * kPageBytes);
          std::fill_n(words, kPageBytes / 8, word_of(first + i, layer));
        }
      }
      if (must(room.commit_all()).blocks != room.size()) give_up("a block was not taken");
    }
    for (int i = 0; open.session.match(open.chain).blocks_in(TierId::kDisk) < blocks_; ++i) {
      if (i == 30'000) give_up("the blocks are not on disk after 300 s");
      std::this_thread::sleep_for(10ms);
    }
  }

  double load_alone() {
    Opened open = opened();
    return gpu::seconds_of([&] { check_count(loaded(open).wait().size()); });
  }
  /// The load, and the copy after it.
  std::pair<double, double> load_then_copy() {
    Opened open = opened();
    Transfer transfer = ready(open);
    std::vector<BlockRef> blocks;
    const double load = gpu::seconds_of([&] { blocks = loaded(open).take(); });
    check_count(blocks.size());
    const double copy = gpu::seconds_of([&] { end(must(transfer.load(std::move(blocks), pages_))); });
    return {load, copy};
  }
  double streamed() {
    Opened open = opened();
    Transfer transfer = ready(open);
    gpu::bench_must(cudaMemset(gpu_.get(), 0, blocks_ * kBlockBytes));
    gpu::bench_must(cudaDeviceSynchronize());
    const double seconds = gpu::seconds_of([&] {
      const Copy copy = must(transfer.stream(loaded(open), pages_));
      end(copy);
      check_count(copy.blocks());
    });
    for (const std::uint32_t layer : {0U, 17U, 35U}) compare(layer);
    return seconds;
  }
  /// Best of some numbers of threads. `kept`: room for all of it; else each thread has room for one block.
  [[nodiscard]] std::pair<double, std::size_t> read_and_hash(std::byte* kept) const {
    std::pair<double, std::size_t> best{1e9, 0};
    for (const std::size_t threads : {4U, 8U, 12U, 16U}) {
      const double seconds = gpu::seconds_of([&] {
        std::vector<std::jthread> readers;
        for (std::size_t i = 0; i < threads; ++i) {
          readers.emplace_back([this, i, threads, kept] { read_part(i, threads, kept); });
        }
      });
      if (seconds < best.first) best = {seconds, threads};
    }
    return best;
  }

 private:
  struct Opened {
    Cache cache;
    Session session;
    BlockChain chain;
  };
  [[nodiscard]] std::byte* layer_at(std::uint64_t layer) const { return gpu_.data() + layer * blocks_ * kPageBytes; }
  Opened opened() {
    Cache cache = must(Cache::open(config_));
    Session session = must(cache.open_session(of_));
    BlockChain chain = hash_blocks(session.space(), tokens_);
    for (int i = 0; filled_ && session.match(chain).blocks() < blocks_; ++i) {
      if (i == 30'000) give_up("the blocks are not found after 30 s");
      std::this_thread::sleep_for(1ms);
    }
    filled_ = true;
    return {std::move(cache), std::move(session), std::move(chain)};
  }
  Load loaded(Opened& open) { return open.session.load(open.chain, blocks_, 120s); }
  /// With all of the arena registered.
  Transfer ready(const Opened& open) {
    Transfer transfer = must(Transfer::open(open.session, tensors_, {}, {.device = 0}));
    for (int i = 0; transfer.registered_bytes() < config_.host.capacity; ++i) {
      if (i == 60'000) give_up("the arena is not registered after 60 s");
      std::this_thread::sleep_for(1ms);
    }
    return transfer;
  }
  static void end(const Copy& copy) {
    if (!copy.wait(120s)) give_up("the copy has not ended after 120 s");
    if (const Status status = copy.status(); !status) give_up(status.error().message);
  }
  void check_count(std::size_t count) const {
    if (count != blocks_) give_up(fmt::format("{} of {} blocks came", count, blocks_));
  }
  void compare(std::uint32_t layer) const {
    std::vector<std::byte> pages(blocks_ * kPageBytes);
    gpu::bench_must(cudaMemcpy(pages.data(), layer_at(layer), pages.size(), cudaMemcpyDeviceToHost));
    std::vector<std::uint64_t> expected(kPageBytes / 8);
    for (std::uint64_t i = 0; i < blocks_; ++i) {
      std::ranges::fill(expected, word_of(i, layer));
      if (std::memcmp(pages.data() + pages_[i] * kPageBytes, expected.data(), kPageBytes) != 0)
        give_up(fmt::format("block {} has other bytes in layer {} than were stored", i, layer));
    }
  }
  void read_part(std::size_t number, std::size_t threads, std::byte* kept) const {
    const std::string file = directory_ + "/tiercel.kv";
    int fd = open(file.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
    if (fd < 0) fd = open(file.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) give_up(file + ": cannot be opened");
    auto* own = kept == nullptr ? static_cast<std::byte*>(std::aligned_alloc(4096, kBlockBytes)) : nullptr;
    std::uint64_t sum = 0;
    const BlockHash none;
    // As many bytes as the blocks have, of the extents that hold them; what is before those are headers.
    struct stat status{};
    (void)fstat(fd, &status);
    const auto begin = (static_cast<std::uint64_t>(status.st_size) - config_.disk.capacity) / 4096 * 4096;
    for (std::uint64_t i = number; i < blocks_; i += threads) {
      std::byte* room = kept == nullptr ? own : kept + i * kBlockBytes;
      if (pread(fd, room, kBlockBytes, static_cast<off_t>(begin + i * kBlockBytes)) !=
          static_cast<ssize_t>(kBlockBytes))
        give_up(file + ": short read");
      sum += block_checksum(BlockIdentity{.fingerprint = none, .hash = none}, std::span(room, kBlockBytes));
    }
    static std::atomic<std::uint64_t> sums{0};
    sums += sum;
    std::free(own);
    close(fd);
  }

  const std::string directory_;
  const std::uint64_t blocks_;
  Config config_;
  SessionOptions of_;
  std::vector<TokenId> tokens_;
  gpu::DeviceMemory gpu_;
  std::vector<EngineTensor> tensors_;
  std::vector<std::uint32_t> pages_;
  bool filled_ = false;
};

Arguments read_arguments(int argc, char** argv) {
  Arguments taken;
  const std::pair<std::string_view, std::uint64_t*> numbers[] = {
      {"--gib", &taken.gib}, {"--rounds", &taken.rounds}, {"--workers", &taken.workers}, {"--depth", &taken.depth}};
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const auto* named = std::ranges::find(numbers, word, &std::pair<std::string_view, std::uint64_t*>::first);
    if (named != std::end(numbers)) {
      const std::string value = i + 1 < argc ? argv[i + 1] : "";
      char* end = nullptr;
      const long number = std::strtol(value.c_str(), &end, 10);
      if (value.empty() || *end != '\0' || number < 1 || number > 1024) {
        give_up(fmt::format("{} {}: it must be a whole number from 1 to 1024", word, value));
      }
      *named->second = static_cast<std::uint64_t>(number);
      ++i;
    } else if (word == "--threads") {
      taken.threads = true;
    } else if (taken.directory.empty() && !word.starts_with("-")) {
      taken.directory = word;
    } else {
      give_up(fmt::format("what is {}? {}", word, kUsage));
    }
  }
  if (taken.directory.empty()) give_up(fmt::format("in which directory? {}", kUsage));
  return taken;
}

/// Memory as large as the blocks, there already.
std::shared_ptr<std::byte> touched_memory(std::uint64_t bytes) {
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) give_up("no memory to read into");
  (void)madvise(mapped, bytes, MADV_HUGEPAGE);
  (void)madvise(mapped, bytes, MADV_POPULATE_WRITE);
  return {static_cast<std::byte*>(mapped), [bytes](std::byte* memory) { munmap(memory, bytes); }};
}

void measure(const Arguments& arguments) {
  Bench bench(arguments);
  bench.fill();
  std::vector<double> plain;
  std::vector<double> kept;
  std::vector<double> alone;
  std::vector<double> load;
  std::vector<double> copy;
  std::vector<double> stream;
  std::size_t threads = 0;
  for (std::uint64_t round = 0; round < arguments.rounds; ++round) {
    const auto [seconds, by] = bench.read_and_hash(nullptr);
    plain.push_back(seconds);
    threads = by;
    kept.push_back(bench.read_and_hash(touched_memory(bench.bytes()).get()).first);
    alone.push_back(bench.load_alone());
    const auto [first, then] = bench.load_then_copy();
    load.push_back(first);
    copy.push_back(then);
    stream.push_back(bench.streamed());
  }
  const auto speed = [&](std::vector<double> seconds) {
    return static_cast<double>(bench.bytes()) / gpu::median(std::move(seconds)) / 1e9;
  };
  std::vector<double> both;
  for (std::size_t i = 0; i < load.size(); ++i) both.push_back(load[i] + copy[i]);
  const double slower = std::min(speed(load), speed(copy));
  fmt::print("{}: {:.2f} GB in blocks of {} bytes\n", arguments.directory, static_cast<double>(bench.bytes()) / 1e9,
             kBlockBytes);
  fmt::print("  plain read + XXH3 of the same file  {:7.2f} GB/s ({} threads, a block of memory each)\n", speed(plain),
             threads);
  fmt::print("  the same into memory for all of it  {:7.2f} GB/s\n", speed(kept));
  fmt::print("  load into RAM that nobody touched   {:7.2f} GB/s\n", speed(alone));
  fmt::print("  load into RAM                       {:7.2f} GB/s ({:.1f} % of plain)\n", speed(load),
             speed(load) / speed(plain) * 100);
  fmt::print("  copy from RAM to the GPU alone      {:7.2f} GB/s\n", speed(copy));
  fmt::print("  load, then copy                     {:7.2f} GB/s\n", speed(both));
  fmt::print(
      "  load streamed to the GPU            {:7.2f} GB/s ({:.1f} % of the slower of both alone, {:.1f} % of plain)\n",
      speed(stream), speed(stream) / slower * 100, speed(stream) / speed(plain) * 100);
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments = read_arguments(argc, argv);
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) give_up("no GPU to measure");
  arguments.directory += fmt::format("/tiercel-gpu-disk-bench-{}", getpid());
  std::error_code error;
  std::filesystem::create_directory(arguments.directory, error);
  if (error) give_up(fmt::format("{}: {}", arguments.directory, error.message()));
  made = arguments.directory;
  (void)std::atexit([] { std::filesystem::remove_all(made); });
  set_log_level(LogLevel::kWarn);
  measure(arguments);
  return 0;
}
