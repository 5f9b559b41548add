// How long the arena takes until all its pages are provided, and how soon a cache over it can serve.
//
// Prints, for huge and for ordinary pages: the time until the arena exists (serving begins), the time until its last
// page is touched by all threads, and that rate next to a plain touch of one byte a page by as many threads over a
// mapping of the same bytes and page kind in the same run.
#include "base/clock.h"
#include "base/executor.h"
#include "base/prefault.h"
#include "memory/arena.h"

#include <sys/mman.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace tiercel;

double seconds_since(const Clock& clock, std::uint64_t start_ns) {
  return static_cast<double>(clock.now_ns() - start_ns) / 1e9;
}

struct Case {
  std::uint64_t bytes;
  std::size_t threads;
  HugePages huge_pages;
};

void run_arena(const Case& test) {
  const SteadyClock clock;
  const std::uint64_t start = clock.now_ns();
  HostConfig host;
  host.capacity = test.bytes;
  host.huge_pages = test.huge_pages;
  auto arena = Arena::create(host);
  if (!arena) {
    std::fprintf(stderr, "%s\n", arena.error().message.c_str());
    std::exit(1);
  }
  const double created = seconds_since(clock, start);
  ThreadedExecutor executor({.threads = test.threads}, clock);
  const auto prefault = std::make_shared<Prefault>(
      Prefault::Options{.mappings = {(*arena)->shared_mapping()}, .piece_bytes = host.extent_bytes});
  prefault->start(executor);
  const std::uint64_t deadline_ns = clock.now_ns() + 120'000'000'000;
  while (prefault->bytes() < test.bytes && clock.now_ns() < deadline_ns) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const bool done = prefault->bytes() == test.bytes;
  std::printf("  arena: serves after %.1f ms, all pages after %.2f s%s\n", created * 1e3, seconds_since(clock, start),
              done ? "" : " (NOT ALL: gave up)");
}

void run_bound(const Case& test) {
  const SteadyClock clock;
  const std::uint64_t start = clock.now_ns();
  void* at = mmap(nullptr, test.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) {
    std::perror("mmap");
    std::exit(1);
  }
  (void)madvise(at, test.bytes, test.huge_pages == HugePages::kOff ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
  const std::uint64_t part = test.bytes / test.threads;
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < test.threads; ++i) {
    threads.emplace_back([at, part, i] {
      auto* bytes = static_cast<volatile char*>(at) + part * i;
      for (std::uint64_t offset = 0; offset < part; offset += 4096) bytes[offset] = 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::printf("  bound: plain first touch by %zu threads %.2f s\n", test.threads, seconds_since(clock, start));
  munmap(at, test.bytes);
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t gib = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 2;
  const std::size_t threads = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : std::thread::hardware_concurrency();
  if (gib == 0 || threads == 0) {
    std::fprintf(stderr, "usage: arena_bench [GIB [THREADS]]\n");
    return 2;
  }
  for (const HugePages pages : {HugePages::kAuto, HugePages::kOff}) {
    const Case test{.bytes = gib << 30U, .threads = threads, .huge_pages = pages};
    std::printf("%llu GiB, %zu threads, %s pages\n", static_cast<unsigned long long>(gib), threads,
                pages == HugePages::kOff ? "ordinary" : "huge where given");
    run_arena(test);
    run_bound(test);
  }
  return 0;
}
