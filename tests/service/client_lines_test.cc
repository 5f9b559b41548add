// Goal: the sessions of a client connect independently of each other: while the service lets one wait, the others are
// on their way too, so that all are back after one delay and not one after the other.
#include "base/log.h"
#include "base/mapping.h"
#include "service/wire/frame.h"
#include "service/wire/handshake.h"
#include "service/wire/messages.h"
#include "service/wire/unix_socket.h"
#include "tests/crash/crash_blocks.h"

#include <tiercel/client.h>

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace tiercel {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kLines = 6;
constexpr auto kLong = 60s;  // nothing here waits so long, unless for somebody who does not come

/// A service without a cache, which answers only when so many callers wait for the same answer. Says what happened, in
/// order: a Hello (h), its Welcome (w), a request to open a session (o), its answer (a). Loads are counted, not
/// answered.
class ReluctantService {
 public:
  explicit ReluctantService(const std::string& path, std::uint16_t version = wire::kVersion)
      : listening_(std::move(*wire::listen_at({.path = path}))), version_(version), thread_([this] { serve(); }) {}
  ReluctantService(const ReluctantService&) = delete;
  ReluctantService& operator=(const ReluctantService&) = delete;
  ~ReluctantService() {
    stopping_ = true;
    thread_.join();
  }

  /// Ends all connections, and from then on answers so many callers at once. Call it once.
  void cut_and_answer(std::size_t together) { together_ = together; }
  [[nodiscard]] std::size_t answered() const { return answered_; }
  [[nodiscard]] std::size_t loads() const { return loads_; }
  /// How often it was asked for what is ready of a load.
  [[nodiscard]] std::size_t parts_asked() const { return parts_asked_; }
  /// Since the cut; once answered() has said that nothing more comes.
  [[nodiscard]] const std::string& events() const { return events_; }

 private:
  struct Caller {
    FileDescriptor socket;
    wire::FrameReader in{wire::kMaxRequestBytes};
    wire::OutBuffer out{};
    bool greeted = false;    // has said Hello
    bool welcomed = false;   // has been answered
    std::uint64_t open = 0;  // request that waits for its answer
  };

  void serve() {
    std::size_t together = 1;
    while (!stopping_) {
      if (together != together_) {
        together = together_;
        callers_.clear();
        events_.clear();
      }
      accept();
      std::erase_if(callers_, [this](const auto& caller) { return !hear(*caller); });
      answer_together(together);
      wait();
    }
  }
  void wait() {
    std::vector<pollfd> watched{{.fd = listening_.socket.get(), .events = POLLIN, .revents = 0}};
    for (const auto& caller : callers_) watched.push_back({.fd = caller->socket.get(), .events = POLLIN, .revents = 0});
    (void)::poll(watched.data(), watched.size(), 5);  // the test's words come by flags
  }
  void accept() {
    for (;;) {
      FileDescriptor socket(::accept4(listening_.socket.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!socket) return;
      callers_.push_back(std::make_unique<Caller>());
      callers_.back()->socket = std::move(socket);
    }
  }
  /// False: it is gone.
  bool hear(Caller& caller) {
    if (!caller.greeted) {
      wire::Hello hello;
      const auto got =
          wire::receive_with_descriptors(caller.socket.get(), std::as_writable_bytes(std::span(&hello, 1)));
      if (got && !*got) return true;
      if (!got || (*got)->bytes != sizeof(hello)) return false;
      caller.greeted = true;
      events_ += 'h';
      return true;
    }
    const auto room = caller.in.room();
    const ssize_t got = ::recv(caller.socket.get(), room.data(), room.size(), MSG_DONTWAIT);
    if (got == 0) return false;
    if (got < 0) return true;
    caller.in.filled(static_cast<std::size_t>(got));
    for (auto payload = caller.in.next(); payload && *payload; payload = caller.in.next()) {
      const wire::Request* request = wire::verified_request(**payload);
      if (request == nullptr) return false;
      if (request->body_type() == wire::RequestBody::Open) {
        caller.open = request->id();
        events_ += 'o';
      } else if (request->body_type() == wire::RequestBody::Load) {
        ++loads_;
      } else if (request->body_type() == wire::RequestBody::SoFar) {
        ++parts_asked_;
      } else if (request->id() != 0) {
        flatbuffers::FlatBufferBuilder builder;
        reply(caller, builder, request->id(), wire::ReplyBody::Done, wire::CreateDone(builder).Union());
      }
    }
    return true;
  }
  void answer_together(std::size_t together) {
    const auto wants_welcome = [](const auto& one) { return one->greeted && !one->welcomed; };
    const auto wants_session = [](const auto& one) { return one->open != 0; };
    if (static_cast<std::size_t>(std::ranges::count_if(callers_, wants_welcome)) >= together) {
      for (const auto& caller : callers_) {
        if (wants_welcome(caller)) welcome(*caller);
      }
    }
    if (static_cast<std::size_t>(std::ranges::count_if(callers_, wants_session)) >= together) {
      for (const auto& caller : callers_) {
        if (!wants_session(caller)) continue;
        flatbuffers::FlatBufferBuilder builder;
        const auto opened = wire::CreateOpened(builder, crash::kBlockBytes, crash::kBlockBytes);
        reply(*caller, builder, std::exchange(caller->open, 0), wire::ReplyBody::Opened, opened.Union());
        events_ += 'a';
        ++answered_;
      }
    }
  }
  void welcome(Caller& caller) {
    const wire::Welcome welcome{.version = version_,
                                .service = 1,
                                .member = ++members_,
                                .token = 1,
                                .arena_bytes = arena_->bytes(),
                                .ring_bytes = ring_->bytes(),
                                .slots = 64,
                                .max_payload = wire::kMaxRequestBytes,
                                .max_chain = 1024,
                                .kept_chains = 4,
                                .kept_hashes = 1024,
                                .arena = 1};
    const FileDescriptor life(::eventfd(0, EFD_CLOEXEC));
    const int given[] = {arena_->fd(), ring_->fd(), life.get()};
    (void)wire::send_with_descriptors(caller.socket.get(), std::as_bytes(std::span(&welcome, 1)), given);
    caller.welcomed = true;
    events_ += 'w';
  }
  static void reply(Caller& caller, flatbuffers::FlatBufferBuilder& builder, std::uint64_t id, wire::ReplyBody type,
                    flatbuffers::Offset<void> body) {
    builder.Finish(wire::CreateReply(builder, id, type, body));
    caller.out.add_frame(std::as_bytes(std::span(builder.GetBufferPointer(), builder.GetSize())));
    const auto bytes = caller.out.pending();
    caller.out.sent(static_cast<std::size_t>(
        std::max<ssize_t>(::send(caller.socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), 0)));
  }
  static std::shared_ptr<const Mapping> memory(const char* name, std::uint64_t bytes) {
    return *Mapping::share({.bytes = bytes, .kind = ArenaKind::kMemfd, .name = name});
  }

  const std::shared_ptr<const Mapping> arena_ = memory("arena", 1_MiB);
  const std::shared_ptr<const Mapping> ring_ = memory("ring", 64_KiB);
  const wire::Listening listening_;
  const std::uint16_t version_;
  std::vector<std::unique_ptr<Caller>> callers_;  // of the thread
  std::string events_;                            // of the thread, until `answered_` says so (release, acquire)
  std::uint64_t members_ = 0;
  std::atomic<std::size_t> together_{1};
  std::atomic<std::size_t> answered_{0};
  std::atomic<std::size_t> loads_{0};
  std::atomic<std::size_t> parts_asked_{0};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

class ClientLines : public ::testing::Test {
 protected:
  ClientLines() {
    std::string name = (std::filesystem::temp_directory_path() / "tiercel-lines-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    (void)log_level();  // makes the logger before the client's thread does, which may log while the process ends
  }
  ~ClientLines() override { std::filesystem::remove_all(directory_); }
  static bool comes(const std::function<bool()>& what) {
    for (const auto end = std::chrono::steady_clock::now() + 20s; std::chrono::steady_clock::now() < end;) {
      if (what()) return true;
      std::this_thread::sleep_for(1ms);
    }
    return false;
  }
  std::string directory_;
};

TEST_F(ClientLines, all_are_greeted_before_any_is_answered) {
  ReluctantService service(directory_ + "/s");
  auto client = Client::connect({.socket = directory_ + "/s", .call_deadline = kLong, .reconnect_pause = 1ms});
  ASSERT_TRUE(client) << client.error().message;
  std::vector<Session> sessions;
  while (sessions.size() < kLines) {
    auto session = client->open_session(crash::options());
    ASSERT_TRUE(session) << session.error().message;
    sessions.push_back(std::move(*session));
  }
  ASSERT_TRUE(comes([&] { return service.answered() == kLines; }));
  service.cut_and_answer(kLines);
  ASSERT_TRUE(comes([&] { return service.answered() == 2 * kLines; })) << "the lines wait for each other";
  const auto each = [](char event) { return std::string(kLines, event); };
  EXPECT_EQ(service.events(), each('h') + each('w') + each('o') + each('a'));
}

TEST_F(ClientLines, a_service_is_asked_for_parts_of_a_load_if_it_knows_the_question) {
  for (const std::uint16_t version : {wire::kOldestVersion, wire::kSoFarVersion}) {
    const std::string path = directory_ + "/v" + std::to_string(version);
    ReluctantService service(path, version);
    auto client = Client::connect({.socket = path, .call_deadline = kLong});
    ASSERT_TRUE(client) << client.error().message;
    auto session = client->open_session(crash::options());
    ASSERT_TRUE(session) << session.error().message;
    const BlockChain chain = hash_blocks(session->space(), std::vector<TokenId>(64, 1));
    Load load = session->load(chain, 1, kLong);
    EXPECT_TRUE(load.so_far().empty());
    EXPECT_FALSE(load.done());
    EXPECT_TRUE(client->sync());  // answered behind what was asked before
    EXPECT_EQ(service.loads(), 1U);
    EXPECT_EQ(service.parts_asked(), version >= wire::kSoFarVersion ? 1U : 0U);
  }
}

}  // namespace
}  // namespace tiercel
