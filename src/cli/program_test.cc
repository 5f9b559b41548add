// Goal: `tiercel` from outside, as a person or a script meets it: what it prints, its exit status, and that it leaves
// nothing behind. Files of the disk tier are made by a cache.
#include "cli/child_process.h"

#include <tiercel/cache.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <optional>
#include <thread>

namespace tiercel::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::uint64_t kBlockBytes = 256_KiB;
constexpr std::size_t kBlocks = 12;
constexpr std::chrono::seconds kPatience(60);

class Program : public ::testing::Test {
 protected:
  Program() {
    std::string path = "program-XXXXXX";
    folder_ = std::filesystem::absolute(mkdtemp(path.data()));
    std::filesystem::create_directory(folder_ / "kv");
  }
  ~Program() override { std::filesystem::remove_all(folder_); }

  ChildOutcome run(std::vector<std::string> words) const {
    words.insert(words.begin(), TIERCEL_PROGRAM);
    auto outcome = run_child(words, std::chrono::seconds(100), nullptr);
    EXPECT_TRUE(outcome) << outcome.error().message;
    return outcome ? *outcome : ChildOutcome{.exit_status = -1};
  }
  static nlohmann::json json_of(const ChildOutcome& outcome) {
    auto json = nlohmann::json::parse(outcome.output, nullptr, false);
    EXPECT_FALSE(json.is_discarded()) << outcome.output;
    return json;
  }

  [[nodiscard]] std::string kv() const { return (folder_ / "kv").string(); }
  [[nodiscard]] Config config() const {
    return {.host = {.capacity = 16_MiB, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = kBlockBytes},
            .disk = {.directories = {kv()}, .capacity = 8_MiB}};
  }

  /// A cache whose disk file holds kBlocks blocks of one run.
  [[nodiscard]] std::optional<Cache> fill() const {
    auto cache = Cache::open(config());
    if (!cache || !cache->wait_for_disks(kPatience)) return std::nullopt;
    auto session = cache->open_session({.block_tokens = 4, .layout = Layout::blob(kBlockBytes)});
    std::vector<TokenId> tokens(4 * kBlocks);
    std::iota(tokens.begin(), tokens.end(), 1);
    const BlockChain chain = hash_blocks(session->space(), tokens);
    Reservation room = session->reserve(chain, 0);
    for (std::size_t i = 0; i < room.size(); ++i) {
      if (room.outcome(i) != Reserved::kYes) return std::nullopt;
      for (std::byte& byte : room.writer(i).bytes()) byte = static_cast<std::byte>(i + 1);
      if (!room.writer(i).commit()) return std::nullopt;
    }
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (cache->stats().tiers[static_cast<std::size_t>(TierId::kDisk)].stored_blocks < kBlocks) {
      if (std::chrono::steady_clock::now() > end) return std::nullopt;
      std::this_thread::yield();
    }
    return std::move(*cache);
  }
  void make_file() const {
    auto cache = fill();
    ASSERT_TRUE(cache.has_value());
    ASSERT_TRUE(cache->close(kPatience));
  }
  /// Changes the bytes of one block in the file: the one that is filled with `value`.
  void damage(std::byte value) const {
    std::fstream file(kv() + "/tiercel.kv", std::ios::in | std::ios::out | std::ios::binary);
    std::vector<char> page(4096);
    for (std::streamoff place = static_cast<std::streamoff>(2_MiB); place < static_cast<std::streamoff>(10_MiB);
         place += 4096) {
      file.seekg(place);
      file.read(page.data(), 4096);
      if (page[0] != static_cast<char>(value) || page[4095] != static_cast<char>(value)) continue;
      file.seekp(place + 100);
      file.put('!');
      return;
    }
    FAIL() << "the block is not in the file";
  }
  [[nodiscard]] std::string content() const {
    std::ifstream file(kv() + "/tiercel.kv", std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::filesystem::path folder_;
};

TEST_F(Program, SaysWhatItCanDo) {
  const ChildOutcome help = run({"--help"});
  EXPECT_EQ(help.exit_status, 0);
  for (const char* command : {"doctor", "bench", "fsck"}) EXPECT_THAT(help.output, HasSubstr(command));
  EXPECT_THAT(run({"--version"}).output, HasSubstr("tiercel 0."));
  for (const char* command : {"doctor", "fsck"}) {
    EXPECT_THAT(run({command, "--help"}).output, HasSubstr(std::string("usage: tiercel ") + command));
  }
  EXPECT_THAT(run({"bench", "disk", "--help"}).output, HasSubstr("--block"));
}

TEST_F(Program, MistakesAreToldWithTheirExitStatus) {
  for (const auto& [words, sentence] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"fsk"}, "did you mean fsck?"},
           {{"fsck"}, "FILE is missing"},
           {{"fsck", "--repar", "x"}, "did you mean --repair?"},
           {{"bench"}, "bench what?"},
           {{"bench", "dsk"}, "did you mean disk?"},
           {{"bench", "disk"}, "--dir is missing"},
           {{"bench", "disk", "--dir", ".", "--direction", "up"}, "--direction"},
           {{"doctor", "--host-capcity", "1GiB"}, "did you mean --host-capacity?"},
           {{"doctor", "--disk-capacity", "1MiB", "--disk", "x"}, "below the smallest useful size"}}) {
    const ChildOutcome outcome = run(words);
    EXPECT_EQ(outcome.exit_status, 64) << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr(sentence));
  }
}

TEST_F(Program, BenchGpuIsTheProgramBesideIt) {
  EXPECT_THAT(run({"bench", "--help"}).output, HasSubstr("tiercel bench gpu"));
  const std::filesystem::path program = folder_ / "tiercel";
  const std::filesystem::path bench = folder_ / "tiercel-gpu-bench";
  std::filesystem::copy_file(TIERCEL_PROGRAM, program);
  const std::vector<std::string> words = {program.string(), "bench", "gpu", "grid", "--csv", "a b.csv"};
  const auto run_copy = [&] { return run_child(words, std::chrono::seconds(100), nullptr); };

  auto outcome = run_copy();
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(outcome->exit_status, 1);
  EXPECT_THAT(outcome->output,
              HasSubstr("error: this Tiercel cannot measure a GPU: tiercel-gpu-bench is not in " + folder_.string()));

  std::ofstream(bench) << "#!/bin/sh\nfor word; do echo \"<$word>\"; done\nexit 7\n";
  outcome = run_copy();
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(outcome->exit_status, 1);
  EXPECT_THAT(outcome->output, HasSubstr(bench.string() + ": Permission denied"));

  std::filesystem::permissions(bench, std::filesystem::perms::owner_all);
  outcome = run_copy();
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(outcome->exit_status, 7);
  EXPECT_EQ(outcome->output, "<grid>\n<--csv>\n<a b.csv>\n");
}

TEST_F(Program, BenchServingIsAProgramInPython) {
  EXPECT_THAT(run({"bench", "--help"}).output, HasSubstr("tiercel bench serving"));
  const auto run_with = [&](const std::string& python) {
    const std::vector<std::string> words = {
        "/usr/bin/env", "TIERCEL_PYTHON=" + python, TIERCEL_PROGRAM, "bench", "serving", "--svg", "a b.svg"};
    const auto outcome = run_child(words, std::chrono::seconds(100), nullptr);
    EXPECT_TRUE(outcome) << outcome.error().message;
    return outcome.value_or(ChildOutcome{.exit_status = -1});
  };
  const std::string python = (folder_ / "python").string();
  ChildOutcome outcome = run_with(python);
  EXPECT_EQ(outcome.exit_status, 1);
  EXPECT_THAT(outcome.output,
              HasSubstr("error: bench serving is a program in Python, and " + python + " is not there"));

  std::ofstream(python) << "#!/bin/sh\nshift 2\nfor word; do echo \"<$word>\"; done\nexit 7\n";
  std::filesystem::permissions(python, std::filesystem::perms::owner_all);
  outcome = run_with(python);
  EXPECT_EQ(outcome.exit_status, 7);
  EXPECT_EQ(outcome.output, "<--svg>\n<a b.svg>\n");

  std::ofstream(python) << "#!/bin/sh\nexec /usr/bin/python3 -I -S \"$@\"\n";  // one without any package
  outcome = run_with(python);
  EXPECT_EQ(outcome.exit_status, 1);
  EXPECT_THAT(outcome.output, HasSubstr("error: bench serving needs the Python package tiercel[bench]"));
}

TEST_F(Program, FsckOfAGoodFile) {
  make_file();
  const std::string before = content();
  const ChildOutcome outcome = run({"fsck", kv()});
  EXPECT_EQ(outcome.exit_status, 0) << outcome.output;
  EXPECT_THAT(outcome.output, HasSubstr("in use, boot epoch 1, closed in order"));
  EXPECT_THAT(outcome.output, HasSubstr("ok    12 blocks"));
  EXPECT_THAT(outcome.output, HasSubstr("all is well"));
  const auto json = json_of(run({"fsck", kv() + "/tiercel.kv", "--json"}));
  EXPECT_EQ(json["status"], 0);
  EXPECT_EQ(json["blocks"], kBlocks);
  EXPECT_EQ(json["verified_bytes"], kBlocks * kBlockBytes);
  EXPECT_TRUE(json["faults"].empty());
  EXPECT_EQ(json_of(run({"fsck", kv(), "--headers-only", "--json"}))["verified_bytes"], 0);
  EXPECT_EQ(content(), before) << "nothing is written";
}

TEST_F(Program, FsckFindsABadBlockAndRepairsItOnlyWhenTold) {
  make_file();
  damage(std::byte{5});
  const std::string before = content();
  const ChildOutcome found = run({"fsck", kv()});
  EXPECT_EQ(found.exit_status, 4) << found.output;
  EXPECT_THAT(found.output, HasSubstr("bad   1 x checksum"));
  EXPECT_EQ(content(), before) << "nothing is written without --repair";
  const auto json = json_of(run({"fsck", kv(), "--json"}));
  EXPECT_EQ(json["status"], 4);
  EXPECT_EQ(json["bad_blocks"], 1);
  EXPECT_EQ(json["faults"][0]["cause"], "checksum");
  EXPECT_EQ(json["faults"][0]["examples"].size(), 1U);

  const ChildOutcome repaired = run({"fsck", kv(), "--repair"});
  EXPECT_EQ(repaired.exit_status, 1) << repaired.output;
  EXPECT_THAT(repaired.output, HasSubstr("fixed 1 x checksum"));
  // Those behind the bad block are no longer reached: left for the next start to clear, and no damage.
  const auto after = json_of(run({"fsck", kv(), "--json"}));
  EXPECT_EQ(after["status"], 0) << after;
  EXPECT_EQ(after["blocks"], kBlocks - 1);
}

TEST_F(Program, FsckRefusesAFileThatACacheHasOpen) {
  const auto cache = fill();
  ASSERT_TRUE(cache.has_value());
  for (const char* flag : {"--json", "--repair"}) {
    const ChildOutcome outcome = run({"fsck", kv(), flag});
    EXPECT_EQ(outcome.exit_status, 8);
    EXPECT_THAT(outcome.output, HasSubstr("process " + std::to_string(getpid())));
  }
}

TEST_F(Program, FsckOfWhatIsNoFileOfTiercel) {
  EXPECT_EQ(run({"fsck", kv()}).exit_status, 8) << "none there";
  std::ofstream(kv() + "/tiercel.kv") << std::string(1 << 20, 'x');
  const std::string before = content();
  const ChildOutcome outcome = run({"fsck", kv(), "--repair"});
  EXPECT_EQ(outcome.exit_status, 8);
  EXPECT_THAT(outcome.output, HasSubstr("error: "));
  EXPECT_EQ(content(), before) << "a foreign file is not touched";
}

TEST_F(Program, DoctorLooksAtTheDirectoryAndMeasuresIt) {
  const ChildOutcome outcome =
      run({"doctor", "--host-capacity", "128MiB", "--disk", kv(), "--disk-capacity", "128MiB", "--json"});
  const auto json = json_of(outcome);
  std::vector<std::string> subjects;
  int worst = 0;
  for (const auto& finding : json["findings"]) {
    subjects.push_back(finding["subject"]);
    worst = std::max(worst, finding["severity"] == "fail" ? 2 : finding["severity"] == "warn" ? 1 : 0);
  }
  EXPECT_THAT(subjects, ::testing::IsSupersetOf({"io_uring", "memory", "huge_pages", "memlock", "numa", "filesystem",
                                                 "access", "direct_io", "space", "speed"}));
  EXPECT_EQ(outcome.exit_status, worst);
  EXPECT_TRUE(std::filesystem::is_empty(kv())) << "nothing stays";
}

TEST_F(Program, DoctorFailsWhereACacheWould) {
  const std::string gone = (folder_ / "gone").string();
  const ChildOutcome outcome =
      run({"doctor", "--no-measure", "--host-capacity", "128MiB", "--disk", gone, "--disk-capacity", "128MiB"});
  EXPECT_EQ(outcome.exit_status, 2);
  EXPECT_THAT(outcome.output, HasSubstr("fail  " + gone + ": does not exist"));
  EXPECT_THAT(outcome.output, HasSubstr("-> mkdir -p " + gone));
}

TEST_F(Program, DoctorNamesTheProcessThatHasTheFile) {
  const auto cache = fill();
  ASSERT_TRUE(cache.has_value());
  const ChildOutcome outcome =
      run({"doctor", "--no-measure", "--host-capacity", "128MiB", "--disk", kv(), "--disk-capacity", "128MiB"});
  EXPECT_GE(outcome.exit_status, 1);
  EXPECT_THAT(outcome.output, HasSubstr("in use by process " + std::to_string(getpid())));
}

class BenchProgram : public Program {
 protected:
  /// PATH is a folder that holds a fio of ours, or none.
  ChildOutcome bench(std::vector<std::string> flags, const std::string& fio_output = "") const {
    const std::filesystem::path bin = folder_ / "bin";
    std::filesystem::create_directory(bin);
    if (!fio_output.empty()) {
      std::ofstream(bin / "fio") << "#!/bin/sh\necho \"$@\" >> " << (folder_ / "calls").string() << "\nprintf '%s' '"
                                 << fio_output << "'\n";
      std::filesystem::permissions(bin / "fio", std::filesystem::perms::owner_all);
    }
    std::vector<std::string> words = {"/usr/bin/env",
                                      "PATH=" + bin.string(),
                                      TIERCEL_PROGRAM,
                                      "bench",
                                      "disk",
                                      "--dir",
                                      kv(),
                                      "--size",
                                      "192MiB",
                                      "--block",
                                      "1MiB",
                                      "--depth",
                                      "4",
                                      "--seconds",
                                      "0.1",
                                      "--rounds",
                                      "2",
                                      "--loads",
                                      "1"};
    words.insert(words.end(), flags.begin(), flags.end());
    auto outcome = run_child(words, std::chrono::seconds(100), nullptr);
    EXPECT_TRUE(outcome) << outcome.error().message;
    return outcome ? *outcome : ChildOutcome{.exit_status = -1};
  }
};

TEST_F(BenchProgram, WithoutFioItSaysSoAndMeasuresUs) {
  const ChildOutcome outcome = bench({});
  EXPECT_EQ(outcome.exit_status, 0) << outcome.output;
  EXPECT_THAT(outcome.output, HasSubstr("without fio: fio is not installed"));
  EXPECT_THAT(outcome.output, HasSubstr("1MiB read"));
  EXPECT_THAT(outcome.output, HasSubstr("1MiB write"));
  EXPECT_THAT(outcome.output, HasSubstr("beside a full write load"));
  EXPECT_TRUE(std::filesystem::is_empty(kv())) << "nothing stays";
}

TEST_F(BenchProgram, FioFillsItsFileAndThenTakesTurns) {
  const std::string answer =
      R"({"jobs":[{"usr_cpu":1,"sys_cpu":1,"read":{"io_bytes":1000000,"runtime":1000,"total_ios":1},)"
      R"("write":{"io_bytes":1000000,"runtime":1000,"total_ios":1}}]})";
  const ChildOutcome outcome = bench({"--json", "--direction", "read"}, answer);
  EXPECT_EQ(outcome.exit_status, 0) << outcome.output;
  const auto json = json_of(outcome);
  ASSERT_EQ(json["comparisons"].size(), 1U);
  // What doctor finds out about the same directory.
  const auto findings = json_of(run({"doctor", "--no-measure", "--host-capacity", "128MiB", "--disk", kv(),
                                     "--disk-capacity", "128MiB", "--json"}))["findings"];
  const auto direct =
      std::ranges::find_if(findings, [](const auto& finding) { return finding["subject"] == "direct_io"; });
  EXPECT_EQ(json["direct"], (*direct)["severity"] == "ok");
  EXPECT_GT(json["comparisons"][0]["ratio"], 1) << "ours is faster than a megabyte a second";
  EXPECT_EQ(json["loads"].size(), 1U);
  std::ifstream calls(folder_ / "calls");
  std::vector<std::string> lines;
  for (std::string line; std::getline(calls, line);) lines.push_back(line);
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_THAT(lines[0], HasSubstr("--rw=write"));
  EXPECT_THAT(lines[1], HasSubstr("--rw=randread"));
  EXPECT_THAT(lines[2], HasSubstr("--rw=randread"));
  EXPECT_TRUE(std::filesystem::is_empty(kv()));
}

TEST_F(BenchProgram, AFioThatFailsEndsTheRunWithItsWords) {
  const ChildOutcome outcome = bench({}, "fio: no space left");
  EXPECT_EQ(outcome.exit_status, 1);
  EXPECT_THAT(outcome.output, HasSubstr("no space left"));
  EXPECT_THAT(outcome.output, Not(HasSubstr("1MiB read")));
  EXPECT_TRUE(std::filesystem::is_empty(kv()));
}

}  // namespace
}  // namespace tiercel::cli
