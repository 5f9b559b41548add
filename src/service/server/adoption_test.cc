// Goal: each way from an earlier run's arena to one that is served, by hand: nothing is handed out before everybody has
// said or is gone, there are never two arenas, and a kill at any point leaves a list from which it begins again.
#include "service/server/adoption.h"

#include "cache/local_session.h"
#include "transfer/host_copy_engine.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tiercel::service {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kBlockBytes = 64_KiB;
constexpr std::size_t kSlots = 4_MiB / kBlockBytes;
constexpr std::uint64_t kSettle = 100'000'000;
constexpr std::uint64_t kSecond = 1'000'000'000;

/// One run of a service, as far as it has to do with its arena.
class ServiceRun {
 public:
  ServiceRun(const std::string& path, ManualClock& clock, std::uint64_t capacity = 4_MiB) : executor_(clock) {
    Config config{.host = {.capacity = capacity,
                           .arena = ArenaKind::kMemfd,
                           .prefault = false,
                           .extent_bytes = 2_MiB,
                           .min_slot_bytes = kBlockBytes}};
    auto earlier = look_for_earlier_arena(path, config.host);
    EXPECT_TRUE(earlier) << earlier.error().message;
    core_ = *detail::CacheCore::create(
        config,
        {.clock = clock, .executor = executor_, .copies = copies_, .seed = 7, .arena_later = earlier->has_value()});
    adoption_ = std::make_unique<Adoption>(core_, Adoption::Options{.list_path = path, .settle_ns = kSettle},
                                           std::move(*earlier));
    EXPECT_TRUE(adoption_->start());
  }
  ~ServiceRun() {
    (void)core_->close(0ns);
    executor_.run_all();
  }
  Adoption& operator*() { return *adoption_; }
  Adoption* operator->() { return adoption_.get(); }
  detail::CacheCore& core() { return *core_; }
  [[nodiscard]] int memfd() const { return core_->arena().mapping().fd(); }

  /// How many blocks could be written now.
  std::size_t room() {
    Cache cache(core_, nullptr);
    std::size_t got = 0;
    {
      Session session = *cache.open_session(
          {.model = {.name = "t", .kv_dtype = "f16"}, .block_tokens = 1, .layout = Layout::blob(kBlockBytes)});
      const BlockChain chain = hash_blocks(session.space(), std::vector<TokenId>(kSlots, 1));
      Reservation reservation = session.reserve(chain, 0);
      for (std::size_t i = 0; i < reservation.size(); ++i) got += reservation.outcome(i) == Reserved::kYes ? 1U : 0U;
    }
    handles_.push_back(std::move(cache));  // its end would close the core
    executor_.run_all();
    return got;
  }

 private:
  ManualExecutor executor_;
  HostCopyEngine copies_{executor_};
  std::shared_ptr<detail::CacheCore> core_;
  std::unique_ptr<Adoption> adoption_;
  std::vector<Cache> handles_;
};

class AdoptionTest : public testing::Test {
 protected:
  AdoptionTest() {
    std::string name = (std::filesystem::temp_directory_path() / "tiercel-adopt-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    path_ = name + "/s.arena";
    clock_.advance(kSecond);
  }
  ~AdoptionTest() override { std::filesystem::remove_all(directory_); }

  /// A client of a run: with its descriptors, as its process would have them.
  struct Client {
    std::uint64_t member = 0;
    std::uint64_t token = 0;
    FileDescriptor memfd;
    FileDescriptor life;
    [[nodiscard]] FileDescriptor offer() const { return FileDescriptor(::dup(memfd.get())); }
  };
  Client connect(ServiceRun& run, std::uint64_t number) {
    EXPECT_TRUE(run->list().add({.member = number, .token = number + 1}));  // of a process that cannot be seen
    auto life = run->list().life(number);
    EXPECT_TRUE(life);
    return {
        .member = number, .token = number + 1, .memfd = FileDescriptor(::dup(run.memfd())), .life = std::move(*life)};
  }
  static void end(FileDescriptor& fd) { const FileDescriptor closed(std::move(fd)); }
  static void end(Client& client) {
    end(client.memfd);
    end(client.life);
  }
  void pass(ServiceRun& run, std::uint64_t ns) {
    clock_.advance(ns);
    (void)run->step(clock_.now_ns());
  }
  static ino_t inode(int fd) {
    struct stat about{};
    return ::fstat(fd, &about) == 0 ? about.st_ino : 0;
  }

  std::string directory_;
  std::string path_;
  ManualClock clock_;
};

TEST_F(AdoptionTest, a_first_run_serves_at_once) {
  ServiceRun run(path_, clock_);
  EXPECT_EQ(run->stage(), ArenaStage::kServing);
  EXPECT_EQ(run->report().epoch, 1U);
  EXPECT_EQ(run.room(), kSlots);
}

TEST_F(AdoptionTest, whose_clients_are_gone_serves_at_once_in_new_memory) {
  std::optional<ServiceRun> first(std::in_place, path_, clock_);
  Client client = connect(*first, 1);
  end(client);
  first.reset();
  ServiceRun run(path_, clock_);
  EXPECT_EQ(run->stage(), ArenaStage::kServing);
  EXPECT_TRUE(run->list().members().empty());
}

TEST_F(AdoptionTest, waits_for_the_offer_and_then_for_each_member) {
  std::optional<ServiceRun> first(std::in_place, path_, clock_);
  Client talker = connect(*first, 1);
  Client silent = connect(*first, 2);
  first.reset();

  ServiceRun run(path_, clock_);
  EXPECT_EQ(run->stage(), ArenaStage::kAwaited);
  EXPECT_EQ(run.room(), 0U);
  pass(run, 100 * kSecond);
  EXPECT_EQ(run->stage(), ArenaStage::kAwaited) << "never by time alone";
  ASSERT_TRUE(run->offered(talker.offer()));
  EXPECT_EQ(run->stage(), ArenaStage::kWithheld);
  EXPECT_EQ(inode(run.memfd()), inode(talker.memfd.get())) << "the same memory";
  EXPECT_EQ(run->report().epoch, 2U);

  ASSERT_TRUE(run->survivors().knows(1, 2));
  run->survivors().came(1);
  ASSERT_TRUE(run.core().claim({.slot = 5, .slot_bytes = kBlockBytes, .pins = 1}));
  run->survivors().said(1);
  pass(run, 100 * kSecond);
  EXPECT_EQ(run->stage(), ArenaStage::kWithheld) << "the silent one may write anywhere";
  EXPECT_EQ(run.room(), 0U);
  end(silent);
  pass(run, 1);
  EXPECT_EQ(run->stage(), ArenaStage::kWithheld) << "its devices may not be quiet yet";
  pass(run, kSettle);
  EXPECT_EQ(run->stage(), ArenaStage::kServing);
  EXPECT_EQ(run.room(), kSlots - 1) << "but for what is claimed";
  ASSERT_EQ(run->list().members().size(), 1U);
  EXPECT_EQ(run->list().members()[0].member, 1U) << "who has come back is listed for the next run";
  run.core().release(5);
}

TEST_F(AdoptionTest, killed_in_the_middle_it_begins_again) {
  std::optional<ServiceRun> first(std::in_place, path_, clock_);
  Client talker = connect(*first, 1);
  Client silent = connect(*first, 2);
  first.reset();
  for (std::uint64_t epoch = 2; epoch <= 4; ++epoch) {
    ServiceRun run(path_, clock_);
    ASSERT_EQ(run->stage(), ArenaStage::kAwaited);
    EXPECT_EQ(run->report().waits_for.size(), 1U) << "both are numbers that cannot be seen";
    ASSERT_TRUE(run->offered(talker.offer()));
    EXPECT_EQ(run->report().epoch, epoch);
    run->survivors().came(1);
    run->survivors().said(1);
    pass(run, kSecond);
    EXPECT_EQ(run->stage(), ArenaStage::kWithheld);
  }
  end(silent);
  ServiceRun run(path_, clock_);
  ASSERT_TRUE(run->offered(talker.offer()));
  run->survivors().came(1);
  run->survivors().said(1);
  pass(run, kSecond);
  pass(run, kSecond);
  EXPECT_EQ(run->stage(), ArenaStage::kServing);
}

TEST_F(AdoptionTest, only_the_arena_that_is_listed_is_taken) {
  std::optional<ServiceRun> first(std::in_place, path_, clock_);
  Client client = connect(*first, 1);
  first.reset();
  const auto other = *Mapping::share({.bytes = 4_MiB, .kind = ArenaKind::kMemfd});
  ServiceRun run(path_, clock_);
  EXPECT_FALSE(run->offered(FileDescriptor(::dup(other->fd())))) << "of an even earlier run, or of anybody";
  EXPECT_FALSE(run->offered(FileDescriptor(::open("/dev/null", O_RDWR))));
  EXPECT_EQ(run->stage(), ArenaStage::kAwaited);
  EXPECT_TRUE(run->offered(client.offer()));
}

TEST_F(AdoptionTest, if_all_end_without_an_offer_there_is_new_memory) {
  std::optional<ServiceRun> first(std::in_place, path_, clock_);
  Client client = connect(*first, 1);
  const ino_t earlier = inode(client.memfd.get());
  first.reset();
  ServiceRun run(path_, clock_);
  ASSERT_EQ(run->stage(), ArenaStage::kAwaited);
  end(client);
  pass(run, 1);
  pass(run, kSettle);
  EXPECT_EQ(run->stage(), ArenaStage::kServing);
  EXPECT_EQ(run.room(), kSlots);
  EXPECT_NE(inode(run.memfd()), earlier);
  EXPECT_EQ(run->report().epoch, 1U);
}

TEST_F(AdoptionTest, another_size_is_refused_and_new_memory_comes_when_nobody_has_the_old) {
  std::optional<ServiceRun> first(std::in_place, path_, clock_);
  Client client = connect(*first, 1);
  first.reset();
  ServiceRun run(path_, clock_, 6_MiB);
  EXPECT_EQ(run->stage(), ArenaStage::kRefused);
  EXPECT_EQ(run->report().cause, "host.capacity is 6144 KiB now and was 4096 KiB");
  EXPECT_FALSE(run->offered(client.offer()));
  pass(run, 100 * kSecond);
  EXPECT_EQ(run->stage(), ArenaStage::kRefused);
  EXPECT_EQ(run.memfd(), -1) << "no second arena beside the first";
  end(client);
  pass(run, 1);
  pass(run, kSettle);
  EXPECT_EQ(run->stage(), ArenaStage::kServing);
  EXPECT_EQ(run->report().cause, "");
}

TEST_F(AdoptionTest, a_list_that_is_not_understood_is_never_adopted_by) {
  std::optional<ServiceRun> first(std::in_place, path_, clock_);
  Client client = connect(*first, 1);
  first.reset();
  {  // in place: the life descriptor's lock is on this file
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(kListHeadBytes + 3);
    file.put('x');
  }
  ServiceRun run(path_, clock_);
  EXPECT_EQ(run->stage(), ArenaStage::kRefused);
  EXPECT_NE(run->report().cause.find("is not understood: its entry 0 is none"), std::string::npos)
      << run->report().cause;
  EXPECT_FALSE(run->offered(client.offer()));
  pass(run, 100 * kSecond);
  EXPECT_EQ(run->stage(), ArenaStage::kRefused);
  end(client);
  pass(run, 1);
  EXPECT_EQ(run->stage(), ArenaStage::kServing);
}

TEST_F(AdoptionTest, who_is_on_no_list_is_waited_for_briefly) {
  std::optional<ServiceRun> first(std::in_place, path_, clock_);
  Client client = connect(*first, 1);
  first->operator->()->list().remove(1);  // its connection ended, and it held nothing; it still maps the arena
  first.reset();
  {
    ServiceRun run(path_, clock_);
    ASSERT_EQ(run->stage(), ArenaStage::kAwaited);
    pass(run, kSecond);
    ASSERT_EQ(run->stage(), ArenaStage::kAwaited);
    ASSERT_TRUE(run->offered(client.offer()));
    pass(run, kSettle);
    EXPECT_EQ(run->stage(), ArenaStage::kServing);
  }
  ServiceRun run(path_, clock_);
  pass(run, kSecond);
  EXPECT_EQ(run->stage(), ArenaStage::kAwaited);
  pass(run, 3 * kSecond);
  EXPECT_EQ(run->stage(), ArenaStage::kServing) << "it may be a child that only keeps descriptors";
}

TEST_F(AdoptionTest, the_earlier_run_s_own_reads_settle_too) {
  std::optional<ServiceRun> first(std::in_place, path_, clock_);
  Client client = connect(*first, 1);
  first.reset();
  ServiceRun run(path_, clock_);
  ASSERT_TRUE(run->offered(client.offer()));
  run->survivors().came(1);
  run->survivors().said(1);
  pass(run, kSettle / 2);
  EXPECT_EQ(run->stage(), ArenaStage::kWithheld);
  pass(run, kSettle / 2);
  EXPECT_EQ(run->stage(), ArenaStage::kServing);
}

}  // namespace
}  // namespace tiercel::service
