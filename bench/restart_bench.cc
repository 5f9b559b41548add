// How soon a cache whose disk file holds millions of blocks answers after a start.
//
//   restart_bench [--shuffled] DIRECTORY [BLOCKS [RUN]]
//
// Makes DIRECTORY/tiercel.kv with BLOCKS headers (its data region is sparse: no block is read), the run that is asked
// for, of RUN blocks, at the end of the table, where it is found last. Then starts itself again as another process,
// which opens a cache on it, with its threads, and prints apart, from its exec on: until match answers the whole run;
// until all is indexed; and beside them, in the same run, the tier's own reading and checking of the header table
// without an index, and a plain sequential read of as many bytes of the same file (O_DIRECT, 1 MiB at once). Each phase
// has its line as soon as it is over. The file is removed afterwards.
//
// --shuffled: the headers lie in a random order, so that nearly all blocks wait until nearly all are read: the worst
// that there is for indexing. Blocks that are written in the order of their runs, and evicted and written again, lie
// between the two.
#include "base/clock.h"
#include "io/system_file_system.h"
#include "model/testing/numbered_hash.h"
#include "tier/disk/device.h"
#include "tier/disk/disk_tier.h"
#include "tier/disk/metadata.h"

#include <tiercel/cache.h>

#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace tiercel;

constexpr std::uint64_t kSlotBytes = 256_KiB;
constexpr std::uint32_t kChain = 8192;  // blocks of each other run

constexpr std::uint64_t kPieceBytes = 64_MiB;  // of one write of the table
constexpr double kPatienceSeconds = 300;

struct Arguments {
  std::string directory;
  std::uint64_t blocks = 1'000'000;
  std::uint64_t run = 8192;
  bool shuffled = false;
  std::uint64_t exec_ns = 0;  ///< of the process that opens the cache: when it was started
  [[nodiscard]] std::string file() const { return directory + "/tiercel.kv"; }
};

double seconds_since(std::uint64_t start_ns) { return static_cast<double>(SteadyClock().now_ns() - start_ns) / 1e9; }

[[noreturn]] void give_up(const std::string& what) {
  std::fprintf(stderr, "restart_bench: %s\n", what.c_str());
  std::exit(1);
}

template <class T>
T must(Result<T> result) {
  if (!result) give_up(result.error().message);
  return std::move(*result);
}

SessionOptions session_options() {
  return {.model = {.name = "restart_bench", .kv_dtype = "f16"}, .block_tokens = 1, .layout = Layout::blob(kSlotBytes)};
}

std::uint32_t extents_for(std::uint64_t blocks) {
  return static_cast<std::uint32_t>((blocks * kSlotBytes + 64_MiB - 1) / 64_MiB);
}

Config config_of(const Arguments& arguments) {
  Config config;
  config.host.capacity = 256_MiB;
  config.host.prefault = false;
  config.disk.directories = {arguments.directory};
  config.disk.capacity = extents_for(arguments.blocks) * 64_MiB;
  return config;
}

std::vector<TokenId> run_tokens(std::uint64_t run) {
  std::vector<TokenId> tokens(run);
  for (std::uint64_t i = 0; i < run; ++i) tokens[i] = static_cast<TokenId>(i);
  return tokens;
}

/// The names of the run, as a session will ask for them.
BlockChain names_of_run(const Arguments& arguments) {
  Config config;
  config.host.capacity = 128_MiB;
  config.host.prefault = false;
  Cache cache = must(Cache::open(config));
  const Session session = must(cache.open_session(session_options()));
  return hash_blocks(session.space(), run_tokens(arguments.run));
}

struct Region {
  std::uint64_t begin = 0;
  std::uint64_t bytes = 0;
};

void write_all(int fd, const std::byte* from, const Region& to) {
  for (std::uint64_t done = 0; done < to.bytes;) {
    const ssize_t n =
        pwrite(fd, from + done, std::min(kPieceBytes, to.bytes - done), static_cast<off_t>(to.begin + done));
    if (n <= 0) give_up(std::string("writing the file: ") + std::strerror(errno));
    done += static_cast<std::uint64_t>(n);
  }
}

/// The table as it is in memory: every header as the tier writes it, runs of kChain blocks, the one asked for last.
std::shared_ptr<disk::Metadata> make_table(const Arguments& arguments, const disk::Superblock& superblock,
                                           const BlockChain& run) {
  const auto metadata = must(disk::Metadata::create(superblock, 0));
  const disk::Layout& layout = metadata->layout();
  const BlockHash fingerprint = run.space().fingerprint();
  (void)must(metadata->add_namespace(fingerprint));
  for (std::uint32_t extent = 0; extent < layout.extents(); ++extent) (void)metadata->cut(extent, kSlotBytes);
  const std::uint64_t others = arguments.blocks - run.size();
  const std::uint32_t slots = layout.slots_of(kSlotBytes);
  std::vector<std::uint32_t> order(arguments.shuffled ? arguments.blocks : 0);
  std::iota(order.begin(), order.end(), 0);
  std::ranges::shuffle(order, std::mt19937_64(1));
  BlockHash before;
  for (std::uint64_t n = 0; n < arguments.blocks; ++n) {
    const bool of_run = n >= others;
    const std::uint64_t at = of_run ? n - others : n % kChain;
    const std::uint64_t place = arguments.shuffled ? order[n] : n;
    const BlockHash hash = of_run ? run[at] : testing_support::numbered_hash(n);
    (void)metadata->put(
        {.fingerprint = fingerprint,
         .hash = hash,
         .parent = at == 0 ? fingerprint : before,
         .slot = layout.slot_at(static_cast<std::uint32_t>(place / slots), static_cast<std::uint32_t>(place % slots)),
         .slot_bytes = kSlotBytes,
         .length = kSlotBytes,
         .checksum = n,
         .generation = (std::uint64_t{1} << disk::kEpochShift) + n});
    before = hash;
  }
  return metadata;
}

/// The table goes in large writes past the page cache; what is not written stays a hole.
Region make_file(const Arguments& arguments, const BlockChain& run) {
  const std::uint64_t start_ns = SteadyClock().now_ns();
  const disk::Layout layout = must(disk::Layout::plan({.extents = extents_for(arguments.blocks)}));
  disk::Superblock superblock{.sequence = 1, .boot_epoch = 1};
  layout.describe(superblock);
  const auto metadata = make_table(arguments, superblock, run);
  std::printf("  made: %llu headers in memory after %.2f s\n", static_cast<unsigned long long>(arguments.blocks),
              seconds_since(start_ns));
  int fd = open(arguments.file().c_str(), O_RDWR | O_CREAT | O_EXCL | O_DIRECT, 0600);
  if (fd < 0 && errno == EINVAL) fd = open(arguments.file().c_str(), O_RDWR | O_CREAT, 0600);
  if (fd < 0) give_up(arguments.file() + ": " + std::strerror(errno));
  if (ftruncate(fd, static_cast<off_t>(layout.file_bytes())) != 0) give_up(std::strerror(errno));
  const Region region{.begin = layout.meta_begin(), .bytes = layout.meta_bytes()};
  write_all(fd, metadata->page_memory(0), region);
  const auto page = disk::allocate_pages(disk::kPageBytes);
  disk::encode(superblock, disk::PageSpan(page.get(), disk::kPageBytes));
  for (const std::uint64_t copy : {0U, 1U}) {
    write_all(fd, page.get(), {.begin = copy * disk::kPageBytes, .bytes = disk::kPageBytes});
  }
  if (fsync(fd) != 0) give_up(std::strerror(errno));
  close(fd);
  std::printf("  made: file of %.0f GB (sparse), %.2f GB of it written after %.2f s\n",
              static_cast<double>(layout.file_bytes()) / 1e9, static_cast<double>(region.bytes) / 1e9,
              seconds_since(start_ns));
  return region;
}

double plain_read_s(const Arguments& arguments, const Region& region) {
  const int fd = open(arguments.file().c_str(), O_RDONLY | O_DIRECT);
  if (fd < 0) give_up(std::string("O_DIRECT: ") + std::strerror(errno));
  const auto memory = disk::allocate_pages(1_MiB);
  const std::uint64_t start_ns = SteadyClock().now_ns();
  for (std::uint64_t done = 0; done < region.bytes; done += 1_MiB) {
    if (pread(fd, memory.get(), 1_MiB, static_cast<off_t>(region.begin + done)) < 0) give_up(std::strerror(errno));
  }
  close(fd);
  return seconds_since(start_ns);
}

/// The tier alone: headers read and checked, given to nobody.
class TableReader final : DiskEvents {
 public:
  DiskRecovery read(const Arguments& arguments) {
    const SteadyClock clock;
    SystemFileSystem files;
    DiskTier tier({.directory = arguments.directory, .capacity = config_of(arguments).disk.capacity}, files, clock,
                  *this);
    const std::uint64_t start_ns = clock.now_ns();
    while (!recovered_ && seconds_since(start_ns) < kPatienceSeconds) (void)tier.step(kTurnNs);
    tier.close();
    while (tier.step(kTurnNs) && seconds_since(start_ns) < kPatienceSeconds) {
    }
    if (!recovered_) give_up("the header table was not read: " + cause_);
    return *recovered_;
  }

 private:
  static constexpr std::uint64_t kTurnNs = 100'000'000;
  void on_opened(const Opened&) override {}
  void on_found(std::span<const DiskBlock>) override {}
  void on_recovered(const DiskRecovery& recovery) override { recovered_ = recovery; }
  void on_lost() override {}
  void on_state(DiskState, const std::string& cause) override { cause_ = cause; }

  std::optional<DiskRecovery> recovered_;
  std::string cause_;
};

void measure_table(const Arguments& arguments) {
  const DiskRecovery found = TableReader().read(arguments);
  std::printf("  header table read and checked, without an index: %.2f s, %llu headers%s\n",
              static_cast<double>(found.table_ns) / 1e9, static_cast<unsigned long long>(found.headers),
              found.headers == arguments.blocks ? "" : " (NOT ALL)");
}

/// The process that was started for it: what a server does from its exec on.
void measure(const Arguments& arguments) {
  const auto seconds = [&] { return seconds_since(arguments.exec_ns); };
  const double begun = seconds();
  Cache cache = must(Cache::open(config_of(arguments)));
  const Session session = must(cache.open_session(session_options()));
  const BlockChain names = hash_blocks(session.space(), run_tokens(arguments.run));
  std::printf("  exec to main %.3f s, cache open and run hashed after %.3f s\n", begun, seconds());
  double matched = 0;
  while (matched == 0 && seconds() < kPatienceSeconds) {
    if (session.match(names).blocks() == names.size()) {
      matched = seconds();
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  std::printf("  match of %zu blocks, the last in the table, after %.2f s%s\n", names.size(), matched,
              matched == 0 ? " (NOT FOUND)" : "");
  (void)cache.wait_for_disks(std::chrono::seconds(120));
  const double indexed = seconds();
  const DiskReport report = cache.disks().at(0);
  const Stats stats = cache.stats();
  std::printf("  all of %llu blocks indexed after %.2f s%s, orphans %llu\n",
              static_cast<unsigned long long>(report.found_blocks), indexed,
              report.found_blocks == arguments.blocks ? "" : " (NOT ALL)",
              static_cast<unsigned long long>(stats.disk_orphaned_blocks));
  std::printf("  of that, from the opening of the file: %.2f s, %.0f ns a block\n",
              static_cast<double>(report.indexed_ns) / 1e9,
              static_cast<double>(report.indexed_ns) / static_cast<double>(arguments.blocks));
  struct rusage usage{};
  (void)getrusage(RUSAGE_SELF, &usage);
  const auto blocks = static_cast<double>(arguments.blocks);
  std::printf("  most memory of the process: %.2f GB, %.0f bytes a block (128 of them are the header table)\n",
              static_cast<double>(usage.ru_maxrss) * 1024 / 1e9, static_cast<double>(usage.ru_maxrss) * 1024 / blocks);
  const std::uint64_t close_ns = SteadyClock().now_ns();
  const Status closed = cache.close(std::chrono::seconds(60));
  std::printf("  closed in order in %.2f s%s\n", seconds_since(close_ns), closed ? "" : " (NOT)");
}

/// Starts this program again with the time of its start, and waits for it.
void measure_in_another_process(const Arguments& arguments) {
  std::string program = "/proc/self/exe";
  std::string directory = arguments.directory;
  std::string blocks = std::to_string(arguments.blocks);
  std::string run = std::to_string(arguments.run);
  std::string exec = std::to_string(SteadyClock().now_ns());
  std::string shuffled = "--shuffled";
  std::vector<char*> words = {program.data(), directory.data(), blocks.data(), run.data(), exec.data(), nullptr};
  if (arguments.shuffled) words.insert(words.begin() + 1, shuffled.data());
  pid_t pid = 0;
  if (const int error = posix_spawn(&pid, words[0], nullptr, nullptr, words.data(), environ); error != 0) {
    give_up(std::string("starting it again: ") + std::strerror(error));
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0) std::fprintf(stderr, "restart_bench: the process that opens the cache failed\n");
}

}  // namespace

int main(int argc, char** argv) {
  const bool shuffled = argc > 1 && std::string_view(argv[1]) == "--shuffled";
  if (shuffled) --argc, ++argv;
  if (argc < 2) {
    std::fprintf(stderr, "usage: restart_bench [--shuffled] DIRECTORY [BLOCKS [RUN]]\n");
    return 2;
  }
  (void)std::setvbuf(stdout, nullptr, _IONBF, 0);
  Arguments arguments{.directory = argv[1], .shuffled = shuffled};
  if (argc > 2) arguments.blocks = std::strtoull(argv[2], nullptr, 10);
  if (argc > 3) arguments.run = std::strtoull(argv[3], nullptr, 10);
  if (argc > 4) arguments.exec_ns = std::strtoull(argv[4], nullptr, 10);
  if (arguments.run == 0 || arguments.blocks < arguments.run) give_up("BLOCKS must be at least RUN, RUN at least 1");
  if (arguments.exec_ns != 0) {
    measure(arguments);
    return 0;
  }
  std::printf("%llu blocks of 256 KiB\n", static_cast<unsigned long long>(arguments.blocks));
  const Region region = make_file(arguments, names_of_run(arguments));
  std::printf("  plain read of the header table: %.2f s\n", plain_read_s(arguments, region));
  measure_table(arguments);
  measure_in_another_process(arguments);
  unlink(arguments.file().c_str());
  unlink((arguments.file() + ".lock").c_str());
  return 0;
}
