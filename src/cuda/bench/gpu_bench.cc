// tiercel-gpu-bench: the GPU copies beside the bounds that are measured in the same run, as tables and a CSV.
#include "cuda/bench/measurements.h"
#include "cuda/bench/stopwatch.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace {

constexpr const char* kHelp =
    "tiercel-gpu-bench [PART...] [--csv FILE] [--seconds S] [--gpu-gib N] [--arena-gib N] [--register-gib N]\n"
    "  parts: settings, tuning, copies, beside, foreign, register; without one, copies, beside, foreign and register\n"
    "  --seconds: for each model beside each kind of traffic (1)\n"
    "  --gpu-gib, --arena-gib: of the pool of pages (10) and of the arena (4); a plan is as large as the arena at "
    "most\n"
    "  --register-gib: of the memory whose registration is timed (8)\n";

struct Arguments {
  std::string parts = " ";
  const char* csv = nullptr;
  double seconds = 1;
  std::uint64_t gpu_gib = 10;
  std::uint64_t arena_gib = 4;
  std::uint64_t register_gib = 8;
  [[nodiscard]] bool wants(const char* part) const {
    return parts == " " || parts.find(fmt::format(" {} ", part)) != std::string::npos;
  }
};

/// An exit status, or -1 to go on.
int parse(int argc, char** argv, Arguments& arguments) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
    const auto number = [&](auto& target) {
      char* end = nullptr;
      const double parsed = value != nullptr ? std::strtod(value, &end) : 0;
      if (value == nullptr || *end != '\0' || parsed <= 0) return false;
      target = static_cast<std::remove_reference_t<decltype(target)>>(parsed);
      ++i;
      return true;
    };
    bool known = true;
    if (word == "--help" || word == "-h") {
      std::fputs(kHelp, stdout);
      return 0;
    }
    if (word == "--csv") {
      known = value != nullptr;
      arguments.csv = value;
      ++i;
    } else if (word == "--seconds") {
      known = number(arguments.seconds);
    } else if (word == "--gpu-gib") {
      known = number(arguments.gpu_gib);
    } else if (word == "--arena-gib") {
      known = number(arguments.arena_gib);
    } else if (word == "--register-gib") {
      known = number(arguments.register_gib);
    } else if (word == "settings" || word == "tuning" || word == "copies" || word == "beside" || word == "foreign" ||
               word == "register") {
      arguments.parts += fmt::format("{} ", word);
    } else {
      known = false;
    }
    if (!known) {
      std::fprintf(stderr, "error: what is %s? See --help.\n", argv[i < argc ? i : argc - 1]);
      return 64;
    }
  }
  return -1;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace tiercel;
  using namespace tiercel::gpu;
  Arguments arguments;
  if (const int status = parse(argc, argv, arguments); status >= 0) return status;
  GpuCopyOptions options;
  {
    const auto device = CudaDevice::open(options);
    if (!device) {
      std::fprintf(stderr, "error: no GPU to measure: %s\n", device.error().message.c_str());
      return 1;
    }
    std::printf("%s\n", (*device)->describe().c_str());
  }
  BenchOutput output;
  if (arguments.csv != nullptr) output.csv = std::fopen(arguments.csv, "w");
  if (arguments.csv != nullptr && output.csv == nullptr) {
    std::fprintf(stderr, "error: --csv: %s: %s\n", arguments.csv, std::strerror(errno));
    return 1;
  }
  {
    auto memory = PoolMemory::make(arguments.gpu_gib << 30U, arguments.arena_gib << 30U);
    bench_must(memory ? Status{} : Status(tl::unexpected<Error>(memory.error())));
    if (arguments.parts != " " && arguments.wants("settings")) measure_settings(*memory, output);
    if (arguments.parts != " " && arguments.wants("tuning")) measure_tuning(*memory, output, arguments.seconds);
    if (arguments.wants("copies")) measure_copies(*memory, output);
    if (arguments.wants("foreign")) measure_foreign_copies(*memory, output);
    if (arguments.wants("beside")) measure_beside(*memory, output, arguments.seconds);
  }
  if (arguments.wants("register")) measure_registration(arguments.register_gib << 30U, output);
  if (output.csv != nullptr) std::fclose(output.csv);
  return 0;
}
