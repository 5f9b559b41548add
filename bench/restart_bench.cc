// How soon a cache whose disk file holds millions of blocks answers after a start.
//
//   restart_bench DIRECTORY [BLOCKS [RUN]]
//
// Makes DIRECTORY/tiercel.kv with BLOCKS headers (its data region is sparse: no block is read), the run that is asked
// for, of RUN blocks, at the end of the table, where it is found last. Then opens a cache on it, with its threads, and
// prints apart: until match answers the whole run; until all is indexed; of that, reading the header table; and
// beside them, in the same run, a plain sequential read of as many bytes of the same file (O_DIRECT, 1 MiB at once).
// The file is removed afterwards.
#include "base/clock.h"
#include "base/random.h"
#include "model/testing/numbered_hash.h"
#include "tier/disk/metadata.h"

#include <tiercel/cache.h>

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace tiercel;

constexpr std::uint64_t kSlotBytes = 256_KiB;
constexpr std::uint32_t kChain = 8192;  // blocks of each other run

struct Arguments {
  std::string directory;
  std::uint64_t blocks = 1'000'000;
  std::uint64_t run = 8192;
  [[nodiscard]] std::string file() const { return directory + "/tiercel.kv"; }
};

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

void write_all(int fd, const std::byte* from, std::uint64_t bytes, std::uint64_t offset) {
  while (bytes > 0) {
    const ssize_t n = pwrite(fd, from, std::min<std::uint64_t>(bytes, 64_MiB), static_cast<off_t>(offset));
    if (n <= 0) give_up(std::string("writing the file: ") + std::strerror(errno));
    from += n;
    bytes -= static_cast<std::uint64_t>(n);
    offset += static_cast<std::uint64_t>(n);
  }
}

/// Returns where the metadata region is and how long.
std::pair<std::uint64_t, std::uint64_t> make_file(const Arguments& arguments, const BlockChain& run) {
  const disk::Layout layout = must(disk::Layout::plan({.extents = extents_for(arguments.blocks)}));
  disk::Superblock superblock{.sequence = 1, .boot_epoch = 1};
  layout.describe(superblock);
  const auto metadata = must(disk::Metadata::create(superblock, 0));
  const BlockHash fingerprint = run.space().fingerprint();
  (void)must(metadata->add_namespace(fingerprint));
  for (std::uint32_t extent = 0; extent < layout.extents(); ++extent) (void)metadata->cut(extent, kSlotBytes);
  const std::uint64_t others = arguments.blocks - run.size();
  for (std::uint64_t n = 0; n < arguments.blocks; ++n) {
    const bool of_run = n >= others;
    const std::uint64_t at = of_run ? n - others : n % kChain;
    const BlockHash hash = of_run ? run[at] : testing_support::numbered_hash(n);
    const BlockHash parent = at == 0 ? fingerprint : of_run ? run[at - 1] : testing_support::numbered_hash(n - 1);
    const std::uint32_t slots = layout.slots_of(kSlotBytes);
    (void)metadata->put(
        {.fingerprint = fingerprint,
         .hash = hash,
         .parent = parent,
         .slot = layout.slot_at(static_cast<std::uint32_t>(n / slots), static_cast<std::uint32_t>(n % slots)),
         .slot_bytes = kSlotBytes,
         .length = kSlotBytes,
         .checksum = n,
         .generation = (std::uint64_t{1} << disk::kEpochShift) + n});
  }
  const int fd = open(arguments.file().c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
  if (fd < 0) give_up(arguments.file() + ": " + std::strerror(errno));
  if (ftruncate(fd, static_cast<off_t>(layout.file_bytes())) != 0) give_up(std::strerror(errno));
  write_all(fd, metadata->page_memory(0), layout.meta_bytes(), layout.meta_begin());
  std::vector<std::byte> page(disk::kPageBytes);
  disk::encode(superblock, disk::PageSpan(page.data(), disk::kPageBytes));
  for (const std::uint64_t copy : {0, 1}) write_all(fd, page.data(), page.size(), copy * disk::kPageBytes);
  if (fsync(fd) != 0) give_up(std::strerror(errno));
  close(fd);
  return {layout.meta_begin(), layout.meta_bytes()};
}

double plain_read_s(const Arguments& arguments, std::pair<std::uint64_t, std::uint64_t> region) {
  const int fd = open(arguments.file().c_str(), O_RDONLY | O_DIRECT);
  if (fd < 0) give_up(std::string("O_DIRECT: ") + std::strerror(errno));
  void* memory = nullptr;
  if (posix_memalign(&memory, 1_MiB, 1_MiB) != 0) give_up("memory");
  const auto start = std::chrono::steady_clock::now();
  for (std::uint64_t done = 0; done < region.second; done += 1_MiB) {
    if (pread(fd, memory, 1_MiB, static_cast<off_t>(region.first + done)) < 0) give_up(std::strerror(errno));
  }
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  std::free(memory);
  close(fd);
  return spent.count();
}

void measure(const Arguments& arguments, const BlockChain& names) {
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  Cache cache = must(Cache::open(config_of(arguments)));
  const Session session = must(cache.open_session(session_options()));
  const double opened = seconds();
  double matched = 0;
  while (matched == 0 && seconds() < 120) {
    if (session.match(names).blocks() == names.size()) {
      matched = seconds();
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  (void)cache.wait_for_disks(std::chrono::seconds(120));
  const double indexed = seconds();
  const DiskReport report = cache.disks().at(0);
  const Stats stats = cache.stats();
  std::printf("  open %.3f s, match of %zu blocks after %.2f s%s, all of %llu blocks indexed after %.2f s%s\n", opened,
              names.size(), matched, matched == 0 ? " (NOT FOUND)" : "",
              static_cast<unsigned long long>(report.found_blocks), indexed,
              report.found_blocks == arguments.blocks ? "" : " (NOT ALL)");
  std::printf("  from the opening of the file: %.2f s, %.0f ns a block; orphans %llu\n",
              static_cast<double>(report.indexed_ns) / 1e9,
              static_cast<double>(report.indexed_ns) / static_cast<double>(arguments.blocks),
              static_cast<unsigned long long>(stats.disk_orphaned_blocks));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: restart_bench DIRECTORY [BLOCKS [RUN]]\n");
    return 2;
  }
  Arguments arguments{.directory = argv[1]};
  if (argc > 2) arguments.blocks = std::strtoull(argv[2], nullptr, 10);
  if (argc > 3) arguments.run = std::strtoull(argv[3], nullptr, 10);
  if (arguments.run == 0 || arguments.blocks < arguments.run) give_up("BLOCKS must be at least RUN, RUN at least 1");
  const BlockChain names = names_of_run(arguments);
  const auto region = make_file(arguments, names);
  std::printf("%llu blocks of 256 KiB, metadata %.2f GB\n", static_cast<unsigned long long>(arguments.blocks),
              static_cast<double>(region.second) / 1e9);
  std::printf("  plain read of the region: %.2f s\n", plain_read_s(arguments, region));
  measure(arguments, names);
  unlink(arguments.file().c_str());
  unlink((arguments.file() + ".lock").c_str());
  return 0;
}
