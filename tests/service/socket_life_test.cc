// Goal: what becomes of handles, replies and versions when connections end and begin again, over a real socket in one
// process.
#include "base/clock.h"
#include "cache/cache_access.h"
#include "service/server/socket_server.h"
#include "tests/crash/crash_blocks.h"
#include "tests/service/arena_memory.h"

#include <tiercel/client.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace tiercel {
namespace {

using namespace std::chrono_literals;
using service::SocketServer;
using testing::HasSubstr;

bool comes(const std::function<bool()>& what) {
  for (const auto end = std::chrono::steady_clock::now() + 20s; std::chrono::steady_clock::now() < end;) {
    if (what()) return true;
    std::this_thread::sleep_for(1ms);
  }
  return false;
}

class SocketLife : public testing::Test {
 protected:
  SocketLife() {
    std::string name = (std::filesystem::temp_directory_path() / "tiercel-life-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    start();
  }
  ~SocketLife() override {
    end();
    std::filesystem::remove_all(directory_);
  }
  void start(std::uint64_t capacity = 4_MiB) {
    const Config config{.host = {.capacity = capacity,
                                 .arena = ArenaKind::kMemfd,
                                 .prefault = false,
                                 .extent_bytes = 2_MiB,
                                 .min_slot_bytes = 16_KiB},
                        .workers = {.threads = 1}};
    const service::SocketOptions options{.path = path(), .settle = 1ms};
    auto taken = SocketServer::take_path(options, config.host);
    ASSERT_TRUE(taken) << taken.error().message;
    auto cache = detail::CacheAccess::open(config, taken->earlier.has_value());
    ASSERT_TRUE(cache) << cache.error().message;
    cache_.emplace(std::move(*cache));
    auto server = SocketServer::start(*cache_, options, std::move(*taken));
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
  }
  void end() {
    server_.reset();
    cache_.reset();
  }
  [[nodiscard]] std::string path() const { return directory_ + "/s"; }
  Client connect() {
    auto client = Client::connect({.socket = path(), .call_deadline = 5s, .reconnect_pause = 1ms});
    EXPECT_TRUE(client) << client.error().message;
    return std::move(*client);
  }
  static BlockChain store(Session& session, std::uint64_t number) {
    const BlockChain chain = crash::chain(session.space(), number);
    Reservation room = session.reserve(chain, 0);
    for (std::size_t i = 0; i < room.size(); ++i) {
      if (room.outcome(i) != Reserved::kYes) continue;
      crash::fill(room.writer(i).bytes(), chain[i]);
      EXPECT_TRUE(room.writer(i).commit());
    }
    return chain;
  }
  static bool is_served(Session& session) {
    return session.reserve(crash::chain(session.space(), 0), 0).outcome(0) != Reserved::kClosed;
  }
  bool nothing_is_held() {
    return comes([this] { return cache_->stats().copy_pins == 0; });
  }

  std::string directory_;
  std::optional<Cache> cache_;
  std::unique_ptr<SocketServer> server_;
};

TEST_F(SocketLife, a_handle_outlives_its_session_and_its_client) {
  std::vector<BlockRef> kept;
  BlockHash name;
  {
    Client client = connect();
    Session session = *client.open_session(crash::options());
    const BlockChain chain = store(session, 1);
    name = chain[0];
    kept = session.load(chain, 1, 5s).take();
    ASSERT_EQ(kept.size(), 1U);
  }
  EXPECT_TRUE(comes([this] { return cache_->stats().sessions == 0; }));
  EXPECT_EQ(cache_->stats().copy_pins, 1U) << "the slot is not used for anything else";
  EXPECT_TRUE(crash::is_whole(kept[0].bytes(), name));
  kept.clear();
  EXPECT_TRUE(nothing_is_held());
}

TEST_F(SocketLife, a_handle_of_a_session_that_was_closed_while_the_service_was_away_is_let_go) {
  Client client = connect();
  std::vector<BlockRef> kept;
  {
    Session session = *client.open_session(crash::options());
    kept = session.load(store(session, 1), 1, 5s).take();
    for (const service::MemberReport& member : server_->members()) server_->disconnect(member.member);
    kept.clear();  // perhaps on the connection that has just broken, perhaps on the next one
  }
  EXPECT_TRUE(nothing_is_held()) << "its life descriptor tells, without its process' end";
}

TEST_F(SocketLife, a_reply_that_was_not_looked_at_before_a_reconnection_grants_nothing) {
  Client client = connect();
  Session session = *client.open_session(crash::options());
  const BlockChain chain = store(session, 1);
  ASSERT_TRUE(client.sync());
  const std::uint64_t taken_up = server_->stats().taken_up;
  Load load = session.load(chain, chain.size(), 5s);
  ASSERT_TRUE(comes([&] { return cache_->stats().copy_pins == chain.size(); })) << "the service has answered";
  for (const service::MemberReport& member : server_->members()) server_->disconnect(member.member);
  ASSERT_TRUE(comes([&] { return server_->stats().taken_up == taken_up + 1; }));
  ASSERT_TRUE(nothing_is_held()) << "it has said that it holds nothing";
  EXPECT_TRUE(load.wait().empty()) << "the service may have given these slots to others";
  EXPECT_EQ(load.outcome(), LoadOutcome::kClosed);
  ASSERT_TRUE(comes([&] { return session.match(chain).blocks() == chain.size(); }));
  EXPECT_EQ(session.load(chain, chain.size(), 5s).wait().size(), chain.size());
}

TEST_F(SocketLife, over_a_restart_there_is_one_mapping_and_what_is_held_stays_what_it_is) {
  Client client = connect();
  Session session = *client.open_session(crash::options());
  const BlockChain chain = store(session, 1);
  std::vector<BlockRef> kept = session.load(chain, 2, 5s).take();
  Reservation room = session.reserve(crash::chain(session.space(), 2), 0);
  ASSERT_EQ(room.outcome(0), Reserved::kYes);
  const std::byte* const held = kept[0].bytes().data();
  end();
  EXPECT_TRUE(crash::is_whole(kept[0].bytes(), chain[0])) << "while there is no service";
  start();
  ASSERT_TRUE(comes([this] { return server_->arena().stage == service::ArenaStage::kServing; }));
  EXPECT_EQ(server_->arena().epoch, 2U);
  EXPECT_EQ(kept[0].bytes().data(), held);
  EXPECT_EQ(cache_->stats().copy_pins, 2 + crash::kChainBlocks);
  EXPECT_EQ(room.writer(0).commit().error().code, ErrorCode::kClosed) << "the reservation was the earlier run's";
  ASSERT_TRUE(comes([&] { return is_served(session); })) << "the client has heard that its session is open again";
  EXPECT_EQ(session.match(chain).blocks(), 0U) << "an empty index";
  const BlockChain again = store(session, 3);
  const auto loaded = session.load(again, again.size(), 5s).take();
  ASSERT_EQ(loaded.size(), again.size());
  for (const BlockRef& block : loaded) {
    const auto apart = [&](const BlockRef& other) {
      return block.bytes().data() + block.bytes().size() <= other.bytes().data() ||
             other.bytes().data() + other.bytes().size() <= block.bytes().data();
    };
    EXPECT_TRUE(std::ranges::all_of(kept, apart));
  }
  const pid_t self = ::getpid();
  EXPECT_EQ(arena_memory(std::span(&self, 1)).arenas, 1U);
  EXPECT_EQ(arena_mappings(self), 2U) << "the client's, and the service's in this same process";
  EXPECT_TRUE(crash::is_whole(kept[0].bytes(), chain[0]));
  EXPECT_TRUE(crash::is_whole(kept[1].bytes(), chain[1]));
  room = {};
  kept.clear();
}

TEST_F(SocketLife, a_pin_that_is_kept_keeps_no_memory_of_an_arena_that_is_over) {
  Client client = connect();
  Session session = *client.open_session(crash::options());
  const BlockChain chain = store(session, 1);
  auto pin = session.pin(chain, 2, 1min);
  ASSERT_TRUE(pin) << pin.error().message;
  EXPECT_EQ(pin->blocks(), 2U);
  server_.reset();
  cache_.reset();
  std::filesystem::remove(path() + ".arena");  // whoever tidied up there: nobody can know of the arena any more
  start();
  ASSERT_TRUE(comes([&] { return cache_->stats().sessions == 1; }));
  EXPECT_EQ(pin->blocks(), 0U);
  const pid_t self = ::getpid();
  EXPECT_TRUE(comes([&] { return arena_memory(std::span(&self, 1)).arenas == 1; }));
}

// ---- versions

/// What the service answers to such a Hello.
wire::Welcome answer_to(const std::string& path, const wire::Hello& hello, std::size_t bytes = sizeof(wire::Hello),
                        int arena = -1) {
  const FileDescriptor socket = std::move(*wire::connect_to(path));
  const FileDescriptor pidfd = std::move(*wire::own_pidfd());
  const int shown[] = {pidfd.get(), arena};
  EXPECT_TRUE(wire::send_with_descriptors(socket.get(), std::as_bytes(std::span(&hello, 1)).first(bytes),
                                          std::span(shown).first(arena < 0 ? 1 : 2)));
  pollfd readable{.fd = socket.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&readable, 1, 10'000), 1);
  wire::Welcome welcome{.magic = 0};
  const auto got = wire::receive_with_descriptors(socket.get(), std::as_writable_bytes(std::span(&welcome, 1)));
  EXPECT_TRUE(got && *got && (*got)->bytes == sizeof(welcome));
  return welcome;
}

TEST_F(SocketLife, a_client_of_another_version_is_told_both) {
  constexpr std::uint16_t kNew = wire::kVersion + 5;
  for (const wire::Hello& hello :
       {wire::Hello{.newest = kNew, .oldest = kNew - 1}, wire::Hello{.newest = 0, .oldest = 0}}) {
    for (const std::size_t bytes : {sizeof(hello), std::size_t{8}}) {  // however long that version's Hello is
      const Status status = wire::check_welcome(answer_to(path(), hello, bytes));
      ASSERT_FALSE(status);
      EXPECT_EQ(status.error().code, ErrorCode::kUnsupported);
      EXPECT_THAT(status.error().message, HasSubstr("the client speaks " + std::to_string(hello.oldest) + " to " +
                                                    std::to_string(hello.newest)));
      EXPECT_THAT(status.error().message, HasSubstr("the service " + std::to_string(wire::kOldestVersion) + " to " +
                                                    std::to_string(wire::kVersion)));
    }
  }
  EXPECT_TRUE(wire::check_welcome(answer_to(path(), {})));
  EXPECT_EQ(wire::check_welcome(answer_to(path(), {.magic = 7})).error().code, ErrorCode::kInvalidArgument);
}

/// Has the arena, and does not come back with it.
class Holder {
 public:
  void hold(const std::string& path) {
    client_.emplace(std::move(*Client::connect({.socket = path, .call_deadline = 5s, .reconnect_pause = 60s})));
    session_.emplace(std::move(*client_->open_session(crash::options())));
    const BlockChain chain = crash::chain(session_->space(), 1);
    room_ = session_->reserve(chain, 0);
  }
  void let_go() {
    room_ = {};
    session_.reset();
  }
  static std::string name() { return "process " + std::to_string(::getpid()); }

 private:
  std::optional<Client> client_;
  std::optional<Session> session_;
  Reservation room_;
};

TEST_F(SocketLife, while_an_arena_is_awaited_another_one_is_to_be_let_go_and_none_may_come_again) {
  Holder holder;
  holder.hold(path());
  end();
  start();
  ASSERT_EQ(server_->arena().stage, service::ArenaStage::kAwaited);
  const auto other = *Mapping::share({.bytes = 4_MiB, .kind = ArenaKind::kMemfd, .name = "another"});
  const wire::Welcome shown = answer_to(path(), {}, sizeof(wire::Hello), other->fd());
  EXPECT_EQ(shown.let_go, 1U);
  EXPECT_EQ(shown.for_now, 0U);
  EXPECT_THAT(wire::check_welcome(shown).error().message, HasSubstr(Holder::name()));
  const wire::Welcome none = answer_to(path(), {});
  EXPECT_EQ(none.let_go, 0U);
  EXPECT_EQ(none.for_now, 1U);
  EXPECT_EQ(wire::check_welcome(none).error().code, ErrorCode::kTimeout);
  EXPECT_EQ(server_->stats().refused, 1U) << "who may come again waits";
  holder.let_go();
  ASSERT_TRUE(comes([this] { return server_->arena().stage == service::ArenaStage::kServing; })) << "it has let go";
  EXPECT_TRUE(wire::check_welcome(answer_to(path(), {})));
}

TEST_F(SocketLife, who_comes_first_before_there_is_an_arena_waits_for_it) {
  for (const std::uint64_t capacity : {4_MiB, 8_MiB}) {  // of the same size it is awaited, of another refused
    Holder holder;
    holder.hold(path());
    end();
    start(capacity);
    ASSERT_NE(server_->arena().stage, service::ArenaStage::kServing);
    std::optional<Result<Client>> client;
    std::thread first([&] { client = Client::connect({.socket = path(), .call_deadline = 60s}); });
    // Longer than any caller is let wait at once.
    for (int i = 0; i < 3; ++i) EXPECT_EQ(answer_to(path(), {}).for_now, 1U);
    EXPECT_EQ(server_->stats().accepted, 0U);
    holder.let_go();
    first.join();
    ASSERT_TRUE(*client) << client->error().message;
    auto session = (*client)->open_session(crash::options());
    ASSERT_TRUE(session) << session.error().message;
    const BlockChain chain = store(*session, 2);
    EXPECT_EQ(session->load(chain, chain.size(), 5s).wait().size(), chain.size());
  }
}

TEST_F(SocketLife, who_comes_first_learns_at_its_deadline_for_whom_the_service_waits) {
  Holder holder;
  holder.hold(path());
  end();
  start();
  const auto client = Client::connect({.socket = path(), .call_deadline = 2s});
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().code, ErrorCode::kTimeout);
  EXPECT_THAT(client.error().message, HasSubstr(Holder::name()));
}

TEST_F(SocketLife, what_an_engine_said_of_itself_is_said_again_after_a_reconnection) {
  Client client = connect();
  Session session = *client.open_session(crash::options());
  const KvPool pool{.used_bytes = 1, .free_bytes = 2, .total_bytes = 3};
  session.report_prefill(2e9);
  session.report_pool(pool);
  const auto heard = [&] {
    const auto members = server_->members();
    return members.size() == 1 && members[0].prefill_bytes_per_second == 2e9 && members[0].pool == pool;
  };
  ASSERT_TRUE(comes(heard));
  const std::uint64_t before = server_->members()[0].member;
  const std::uint64_t accepted = server_->stats().accepted;
  server_->disconnect(before);
  ASSERT_TRUE(comes([&] { return server_->stats().accepted > accepted; }));
  EXPECT_TRUE(comes(heard));
  end();
  start();
  EXPECT_TRUE(comes(heard)) << "also by another run of the service";
}

TEST_F(SocketLife, several_sessions_of_a_client_come_back_over_a_restart) {
  Client client = connect();
  std::vector<Session> sessions;
  while (sessions.size() < 5) sessions.push_back(std::move(*client.open_session(crash::options())));
  const std::vector<BlockRef> kept = sessions[2].load(store(sessions[2], 1), 2, 5s).take();
  end();
  start();
  ASSERT_TRUE(comes([this] { return server_->arena().stage == service::ArenaStage::kServing; }));
  ASSERT_TRUE(comes([&] { return cache_->stats().sessions == sessions.size(); }));
  EXPECT_EQ(cache_->stats().copy_pins, kept.size());
  const pid_t self = ::getpid();
  EXPECT_EQ(arena_memory(std::span(&self, 1)).arenas, 1U);
}

TEST_F(SocketLife, a_service_of_another_version_is_named_by_connect) {
  const std::string elsewhere = directory_ + "/other";
  auto listening = wire::listen_at({.path = elsewhere});
  ASSERT_TRUE(listening);
  std::thread other([&] {
    pollfd caller{.fd = listening->socket.get(), .events = POLLIN, .revents = 0};
    (void)::poll(&caller, 1, 10'000);
    const FileDescriptor client(::accept4(listening->socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const wire::Welcome no = wire::refusal({.code = ErrorCode::kUnsupported,
                                            .message = "protocol versions: the client speaks 1 to 1, the "
                                                       "service 8 to 9"});
    (void)wire::send_with_descriptors(client.get(), std::as_bytes(std::span(&no, 1)), {});
  });
  const auto client = Client::connect({.socket = elsewhere, .call_deadline = 10s});
  other.join();
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(client.error().message, HasSubstr("the service 8 to 9"));
}

}  // namespace
}  // namespace tiercel
