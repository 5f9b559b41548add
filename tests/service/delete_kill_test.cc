// Goal: a delete of a tenant outlives the service that is killed while it is under way, or behind its answer: a delete
// that was acknowledged is one for good, and its bytes are nowhere in the file; one that was not has happened as a
// whole or not at all. The other tenant keeps every block. Usage: delete_kill_test --host PROGRAM.
#include "tests/crash/crash_blocks.h"
#include "tests/service/service_programs.h"

#include <tiercel/client.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_set>
#include <vector>

namespace tiercel {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::size_t kChains = 20;  // of a tenant
constexpr std::size_t kBlocks = kChains * crash::kChainBlocks;
constexpr std::size_t kSample = 64;

class DeleteKill : public ServicePrograms {
 protected:
  [[nodiscard]] std::string folder(const std::string& name) const { return directory_ + "/" + name; }
  void make_folders(const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      std::filesystem::create_directory(folder(name));
      folders_.push_back(folder(name));
    }
  }
  void start() {
    std::vector<std::string> more{"16"};
    more.insert(more.end(), folders_.begin(), folders_.end());
    ASSERT_NO_FATAL_FAILURE(start_host(more));
    (void)figures("disks\n");
  }
  void restart() {
    if (!host_->ended()) host_->kill();
    ASSERT_NO_FATAL_FAILURE(start());
  }
  /// What an engine does, connected for as long as that takes.
  template <class Do>
  void with_session(Do&& act) {
    auto client = Client::connect({.socket = socket_, .call_deadline = 20s});
    ASSERT_TRUE(client) << client.error().message;
    auto session = client->open_session(crash::options());
    ASSERT_TRUE(session) << session.error().message;
    act(*session);
  }
  /// Chains number `first` and the following ones.
  void store(const std::string& tenant, std::uint64_t first) {
    with_session([&](Session& session) {
      for (std::uint64_t number = first; number < first + kChains; ++number) {
        const BlockChain chain = crash::chain(session.space(tenant), number);
        Reservation room = session.reserve(chain, 0);
        for (std::size_t i = 0; i < room.size(); ++i) {
          ASSERT_EQ(room.outcome(i), Reserved::kYes);
          crash::fill(room.writer(i).bytes(), chain[i]);
        }
        ASSERT_TRUE(room.commit_all());
      }
    });
  }
  /// How many blocks of the tenant are served; each is what was stored.
  std::size_t served(const std::string& tenant, std::uint64_t first) {
    std::size_t count = 0;
    with_session([&](Session& session) {
      for (std::uint64_t number = first; number < first + kChains; ++number) {
        const BlockChain chain = crash::chain(session.space(tenant), number);
        Load load = session.load(chain, chain.size(), 20s);
        const auto blocks = load.wait();
        for (std::size_t i = 0; i < blocks.size(); ++i) EXPECT_TRUE(crash::is_whole(blocks[i].bytes(), chain[i]));
        count += blocks.size();
      }
    });
    return count;
  }
  using Pieces = std::unordered_set<std::string>;
  /// Of all its blocks, to be looked for in the files.
  Pieces pieces_of(const std::string& tenant, std::uint64_t first) {
    Pieces pieces;
    std::vector<std::byte> bytes(crash::kBlockBytes);
    with_session([&](Session& session) {
      for (std::uint64_t number = first; number < first + kChains; ++number) {
        const BlockChain chain = crash::chain(session.space(tenant), number);
        for (const BlockHash& hash : chain.hashes()) {
          crash::fill(bytes, hash);
          const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
          for (std::size_t at = 0; at < all.size(); at += kSample) pieces.emplace(all.substr(at, kSample));
        }
      }
    });
    return pieces;
  }
  /// How many of them lie in the folder's file.
  [[nodiscard]] static std::size_t found(const Pieces& pieces, const std::string& folder) {
    std::size_t count = 0;
    std::string sample(kSample, 0);
    std::ifstream file(folder + "/tiercel.kv", std::ios::binary);
    while (file.read(sample.data(), kSample)) count += pieces.contains(sample) ? 1U : 0U;
    return count;
  }

  std::vector<std::string> folders_;
};

TEST_F(DeleteKill, at_any_moment_of_it) {
  constexpr int kRounds = 12;
  make_folders({"d"});
  ASSERT_NO_FATAL_FAILURE(start());
  store("bob", 1);
  std::chrono::nanoseconds took{0};
  int acknowledged = 0;
  int undone = 0;
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    const std::uint64_t first = 1'000 * static_cast<std::uint64_t>(round + 1);
    store("alice", first);
    ASSERT_TRUE(comes("disk=" + std::to_string(2 * kBlocks) + " "));
    const Pieces pieces = pieces_of("alice", first);
    ASSERT_EQ(found(pieces, folders_[0]), kBlocks * crash::kBlockBytes / kSample);
    const auto begin = std::chrono::steady_clock::now();
    host_->say("drop alice\n");
    std::string said;
    if (round == 0) {  // once to its end, and then at moments from its beginning to behind its end
      said = host_->line();
      took = std::chrono::steady_clock::now() - begin;
    } else {
      std::this_thread::sleep_for(took * (round - 1) / (kRounds - 2));
    }
    host_->kill();
    if (round > 0) said = host_->line();  // what it had answered by then
    if (!said.empty()) {
      ++acknowledged;
      EXPECT_EQ(said, "blocks=" + std::to_string(kBlocks) + " pending=0 ");
      EXPECT_EQ(found(pieces, folders_[0]), 0U);
    }
    ASSERT_NO_FATAL_FAILURE(restart());
    const std::size_t left = served("alice", first);
    undone += left > 0 ? 1 : 0;
    EXPECT_TRUE(left == 0 || (left == kBlocks && said.empty())) << left << " blocks came back after: " << said;
    EXPECT_EQ(served("bob", 1), kBlocks);
    EXPECT_THAT(figures("drop alice\n"), HasSubstr("pending=0 "));
    EXPECT_EQ(served("alice", first), 0U);
  }
  std::printf("%d rounds: %d acknowledged, %d as if there had been no delete\n", kRounds, acknowledged, undone);
}

/// The answer says that it is pending: of the bytes nothing is promised, but served they are no more.
TEST_F(DeleteKill, while_it_waits_for_a_folder_that_is_away) {
  make_folders({"a", "b"});
  ASSERT_NO_FATAL_FAILURE(start());
  store("alice", 1);
  store("bob", 1);
  ASSERT_TRUE(comes("disk=" + std::to_string(2 * kBlocks) + " "));
  const Pieces pieces = pieces_of("alice", 1);
  for (const std::string& folder : folders_) ASSERT_GT(found(pieces, folder), 0U) << "she has blocks in both";
  host_->kill();
  std::filesystem::rename(folders_[1], folder("away"));
  ASSERT_NO_FATAL_FAILURE(start());
  const std::string said = figures("drop alice\n");
  EXPECT_THAT(said, AllOf(HasSubstr("pending="), Not(HasSubstr("pending=0 ")))) << "nobody has seen the other folder";
  host_->kill();
  std::filesystem::rename(folder("away"), folders_[1]);
  for (int run = 0; run < 2; ++run) {
    ASSERT_NO_FATAL_FAILURE(restart());
    EXPECT_EQ(served("alice", 1), 0U);
    EXPECT_EQ(served("bob", 1), kBlocks);
  }
}

}  // namespace
}  // namespace tiercel

int main(int argc, char** argv) { return tiercel::run_service_tests(argc, argv); }
