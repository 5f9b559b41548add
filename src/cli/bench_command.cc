// `tiercel bench disk`: flags, table and JSON of bench_disk.h; `tiercel bench gpu`: the program that has CUDA inside;
// `tiercel bench serving`: the Python package's load client.
#include "cli/arguments.h"
#include "cli/bench_disk.h"
#include "cli/commands.h"

#include <fmt/format.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

namespace tiercel::cli {
namespace {

constexpr const char* kGpuBench = "tiercel-gpu-bench";
constexpr const char* kPythonVariable = "TIERCEL_PYTHON";
/// Without the working directory on the path: there a folder of our name may be no package that is built.
constexpr const char* kServingBench = R"(import sys
if sys.path[:1] == [""]:
    del sys.path[0]
try:
    from tiercel.bench_serving.program import main
except ImportError as error:
    sys.exit(f"error: bench serving needs the Python package tiercel[bench]; {sys.executable} says: {error}. "
             "Install it there, or name another Python by TIERCEL_PYTHON")
sys.exit(main())
)";
constexpr double kSpeedGoal = 0.97;
constexpr double kLatencyGoal = 3;

const char* direction_name(DiskDirection direction) { return direction == DiskDirection::kRead ? "read" : "write"; }

double milliseconds_of(std::uint64_t ns) { return static_cast<double>(ns) * 1e-6; }

std::string gigabytes(double bytes_per_second) { return fmt::format("{:.2f} GB/s", bytes_per_second / 1e9); }

/// A line on a terminal that the next one replaces.
class StatusLine {
 public:
  void show(const std::string& text) {
    if (on_) std::fputs(fmt::format("\r\x1b[K{}", text).c_str(), stderr);
  }
  void clear() { show(""); }

 private:
  bool on_ = isatty(STDERR_FILENO) == 1;
};

std::string head_text(const BenchDiskReport& report, const BenchDiskOptions& options) {
  std::string where = options.directory;
  if (!report.place.filesystem.empty()) {
    where += fmt::format(" ({}{}{})", report.place.filesystem,
                         report.place.device.empty() ? "" : " on " + report.place.device,
                         report.place.bus.empty() ? "" : ", " + report.place.bus);
  }
  std::string text = fmt::format(
      "{}, file of {}, fully written before, random order, depth {}, {}, {}, our memory on {} pages, {} rounds in "
      "turn, "
      "{:.1f} s each side\n\n",
      where, format_bytes(report.file_bytes), options.depth, report.io_engine,
      report.place.direct ? "O_DIRECT" : "through the page cache", report.on_huge_pages ? "huge" : "ordinary",
      options.rounds, static_cast<double>(options.duration.count()) / 1000);
  if (!report.without_fio.empty()) text += fmt::format("without fio: {}\n\n", report.without_fio);
  return text + fmt::format("{:<12} {:>10} {:>10}   {:<38} {:<30} {}\n", "", "fio", "Tiercel", "ratio (goal >= 97 %)",
                            fmt::format("CPU s per GB (budget {:.2f})", cpu_budget(report.place)), "fio's CPU");
}

std::string comparison_text(const DiskComparison& comparison, double budget) {
  const std::string name =
      fmt::format("{} {}", format_bytes(comparison.block_bytes), direction_name(comparison.direction));
  std::string fio = "-";
  std::string ratio = "-";
  std::string fio_cpu = "-";
  if (comparison.fio) {
    fio = gigabytes(comparison.fio->bytes_per_second());
    ratio = fmt::format("{:.1f} % ({:.1f} to {:.1f}){}", comparison.ratio() * 100, comparison.lowest_ratio * 100,
                        comparison.highest_ratio * 100, comparison.ratio() < kSpeedGoal ? "  missed" : "");
    fio_cpu = fmt::format("{:.3f}", comparison.fio->cpu_seconds_per_gigabyte());
  }
  const double cpu = comparison.ours.cpu_seconds_per_gigabyte();
  return fmt::format("{:<12} {:>10} {:>10}   {:<38} {:<30} {}\n", name, fio,
                     gigabytes(comparison.ours.bytes_per_second()), ratio,
                     fmt::format("{:.3f}{}", cpu, cpu > budget ? "  missed" : ""), fio_cpu);
}

std::string load_text(const LoadComparison& load) {
  const auto times = [](const LoadLatency& latency) {
    return fmt::format("p50 {:.2f} ms, p99 {:.2f} ms", milliseconds_of(latency.p50_ns),
                       milliseconds_of(latency.p99_ns));
  };
  return fmt::format(
      "{} loads, {} in flight: alone {} ({}); beside a full write load {} ({}): p99 x {:.1f} (goal <= 3){}; writes "
      "left {}\n",
      format_bytes(load.block_bytes), load.in_flight, times(load.alone), gigabytes(load.alone.loads.bytes_per_second()),
      times(load.beside_writes), gigabytes(load.beside_writes.loads.bytes_per_second()), load.p99_ratio(),
      load.p99_ratio() > kLatencyGoal ? "  missed" : "", gigabytes(load.beside_writes.writes.bytes_per_second()));
}

nlohmann::json speed_json(const DiskSpeed& speed) {
  return {{"bytes", speed.bytes},
          {"seconds", speed.seconds},
          {"bytes_per_second", speed.bytes_per_second()},
          {"cpu_seconds_per_gigabyte", speed.cpu_seconds_per_gigabyte()}};
}

nlohmann::json latency_json(const LoadLatency& latency) {
  return {{"p50_ns", latency.p50_ns},
          {"p99_ns", latency.p99_ns},
          {"loads", speed_json(latency.loads)},
          {"writes_bytes_per_second", latency.writes.bytes_per_second()}};
}

nlohmann::json report_json(const BenchDiskReport& report, const BenchDiskOptions& options) {
  nlohmann::json json{{"directory", options.directory},
                      {"filesystem", report.place.filesystem},
                      {"device", report.place.device},
                      {"bus", report.place.bus},
                      {"io_engine", report.io_engine},
                      {"direct", report.place.direct},
                      {"on_huge_pages", report.on_huge_pages},
                      {"file_bytes", report.file_bytes},
                      {"depth", options.depth},
                      {"rounds", options.rounds},
                      {"cpu_budget", cpu_budget(report.place)},
                      {"without_fio", report.without_fio},
                      {"comparisons", nlohmann::json::array()},
                      {"loads", nlohmann::json::array()}};
  for (const DiskComparison& comparison : report.comparisons) {
    nlohmann::json line{{"block_bytes", comparison.block_bytes},
                        {"direction", direction_name(comparison.direction)},
                        {"tiercel", speed_json(comparison.ours)}};
    if (comparison.fio) {
      line["fio"] = speed_json(*comparison.fio);
      line["ratio"] = comparison.ratio();
    }
    json["comparisons"].push_back(std::move(line));
  }
  for (const LoadComparison& load : report.loads) {
    json["loads"].push_back({{"block_bytes", load.block_bytes},
                             {"in_flight", load.in_flight},
                             {"alone", latency_json(load.alone)},
                             {"beside_writes", latency_json(load.beside_writes)},
                             {"p99_ratio", load.p99_ratio()}});
  }
  return json;
}

struct Flags {
  BenchDiskOptions bench;
  double seconds = 6;
  std::string direction = "both";
  std::string io = "auto";
  std::string pages = "huge";
  bool unregistered = false;
  bool no_fio = false;
  bool no_loads = false;
  bool json = false;
  bool help = false;
};

Arguments bind(Flags& flags) {
  Arguments arguments("tiercel bench disk --dir DIR [flags]",
                      "Measures the disk tier on a directory beside fio, on files that both wrote in full before, and "
                      "removes them.");
  CLI::App& app = arguments.app();
  app.add_option("--dir", flags.bench.directory, "directory to measure; needs room for two files");
  arguments.add_bytes_list("--block", flags.bench.blocks, "sizes of blocks (1MiB,2MiB,4MiB)");
  app.add_option("--depth", flags.bench.depth, "operations in flight (32)")->check(CLI::Range(1, 1024));
  arguments.add_bytes("--size", flags.bench.file_bytes, "size of each file (4GiB)");
  app.add_option("--seconds", flags.seconds, "time for each side of a comparison (6)")->check(CLI::Range(0.1, 3600.0));
  app.add_option("--rounds", flags.bench.rounds, "turns in which that time is spent (3)")->check(CLI::Range(1, 100));
  app.add_option("--direction", flags.direction, "read, write or both (both)")
      ->check(CLI::IsMember({"read", "write", "both"}));
  app.add_option("--io", flags.io, "auto or threads (auto)")->check(CLI::IsMember({"auto", "threads"}));
  app.add_option(
         "--pages", flags.pages,
         "memory of our blocks: huge, as an arena has where the system gives them, or ordinary, as fio's (huge)")
      ->check(CLI::IsMember({"huge", "ordinary"}));
  app.add_flag("--unregistered", flags.unregistered, "our blocks' memory is not registered with io_uring");
  app.add_option("--loads", flags.bench.loads, "loads in flight when their latency is taken (1,4,32)")->delimiter(',');
  app.add_flag("--no-loads", flags.no_loads, "without latencies");
  app.add_flag("--no-fio", flags.no_fio, "without fio");
  app.add_flag("--json", flags.json, "one JSON object in place of the table");
  return arguments;
}

Status read_flags(std::span<const std::string> words, Flags& flags) {
  Arguments arguments = bind(flags);
  if (Status status = arguments.parse(words, flags.help); !status || flags.help) return status;
  if (flags.bench.directory.empty()) {
    return fail(ErrorCode::kInvalidArgument, "--dir is missing; give the directory to measure");
  }
  flags.bench.duration = std::chrono::milliseconds(static_cast<std::int64_t>(flags.seconds * 1000));
  if (flags.direction == "read") flags.bench.directions = {DiskDirection::kRead};
  if (flags.direction == "write") flags.bench.directions = {DiskDirection::kWrite};
  if (flags.io == "threads") flags.bench.io = DiskIo::kThreads;
  if (flags.pages == "ordinary") flags.bench.huge_pages = HugePages::kOff;
  flags.bench.register_memory = !flags.unregistered;
  if (flags.no_fio) flags.bench.fio.clear();
  if (flags.no_loads) flags.bench.loads.clear();
  return {};
}

int run_bench_disk(std::span<const std::string> words) {
  Flags flags;
  if (Status status = read_flags(words, flags); !status) return complain(status.error(), kUsageStatus);
  if (flags.help) {
    Flags defaults;
    say(bind(defaults).help());
    return 0;
  }
  StatusLine line;
  DiskPlace place;
  BenchDiskProgress progress;
  progress.doing = [&](const std::string& what) { line.show(what); };
  const auto print = [&](const std::string& text) {
    line.clear();
    if (!flags.json) say(text);
  };
  progress.started = [&](const BenchDiskReport& report) {
    place = report.place;
    print(head_text(report, flags.bench));
  };
  progress.compared = [&](const DiskComparison& comparison) { print(comparison_text(comparison, cpu_budget(place))); };
  progress.loaded = [&](const LoadComparison& load) { print(load_text(load)); };
  const auto report = bench_disk(flags.bench, progress, &watch_interrupts());
  line.clear();
  if (!report) return complain(report.error(), 1);
  if (flags.json) say(report_json(*report, flags.bench).dump(2) + "\n");
  return 0;
}

std::filesystem::path own_folder() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
}

/// Takes this process's place; where it answers, it could not: errno. A name without a slash is looked for in PATH.
int become(const std::string& program, std::vector<std::string> words, std::span<const std::string> more) {
  words.insert(words.begin(), program);
  words.insert(words.end(), more.begin(), more.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  execvp(pointers[0], pointers.data());
  return errno;
}

int complain_of(const std::string& program, int error) {
  return complain({.message = fmt::format("{}: {}", program, std::system_category().message(error))}, 1);
}

/// The program lies beside this one where both are installed, in src/cuda/bench of a build.
int run_bench_gpu(std::span<const std::string> words) {
  const auto folder = own_folder();
  for (const auto& place : {folder / kGpuBench, folder.parent_path() / "cuda" / "bench" / kGpuBench}) {
    if (const int error = become(place.string(), {}, words); error != ENOENT) return complain_of(place.string(), error);
  }
  return complain({.message = fmt::format("this Tiercel cannot measure a GPU: {} is not in {} (a build with "
                                          "-DTIERCEL_CUDA=ON has it)",
                                          kGpuBench, folder.string())},
                  1);
}

/// The Python that TIERCEL_PYTHON names (the package's own command names its own), that of a build tree, or python3.
int run_bench_serving(std::span<const std::string> words) {
  std::string python = "python3";
  std::error_code ignored;
  const auto build = own_folder().parent_path().parent_path();  // of a preset, if this program was not installed
  if (const auto package = build / "python"; std::filesystem::exists(package / "tiercel" / "bench_serving", ignored)) {
    const char* path = std::getenv("PYTHONPATH");
    setenv("PYTHONPATH", (package.string() + (path == nullptr ? "" : std::string(":") + path)).c_str(), 1);
    const auto venv = build.parent_path() / "venv" / "bin" / "python";
    if (std::filesystem::exists(venv, ignored)) python = venv.string();
  }
  if (const char* named = std::getenv(kPythonVariable); named != nullptr && *named != '\0') python = named;
  const int error = become(python, {"-c", kServingBench}, words);
  if (error != ENOENT) return complain_of(python, error);
  return complain({.message = fmt::format("bench serving is a program in Python, and {} is not there; install it with "
                                          "the package tiercel[bench], or name another by {}",
                                          python, kPythonVariable)},
                  1);
}

}  // namespace

int run_bench(std::span<const std::string> arguments) {
  const std::vector<std::string> subjects = {"disk", "gpu", "serving"};
  if (!arguments.empty() && arguments.front() == "gpu") return run_bench_gpu(arguments.subspan(1));
  if (!arguments.empty() && arguments.front() == "serving") return run_bench_serving(arguments.subspan(1));
  if (!arguments.empty() && arguments.front() == "disk") return run_bench_disk(arguments.subspan(1));
  if (!arguments.empty() && (arguments.front() == "--help" || arguments.front() == "-h")) {
    Flags defaults;
    say(bind(defaults).help() +
        "\n`tiercel bench gpu --help`: copies between a GPU's pages and the arena.\n"
        "`tiercel bench serving --help`: a server under load, as its clients see it.\n");
    return 0;
  }
  if (arguments.empty()) {
    return complain(
        {.message = "bench what? `tiercel bench disk --dir DIR` measures the disk tier, `tiercel bench "
                    "gpu` the copies to and from a GPU, `tiercel bench serving --endpoint URL` a server under load"},
        kUsageStatus);
  }
  return complain(
      {.message = fmt::format("unknown benchmark {}{}", arguments.front(), did_you_mean(arguments.front(), subjects))},
      kUsageStatus);
}

}  // namespace tiercel::cli
