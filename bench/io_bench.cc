// How fast File moves 1 MiB blocks to and from a real file, and at what cost of CPU, next to fio on the same file.
//
//   io_bench PATH [MiB]
// Writes the file fully, then writes and reads all of its blocks in a shuffled order at depth 32, through io_uring with
// and without registered buffers, and lets fio do the same with the same engine, size, depth and direction. fio's
// buffers lie on ordinary pages, so the lines to compare with it are those without huge pages.
#include "base/clock.h"
#include "base/mapping.h"
#include "base/random.h"
#include "io/file.h"
#include "io/system_file_system.h"

#include <sys/resource.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace tiercel;

constexpr std::uint64_t kBlockBytes = std::uint64_t{1} << 20U;
constexpr std::uint32_t kDepth = 32;

template <class T>
T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "%s\n", result.error().message.c_str());
    std::exit(1);
  }
  return std::move(*result);
}

double cpu_seconds() {
  struct rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const struct timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// Every block once, in a shuffled order.
class Mover {
 public:
  Mover(File& file, const Mapping& memory, std::uint64_t blocks) : file_(file), memory_(memory) {
    for (std::uint64_t i = 0; i < blocks; ++i) order_.push_back(i);
    Random random(1);
    for (std::uint64_t i = blocks; i > 1; --i) std::swap(order_[i - 1], order_[random.below(i)]);
    for (std::uint32_t i = 0; i < kDepth; ++i) free_.push_back(i);
  }

  void move(IoKind kind) {
    for (next_ = 0; next_ < order_.size() || free_.size() < kDepth;) {
      while (!free_.empty() && next_ < order_.size()) submit(kind);
      (void)file_.poll(UINT64_MAX);
    }
  }

 private:
  void submit(IoKind kind) {
    const std::uint32_t buffer = free_.back();
    free_.pop_back();
    IoJob job{.kind = kind, .offset = order_[next_++] * kBlockBytes, .segment_count = 1};
    job.segments[0] = {memory_.data() + buffer * kBlockBytes, kBlockBytes};
    job.done = [this, buffer](const Status& status) {
      if (!status) {
        std::fprintf(stderr, "%s\n", status.error().message.c_str());
        std::exit(1);
      }
      free_.push_back(buffer);
    };
    if (!file_.submit(std::move(job))) std::abort();
  }

  File& file_;
  const Mapping& memory_;
  std::vector<std::uint64_t> order_;
  std::vector<std::uint32_t> free_;
  std::size_t next_ = 0;
};

struct Place {
  std::string path;
  std::uint64_t blocks = 0;
};

struct How {
  IoEngine engine = IoEngine::kAuto;
  bool registered = false;
  HugePages huge_pages = HugePages::kOff;
};

void run_file(const Place& place, IoKind kind, const How& how) {
  const SteadyClock clock;
  SystemFileSystem files(how.engine);
  auto backend = must(files.open(place.path, {.depth = kDepth}));
  const Mapping memory = must(Mapping::create({.bytes = kDepth * kBlockBytes, .huge_pages = how.huge_pages}));
  for (std::uint64_t at = 0; at < memory.bytes(); at += 4096) memory.data()[at] = std::byte{1};
  const struct iovec region{.iov_base = memory.data(), .iov_len = kDepth * kBlockBytes};
  const bool is_registered = how.registered && backend->register_memory({&region, 1}).has_value();
  File file(std::move(backend), clock);
  Mover mover(file, memory, place.blocks);
  const double cpu = cpu_seconds();
  const std::uint64_t start_ns = clock.now_ns();
  mover.move(kind);
  const double seconds = static_cast<double>(clock.now_ns() - start_ns) / 1e9;
  const double gigabytes = static_cast<double>(place.blocks * kBlockBytes) / 1e9;
  std::printf("  %-8s %-10s %-10s %6.2f GB/s  %6.3f CPU s per GB\n", file.backend().name(),
              is_registered ? "registered" : "", how.huge_pages == HugePages::kOff ? "" : "huge pages",
              gigabytes / seconds, (cpu_seconds() - cpu) / gigabytes);
  std::fflush(stdout);
}

/// fio's terse output: field 7 (reads) or 48 (writes) is KiB/s, 88 and 89 are user and system CPU in percent.
void run_fio(const Place& place, IoKind kind, bool registered) {
  const bool reads = kind == IoKind::kRead;
  const std::string command =
      "fio --name=bound --filename=" + place.path + " --rw=" + (reads ? "randread" : "randwrite") +
      " --bs=1m --iodepth=" + std::to_string(kDepth) +
      " --ioengine=io_uring --direct=1 --scramble_buffers=0 --minimal" +
      (registered ? " --fixedbufs=1 --registerfiles=1" : "") + " --size=" + std::to_string(place.blocks) + "m";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), &pclose);
  std::array<char, 8192> line{};
  if (!pipe || std::fgets(line.data(), line.size(), pipe.get()) == nullptr) {
    std::printf("  fio is not installed or failed\n");
    return;
  }
  std::vector<std::string> fields{""};
  for (const char* at = line.data(); *at != '\0'; ++at) {
    if (*at == ';') {
      fields.emplace_back();
    } else {
      fields.back() += *at;
    }
  }
  fields.resize(100);
  const double rate = std::atof(fields[reads ? 6 : 47].c_str()) * 1024 / 1e9;
  const double cpu = (std::atof(fields[87].c_str()) + std::atof(fields[88].c_str())) / 100;
  std::printf("  %-8s %-10s %-10s %6.2f GB/s  %6.3f CPU s per GB\n", "fio", registered ? "registered" : "", "", rate,
              cpu / rate);
  std::fflush(stdout);
}

void fill(const Place& place) {
  const SteadyClock clock;
  SystemFileSystem files;
  File file(must(files.open(place.path, {.create = true, .depth = kDepth})), clock);
  if (const Status status = file.backend().allocate(place.blocks * kBlockBytes); !status) {
    std::fprintf(stderr, "%s\n", status.error().message.c_str());
    std::exit(1);
  }
  const Mapping memory = must(Mapping::create({.bytes = kDepth * kBlockBytes}));
  Random random(2);
  for (std::uint64_t at = 0; at < memory.bytes(); ++at) memory.data()[at] = static_cast<std::byte>(random.next());
  Mover(file, memory, place.blocks).move(IoKind::kWrite);
  if (const Status status = file.run({.kind = IoKind::kSync}); !status) std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "io_bench PATH [MiB]: PATH is written over\n");
    return 2;
  }
  const Place place{.path = argv[1], .blocks = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 2048};
  fill(place);
  for (const IoKind kind : {IoKind::kWrite, IoKind::kRead}) {
    std::printf("%s %llu blocks of 1 MiB, depth %u\n", kind == IoKind::kRead ? "read" : "write",
                static_cast<unsigned long long>(place.blocks), kDepth);
    for (const bool registered : {false, true}) {
      run_file(place, kind, {.registered = registered});
      run_fio(place, kind, registered);
      run_file(place, kind, {.registered = registered, .huge_pages = HugePages::kAuto});
    }
    run_file(place, kind, {.engine = IoEngine::kThreads});
  }
  return 0;
}
