// `tiercel fsck`: the report of disk_check.h as lines or JSON.
#include "cli/arguments.h"
#include "cli/commands.h"

#include <tiercel/disk_check.h>

#include <fmt/format.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>

namespace tiercel::cli {
namespace {

constexpr int kRepairedStatus = 1;
constexpr int kDamagedStatus = 4;
constexpr int kFailedStatus = 8;

struct Flags {
  std::string file;
  bool repair = false;
  bool headers_only = false;
  bool json = false;
  std::size_t examples = 5;
};

Arguments bind(Flags& flags) {
  Arguments arguments(
      "tiercel fsck FILE [--repair]",
      "Verifies a file of the disk tier that no cache has open: every header and every block's checksum. "
      "Nothing is written without --repair. Exit status as of fsck: 0 all is well, 1 damage, repaired; 4 "
      "damage that is left; 8 the file could not be checked.");
  CLI::App& app = arguments.app();
  app.add_option("FILE", flags.file, "the file, or its directory");
  app.add_flag("--repair", flags.repair, "clear the headers of bad copies, renew a damaged superblock");
  app.add_flag("--headers-only", flags.headers_only, "do not read the blocks themselves");
  app.add_option("--examples", flags.examples, "how many of each cause are listed (5)");
  app.add_flag("--json", flags.json, "one JSON object in place of lines");
  return arguments;
}

bool is_damage(const DiskFault& fault) { return !fault.harmless; }

int status_of(const DiskCheckReport& report, bool repair) {
  if (std::ranges::none_of(report.faults, is_damage)) return 0;
  const bool all = repair && std::ranges::all_of(report.faults, [](const DiskFault& fault) {
                     return fault.harmless || fault.repairable;
                   });
  return all ? kRepairedStatus : kDamagedStatus;
}

std::string counted(std::uint64_t count, const char* what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

std::string fault_text(const DiskFault& fault, bool repair) {
  const char* word = fault.harmless ? "note" : repair && fault.repairable ? "fixed" : "bad";
  std::string text = fmt::format("{:<5} {} x {}{}\n", word, fault.count, fault.cause,
                                 fault.meaning.empty() ? "" : ": " + fault.meaning);
  for (const std::string& example : fault.examples) text += fmt::format("        {}\n", example);
  if (fault.count > fault.examples.size() && !fault.examples.empty()) {
    text += fmt::format("        and {} more\n", fault.count - fault.examples.size());
  }
  return text;
}

std::string verdict(const DiskCheckReport& report, const Flags& flags, int status) {
  if (status == 0) return "all is well\n";
  if (status == kRepairedStatus) return fmt::format("repaired: {} written\n", counted(report.repaired_pages, "page"));
  if (flags.repair)
    return fmt::format("not all of it can be repaired; {} written\n", counted(report.repaired_pages, "page"));
  return "nothing was written. A cache drops what is bad when it comes across it; --repair does so now\n";
}

std::string report_text(const DiskCheckReport& report, const Flags& flags, int status) {
  std::string text = fmt::format("{}: {}, {} of {} extents in use, boot epoch {}, {}\n", report.path,
                                 format_bytes(report.data_bytes), report.used_extents, report.extents,
                                 report.boot_epoch, report.clean ? "closed in order" : "not closed in order");
  text += fmt::format("ok    {}, {}\n", counted(report.blocks - report.bad_blocks, "block"),
                      flags.headers_only
                          ? "by their headers alone"
                          : fmt::format("{} bytes read and compared with their checksum", report.verified_bytes));
  if (report.deleted_blocks > 0 || report.tombstones > 0) {
    text += fmt::format("ok    {} records in the delete log, {} deleted blocks wait to be cleared\n", report.tombstones,
                        report.deleted_blocks);
  }
  for (const DiskFault& fault : report.faults) text += fault_text(fault, flags.repair);
  return text + verdict(report, flags, status);
}

nlohmann::json report_json(const DiskCheckReport& report, int status) {
  nlohmann::json json{{"path", report.path},
                      {"status", status},
                      {"data_bytes", report.data_bytes},
                      {"extents", report.extents},
                      {"used_extents", report.used_extents},
                      {"boot_epoch", report.boot_epoch},
                      {"clean", report.clean},
                      {"blocks", report.blocks},
                      {"block_bytes", report.block_bytes},
                      {"verified_bytes", report.verified_bytes},
                      {"bad_blocks", report.bad_blocks},
                      {"deleted_blocks", report.deleted_blocks},
                      {"tombstones", report.tombstones},
                      {"repaired_pages", report.repaired_pages},
                      {"faults", nlohmann::json::array()}};
  for (const DiskFault& fault : report.faults) {
    json["faults"].push_back({{"cause", fault.cause},
                              {"meaning", fault.meaning},
                              {"count", fault.count},
                              {"harmless", fault.harmless},
                              {"repairable", fault.repairable},
                              {"examples", fault.examples}});
  }
  return json;
}

/// A percentage on a terminal.
void show_progress(std::uint64_t done, std::uint64_t total) {
  static std::uint64_t shown = UINT64_MAX;
  const std::uint64_t percent = total == 0 ? 100 : done * 100 / total;
  if (percent == shown) return;
  shown = percent;
  std::fputs(percent == 100 ? "\r\x1b[K" : fmt::format("\r\x1b[K{} % of the blocks read", percent).c_str(), stderr);
}

}  // namespace

int run_fsck(std::span<const std::string> words) {
  Flags flags;
  Arguments arguments = bind(flags);
  bool help = false;
  if (Status status = arguments.parse(words, help); !status) return complain(status.error(), kUsageStatus);
  if (help) {
    say(arguments.help());
    return 0;
  }
  if (flags.file.empty()) {
    return complain({.message = "FILE is missing; usage: tiercel fsck FILE [--repair]"}, kUsageStatus);
  }
  DiskCheckOptions options{.read_data = !flags.headers_only, .repair = flags.repair, .examples = flags.examples};
  if (isatty(STDERR_FILENO) == 1) options.progress = show_progress;
  const auto report = check_disk_file(flags.file, options);
  if (!report) return complain(report.error(), kFailedStatus);
  const int status = status_of(*report, flags.repair);
  say(flags.json ? report_json(*report, status).dump(2) + "\n" : report_text(*report, flags, status));
  return status;
}

}  // namespace tiercel::cli
