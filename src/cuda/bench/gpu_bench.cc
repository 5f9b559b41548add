// tiercel-gpu-bench: the GPU copies beside the bounds that are measured in the same run, as tables and a CSV.
#include "cuda/bench/grid_report.h"
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
    "  parts: settings, tuning, calibration, copies, beside, foreign, register; without one, copies, beside, foreign "
    "and register\n"
    "  --seconds: for each model beside each kind of traffic (1)\n"
    "  --gpu-gib, --arena-gib: of the pool of pages (10) and of the arena (4); a plan is as large as the arena at "
    "most\n"
    "  --register-gib: of the memory whose registration is timed (8)\n"
    "tiercel-gpu-bench grid [--csv FILE] [--svg FILE] [--budget S] [--gpu-gib N] [--arena-gib N]\n"
    "  models x tokens a block x blocks x directions x ways, alone and beside models, cell by cell into FILE\n"
    "  (gpu_grid.csv); cells that are in it already are left out\n"
    "  --budget: no cell begins that would end later, from the program's begin (420)\n"
    "  --svg: GB/s over the bytes of a plan, as a plot\n"
    "tiercel-gpu-bench --from-csv FILE [--svg FILE]\n"
    "  the tables of a grid again; needs no GPU\n";

struct Arguments {
  std::string parts = " ";
  const char* csv = nullptr;
  const char* svg = nullptr;
  const char* from_csv = nullptr;
  double budget = 420;
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
    const auto file = [&](const char*& target) {
      target = value;
      ++i;
      return value != nullptr;
    };
    if (word == "--csv") {
      known = file(arguments.csv);
    } else if (word == "--svg") {
      known = file(arguments.svg);
    } else if (word == "--from-csv") {
      known = file(arguments.from_csv);
    } else if (word == "--budget") {
      known = number(arguments.budget);
    } else if (word == "--seconds") {
      known = number(arguments.seconds);
    } else if (word == "--gpu-gib") {
      known = number(arguments.gpu_gib);
    } else if (word == "--arena-gib") {
      known = number(arguments.arena_gib);
    } else if (word == "--register-gib") {
      known = number(arguments.register_gib);
    } else if (word == "settings" || word == "tuning" || word == "calibration" || word == "copies" ||
               word == "beside" || word == "foreign" || word == "register" || word == "grid") {
      arguments.parts += fmt::format("{} ", word);
    } else {
      known = false;
    }
    if (!known) {
      std::fprintf(stderr, "error: what is %s? See --help.\n", argv[i < argc ? i : argc - 1]);
      return 64;
    }
  }
  if (arguments.wants("grid") && arguments.parts != " " && arguments.parts != " grid ") {
    std::fputs("error: grid has a CSV of its own and is run without other parts. See --help.\n", stderr);
    return 64;
  }
  return -1;
}

int status_of(const tiercel::Status& status) {
  if (status) return 0;
  std::fprintf(stderr, "error: %s\n", status.error().message.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace tiercel;
  using namespace tiercel::gpu;
  const auto begin = std::chrono::steady_clock::now();
  Arguments arguments;
  if (const int status = parse(argc, argv, arguments); status >= 0) return status;
  const std::string svg = arguments.svg == nullptr ? "" : arguments.svg;
  if (arguments.from_csv != nullptr) return status_of(report_grid_file(arguments.from_csv, svg));
  GpuCopyOptions options;
  {
    const auto device = CudaDevice::open(options);
    if (!device) {
      std::fprintf(stderr, "error: no GPU to measure: %s\n", device.error().message.c_str());
      return 1;
    }
    std::printf("%s\n", (*device)->describe().c_str());
  }
  if (arguments.parts == " grid ") {
    return status_of(measure_grid({.csv = arguments.csv == nullptr ? "gpu_grid.csv" : arguments.csv,
                                   .svg = svg,
                                   .budget_seconds = arguments.budget,
                                   .gpu_bytes = arguments.gpu_gib << 30U,
                                   .arena_bytes = arguments.arena_gib << 30U,
                                   .begin = begin}));
  }
  if (arguments.parts == " calibration ") {
    BenchEngine engine(options);
    std::printf("%s\n", (*engine).choice().c_str());
    return 0;
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
