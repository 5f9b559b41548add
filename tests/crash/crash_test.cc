// Goal: a process that is killed at any moment leaves no wrong block behind, and none of those that it had acknowledged
// is missing: they are found as leading runs, with their bytes. Method: a writer on a real directory, killed with
// SIGKILL after a random time, again and again on the same file; each time a new cache indexes it and loads everything.
// The page cache outlives a process, so this is about the process; what a crash of the machine leaves is the
// simulator's. Usage: crash_test --writer PROGRAM [--rounds N] [--seed N].
#include "base/random.h"
#include "tests/crash/crash_blocks.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <poll.h>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string_view>
#include <thread>

namespace tiercel::crash {
namespace {

struct Arguments {
  std::string writer;
  std::uint64_t rounds = 20;
  std::uint64_t seed = 1;
};
Arguments arguments;  // set by main before any test runs

class Crash : public ::testing::Test {
 protected:
  Crash() {
    std::string name = (std::filesystem::temp_directory_path() / "tiercel-crash-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  ~Crash() override { std::filesystem::remove_all(directory_); }

  /// Runs the writer and kills it `after` so much output time; answers what it had acknowledged.
  void run_and_kill(std::chrono::microseconds after) {
    int out[2];
    ASSERT_EQ(::pipe(out), 0);
    const std::string first = std::to_string(next_chain_);
    const pid_t writer = ::fork();
    ASSERT_GE(writer, 0);
    if (writer == 0) {
      ::dup2(out[1], STDOUT_FILENO);
      ::close(out[0]);
      ::close(out[1]);
      ::execl(arguments.writer.c_str(), "crash_writer", directory_.c_str(), first.c_str(), nullptr);
      ::_exit(127);
    }
    ::close(out[1]);
    std::string said;
    std::array<char, 4096> buffer{};
    std::optional<std::chrono::steady_clock::time_point> end;
    bool killed = false;
    for (;;) {
      if (end && !killed && std::chrono::steady_clock::now() >= *end) {
        ASSERT_EQ(::kill(writer, SIGKILL), 0);
        killed = true;
      }
      pollfd readable{.fd = out[0], .events = POLLIN, .revents = 0};
      (void)::poll(&readable, 1, 1);
      if (readable.revents == 0) continue;
      const ssize_t got = ::read(out[0], buffer.data(), buffer.size());
      if (got <= 0) break;
      said.append(buffer.data(), static_cast<std::size_t>(got));
      if (!end && said.starts_with("ready\n")) end = std::chrono::steady_clock::now() + after;
    }
    ::close(out[0]);
    int status = 0;
    ASSERT_EQ(::waitpid(writer, &status, 0), writer);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "exit status " << status;
    const std::size_t start = said.find('\n') + 1;
    for (std::size_t at = start; at < said.size();) {
      const std::size_t line = said.find('\n', at);
      if (line == std::string::npos) break;  // cut by the kill
      char* rest = nullptr;
      const std::uint64_t number = std::strtoull(said.data() + at, &rest, 10);
      acknowledged_[number] = std::strtoull(rest, nullptr, 10);
      next_chain_ = std::max(next_chain_, number + 1);
      at = line + 1;
    }
    next_chain_ += 20;  // chains that it had begun and said nothing of
  }

  /// Everything acknowledged in any round, with its bytes; and nothing wrong in what was not.
  void verify() {
    auto cache = Cache::open(config(directory_));
    ASSERT_TRUE(cache) << cache.error().message;
    ASSERT_TRUE(cache->wait_for_disks(std::chrono::seconds(20)));
    ASSERT_EQ(cache->disks().at(0).state, DiskDirectoryState::kOn) << cache->disks().at(0).cause;
    Session session = *cache->open_session(options());
    for (std::uint64_t number = 0; number < next_chain_; ++number) {
      const BlockChain ours = chain(session.space(), number);
      Load load = session.load(ours, ours.size(), std::chrono::seconds(10));
      const auto blocks = load.wait();
      for (std::size_t i = 0; i < blocks.size(); ++i) {
        ASSERT_TRUE(is_whole(blocks[i].bytes(), ours[i])) << "chain " << number << ", block " << i;
      }
      found_ += blocks.size();
      const auto told = acknowledged_.find(number);
      if (told == acknowledged_.end()) continue;
      ASSERT_GE(blocks.size(), told->second) << "chain " << number << " ends with " << static_cast<int>(load.outcome());
    }
    const Stats stats = cache->stats();
    EXPECT_EQ(stats.disk_checksum_failures, 0U);
    EXPECT_EQ(stats.disk_corrupt_headers, 0U);
    EXPECT_EQ(stats.tiers[1].evicted_blocks, 0U);
    session.close();
    EXPECT_TRUE(cache->close(std::chrono::seconds(10)));
  }

  std::string directory_;
  std::map<std::uint64_t, std::size_t> acknowledged_;  // leading blocks by chain
  std::uint64_t next_chain_ = 0;
  std::uint64_t found_ = 0;
};

TEST_F(Crash, a_killed_process_leaves_no_wrong_block_and_all_that_it_acknowledged) {
  Random random(arguments.seed);
  for (std::uint64_t round = 0; round < arguments.rounds; ++round) {
    if (next_chain_ * kChainBlocks * kBlockBytes > 160_MiB) {  // before anything would have to go
      std::filesystem::remove_all(directory_);
      std::filesystem::create_directory(directory_);
      acknowledged_.clear();
      next_chain_ = 0;
    }
    ASSERT_NO_FATAL_FAILURE(run_and_kill(std::chrono::microseconds(random.below(60'000)))) << "round " << round;
    ASSERT_NO_FATAL_FAILURE(verify()) << "round " << round << ", seed " << arguments.seed;
  }
  std::uint64_t told = 0;
  for (const auto& [_, blocks] : acknowledged_) told += blocks;
  EXPECT_GT(found_, arguments.rounds);  // the run was about something
  RecordProperty("acknowledged", static_cast<int>(told));
  RecordProperty("found", static_cast<int>(found_));
}

}  // namespace
}  // namespace tiercel::crash

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view key = argv[i];
    if (key == "--writer") tiercel::crash::arguments.writer = argv[i + 1];
    if (key == "--rounds") tiercel::crash::arguments.rounds = std::strtoull(argv[i + 1], nullptr, 10);
    if (key == "--seed") tiercel::crash::arguments.seed = std::strtoull(argv[i + 1], nullptr, 10);
  }
  return RUN_ALL_TESTS();
}
