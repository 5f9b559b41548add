// Goal: what was deleted is not in the file any more, byte by byte, and what was not deleted is: after a delete of a
// tenant, of a namespace and of a prefix, after an orderly end and after kill -9 right behind the delete's answer.
// Recovery finds none of it either.
//
// Method: the program runs itself as a child, on a real directory with a real file: it stores blocks of random bytes of
// two tenants and two models, waits until all are on disk, deletes, says what the delete answered, and ends as it was
// told to. The parent reads the file as a file, and looks for every 64 bytes of every block's content that begin at a
// multiple of 64.
#include "base/random.h"

#include <tiercel/cache.h>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_set>
#include <vector>

namespace tiercel {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kBlockBytes = 64_KiB;
constexpr std::size_t kBlocks = 12;  // of a chain
constexpr std::size_t kSample = 64;
constexpr std::array<std::string_view, 2> kTenants = {"alice", "bob"};
constexpr std::array<std::string_view, 2> kModels = {"m1", "m2"};
constexpr std::size_t kLeft = 5;  // a delete of a prefix leaves so many blocks of its chain

Config config(const std::string& directory) {
  Config config{.host = {.capacity = 16_MiB, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = kBlockBytes}};
  config.disk = {.directories = {directory}, .capacity = 16_MiB};
  return config;
}
SessionOptions options(std::string_view model) {
  return {.model = {.name = std::string(model), .properties = {{"model", std::string(model)}}},
          .block_tokens = 4,
          .layout = Layout::blob(kBlockBytes)};
}
BlockChain chain_of(const Session& session, std::string_view tenant) {
  std::vector<TokenId> tokens;
  for (std::size_t i = 0; i < kBlocks * 4; ++i) tokens.push_back(static_cast<TokenId>(i));
  return hash_blocks(session.space(tenant), tokens);
}
/// Random bytes that no other block has, the same in parent and child.
std::vector<std::byte> content_of(std::size_t tenant, std::size_t model, std::size_t block) {
  Random random(1 + block + 100 * model + 10'000 * tenant);
  std::vector<std::byte> bytes(kBlockBytes);
  for (std::size_t at = 0; at < bytes.size(); at += 8) {
    const std::uint64_t word = random.next();
    std::memcpy(&bytes[at], &word, sizeof word);
  }
  return bytes;
}

// ---- the child

enum class What { kTenant, kNamespace, kPrefix };

bool on_disk(const Cache& cache, std::size_t blocks) {
  const Stats stats = cache.stats();
  return stats.tiers[1].blocks == blocks && stats.demotions_queued == 0 && stats.disk_in_flight == 0;
}

int child(const std::string& directory, What what, bool kill) {
  auto cache = Cache::open(config(directory));
  if (!cache || !cache->wait_for_disks(20s)) return 2;
  std::vector<Session> sessions;
  for (std::size_t model = 0; model < kModels.size(); ++model) {
    auto session = cache->open_session(options(kModels[model]));
    if (!session) return 3;
    for (std::size_t tenant = 0; tenant < kTenants.size(); ++tenant) {
      Reservation room = session->reserve(chain_of(*session, kTenants[tenant]), 0);
      for (std::size_t i = 0; i < room.size(); ++i) {
        if (room.outcome(i) != Reserved::kYes) return 4;
        std::ranges::copy(content_of(tenant, model, i), room.writer(i).bytes().begin());
        if (!room.writer(i).commit()) return 5;
      }
    }
    sessions.push_back(std::move(*session));
  }
  const auto until = std::chrono::steady_clock::now() + 20s;
  while (!on_disk(*cache, kTenants.size() * kModels.size() * kBlocks)) {
    if (std::chrono::steady_clock::now() > until) return 6;
    std::this_thread::yield();
  }
  Session& first = sessions.front();
  const auto dropped = what == What::kTenant      ? cache->drop_tenant(kTenants[0])
                       : what == What::kNamespace ? first.drop(first.space(kTenants[0]))
                                                  : first.drop(chain_of(first, kTenants[0]), kLeft);
  if (!dropped) return 7;
  std::printf("%llu %llu\n", static_cast<unsigned long long>(dropped->blocks),
              static_cast<unsigned long long>(dropped->pending));
  std::fflush(stdout);
  if (kill) (void)::raise(SIGKILL);
  sessions.clear();
  return cache->close(20s) ? 0 : 8;
}

// ---- the parent

struct Case {
  What what;
  bool kill;
  const char* name;
};

class DeletedBytes : public ::testing::TestWithParam<Case> {
 protected:
  DeletedBytes() {
    std::string name = (std::filesystem::temp_directory_path() / "tiercel-deletes-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  ~DeletedBytes() override { std::filesystem::remove_all(directory_); }

  struct Said {
    unsigned long long blocks = 0;
    unsigned long long pending = 0;
  };
  void run_child(Said& said) {
    int out[2];
    ASSERT_EQ(::pipe(out), 0);
    const std::string what = std::to_string(static_cast<int>(GetParam().what));
    const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
    const pid_t pid = ::fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      ::dup2(out[1], STDOUT_FILENO);
      ::close(out[0]);
      ::close(out[1]);
      ::execl(program.c_str(), "deleted_bytes_test", "--child", directory_.c_str(), what.c_str(),
              GetParam().kill ? "kill" : "close", nullptr);
      ::_exit(127);
    }
    ::close(out[1]);
    std::string text;
    std::array<char, 256> buffer{};
    for (ssize_t got = 0; (got = ::read(out[0], buffer.data(), buffer.size())) > 0;)
      text.append(buffer.data(), static_cast<std::size_t>(got));
    ::close(out[0]);
    int status = 0;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid);
    if (GetParam().kill) {
      ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status << " " << text;
    } else {
      ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status << " " << text;
    }
    ASSERT_EQ(std::sscanf(text.c_str(), "%llu %llu", &said.blocks, &said.pending), 2) << text;
  }
  [[nodiscard]] bool is_deleted(std::size_t tenant, std::size_t model, std::size_t block) const {
    if (tenant != 0) return false;
    const What what = GetParam().what;
    return what == What::kTenant || (model == 0 && (what == What::kNamespace || block >= kLeft));
  }
  /// How many samples of the deleted blocks, and of the others, are in the file.
  void count_samples(std::size_t& deleted, std::size_t& kept) {
    std::ifstream file(directory_ + "/tiercel.kv", std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    ASSERT_GE(text.size(), 16_MiB);
    std::unordered_set<std::string_view> in_file;
    in_file.reserve(text.size() / kSample);
    for (std::size_t at = 0; at + kSample <= text.size(); at += kSample)
      in_file.insert(std::string_view(text).substr(at, kSample));
    for (std::size_t tenant = 0; tenant < kTenants.size(); ++tenant) {
      for (std::size_t model = 0; model < kModels.size(); ++model) {
        for (std::size_t block = 0; block < kBlocks; ++block) {
          const auto bytes = content_of(tenant, model, block);
          const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
          std::size_t& count = is_deleted(tenant, model, block) ? deleted : kept;
          for (std::size_t at = 0; at < all.size(); at += kSample) count += in_file.contains(all.substr(at, kSample));
        }
      }
    }
  }
  [[nodiscard]] std::size_t deleted_blocks() const {
    std::size_t count = 0;
    for (std::size_t model = 0; model < kModels.size(); ++model) {
      for (std::size_t block = 0; block < kBlocks; ++block) count += is_deleted(0, model, block) ? 1U : 0U;
    }
    return count;
  }
  /// What a new cache on the same file serves.
  void recover() {
    auto cache = Cache::open(config(directory_));
    ASSERT_TRUE(cache) << cache.error().message;
    ASSERT_TRUE(cache->wait_for_disks(20s));
    for (std::size_t model = 0; model < kModels.size(); ++model) {
      Session session = *cache->open_session(options(kModels[model]));
      for (std::size_t tenant = 0; tenant < kTenants.size(); ++tenant) {
        std::size_t left = 0;
        while (left < kBlocks && !is_deleted(tenant, model, left)) ++left;
        Load load = session.load(chain_of(session, kTenants[tenant]), kBlocks, 20s);
        const auto blocks = load.wait();
        ASSERT_EQ(blocks.size(), left) << kTenants[tenant] << " " << kModels[model];
        for (std::size_t i = 0; i < blocks.size(); ++i) {
          ASSERT_TRUE(std::ranges::equal(blocks[i].bytes(), content_of(tenant, model, i))) << i;
        }
      }
    }
    EXPECT_EQ(cache->stats().disk_recovered_blocks, kTenants.size() * kModels.size() * kBlocks - deleted_blocks());
  }

  std::string directory_;
};

TEST_P(DeletedBytes, are_nowhere_in_the_file) {
  Said said;
  run_child(said);
  if (HasFatalFailure()) return;
  EXPECT_EQ(said.blocks, deleted_blocks());
  std::size_t deleted = 0;
  std::size_t kept = 0;
  count_samples(deleted, kept);
  EXPECT_EQ(said.pending, 0U) << "of what is pending the bytes may still be there; here nothing holds the device up";
  EXPECT_EQ(deleted, 0U);
  EXPECT_EQ(kept, (kTenants.size() * kModels.size() * kBlocks - deleted_blocks()) * (kBlockBytes / kSample));
  recover();
}

INSTANTIATE_TEST_SUITE_P(
    Ways, DeletedBytes,
    ::testing::Values(Case{What::kTenant, false, "tenant"}, Case{What::kTenant, true, "tenant_killed"},
                      Case{What::kNamespace, false, "space"}, Case{What::kNamespace, true, "space_killed"},
                      Case{What::kPrefix, false, "prefix"}, Case{What::kPrefix, true, "prefix_killed"}),
    [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace tiercel

int main(int argc, char** argv) {
  if (argc == 5 && std::string_view(argv[1]) == "--child") {
    return tiercel::child(argv[2], static_cast<tiercel::What>(std::atoi(argv[3])), std::string_view(argv[4]) == "kill");
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
