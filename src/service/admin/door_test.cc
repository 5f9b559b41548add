// Goal: the ways in. By the Unix socket the service's user and root operate, whatever they send is bounded, and the
// socket is the owner's alone also where a group may use the cache. By TCP the right token does and nothing else,
// behind the rules of Host and Origin; guesses are bounded. A whole service, with real sockets on loopback.
#include "service/server/socket_door.h"
#include "service/service.h"
#include "service/wire/unix_socket.h"

#include <tiercel/client.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace tiercel::service {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr const char* kToken = "a-token-of-many-letters";

class AdminWays : public ::testing::Test {
 protected:
  AdminWays() {
    std::string name = (std::filesystem::temp_directory_path() / "tiercel-admin-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    folder_ = name;
    config_ = {.host = {.capacity = 4_MiB,
                        .arena = ArenaKind::kMemfd,
                        .prefault = false,
                        .extent_bytes = 2_MiB,
                        .min_slot_bytes = 64_KiB},
               .http = {.listen = "127.0.0.1:0"},
               .metrics = {.listen = ""},
               .service = {.socket = folder_ / "run" / "s"}};
  }
  ~AdminWays() override {
    service_.reset();
    std::filesystem::remove_all(folder_);
  }

  void start() {
    auto service =
        Service::open(config_, socket_door(config_),
                      {.socket = admin_path(socket_path(config_)), .read_config = [this] { return wanted_; }});
    ASSERT_TRUE(service) << service.error().message;
    service_ = std::move(*service);
  }
  std::string token_file(const std::string& text) {
    const std::string path = folder_ / "token";
    std::ofstream(path) << text << "\n";
    EXPECT_EQ(::chmod(path.c_str(), 0600), 0);
    return path;
  }

  static std::string talk(int socket, const std::string& request) {
    (void)::send(socket, request.data(), request.size(), MSG_NOSIGNAL);
    timeval patience{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    std::string answer;
    char byte = 0;
    while (::recv(socket, &byte, 1, 0) == 1) answer += byte;
    return answer;
  }
  static std::string post(const std::string& call, const std::string& body, const std::string& more = "") {
    return "POST /admin/" + call + " HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n" + more +
           "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }
  [[nodiscard]] std::string by_socket(const std::string& request) const {
    auto socket = wire::connect_to(admin_path(socket_path(config_)));
    EXPECT_TRUE(socket) << socket.error().message;
    const int flags = ::fcntl(socket->get(), F_GETFL);
    (void)::fcntl(socket->get(), F_SETFL, flags & ~O_NONBLOCK);
    return talk(socket->get(), request);
  }
  [[nodiscard]] std::string by_tcp(const std::string& request) const {
    const std::string url = service_->page_url();
    const FileDescriptor socket(::socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(url.c_str() + url.rfind(':') + 1)));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return talk(socket.get(), request);
  }
  static std::string bearer(const std::string& token) { return "Authorization: Bearer " + token + "\r\n"; }

  std::filesystem::path folder_;
  Config config_;
  Result<Config> wanted_ = Config{};
  std::unique_ptr<Service> service_;
};

TEST_F(AdminWays, by_the_unix_socket_a_call_is_answered_in_json) {
  start();
  const std::string answer = by_socket(post("mode", R"({"mode":"load_only"})"));
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK"));
  EXPECT_THAT(answer, HasSubstr("Content-Type: application/json"));
  EXPECT_THAT(answer, HasSubstr(R"x("done":"all engines: load_only (was on)")x"));
  EXPECT_EQ(service_->mode(), Mode::kLoadOnly);
  EXPECT_THAT(by_socket(post("mode", "mode=off", "Content-Type: application/x-www-form-urlencoded\r\n")),
              HasSubstr(" 400 "));
}

TEST_F(AdminWays, the_unix_socket_answers_nothing_else_and_bounds_what_comes) {
  start();
  EXPECT_THAT(by_socket("GET /admin/mode HTTP/1.1\r\nHost: x\r\n\r\n"), HasSubstr(" 405 "));
  EXPECT_THAT(by_socket("POST /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
              HasSubstr(" 404 "));
  EXPECT_THAT(by_socket(post("mode", "{")), HasSubstr(" 400 "));
  EXPECT_THAT(by_socket(post("mode", std::string(8193, ' '))), HasSubstr(" 413 "));
  EXPECT_THAT(by_socket("POST /admin/mode HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n"),
              HasSubstr(" 413 "));
  EXPECT_THAT(by_socket("POST /admin/mode HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
              HasSubstr(" 411 "));
  EXPECT_THAT(by_socket(post("mode", "x", "Content-Encoding: gzip\r\n")), HasSubstr(" 415 "));
  EXPECT_EQ(service_->mode(), Mode::kOn);
  EXPECT_THAT(by_socket(post("mode", "")), HasSubstr(" 200 ")) << "and goes on";
}

TEST_F(AdminWays, the_socket_is_its_owners_alone_also_where_a_group_may_use_the_cache) {
  const group* own = ::getgrgid(::getegid());
  if (own == nullptr) GTEST_SKIP() << "this user's group has no name";
  config_.service.group = own->gr_name;
  start();
  struct stat about{};
  ASSERT_EQ(::stat(socket_path(config_).c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777U, 0660U);
  ASSERT_EQ(::stat(admin_path(socket_path(config_)).c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777U, 0600U);
  ASSERT_EQ(::stat((folder_ / "run").c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777U, 0750U) << "the group reaches the engines' socket";
}

TEST_F(AdminWays, another_user_is_refused_by_the_kernels_word_also_where_the_file_would_let_it_in) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  start();
  const std::string path = admin_path(socket_path(config_));
  // As if somebody had opened the way.
  ASSERT_EQ(::chmod(folder_.c_str(), 0755), 0);
  ASSERT_EQ(::chmod((folder_ / "run").c_str(), 0755), 0);
  ASSERT_EQ(::chmod(path.c_str(), 0666), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) _exit(3);
    auto socket = wire::connect_to(path);
    if (!socket) _exit(4);
    const std::string request = post("mode", R"({"mode":"off"})");
    (void)::send(socket->get(), request.data(), request.size(), MSG_NOSIGNAL);
    (void)::fcntl(socket->get(), F_SETFL, 0);
    char answer[12] = {};
    (void)::recv(socket->get(), answer, sizeof answer, MSG_WAITALL);
    _exit(std::string_view(answer, sizeof answer) == "HTTP/1.1 403" ? 0 : 5);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
  EXPECT_EQ(service_->mode(), Mode::kOn);
}

TEST_F(AdminWays, by_tcp_without_a_token_of_its_own_nothing_is_operated) {
  start();
  const std::string answer = by_tcp(post("mode", R"({"mode":"off"})", bearer(kToken)));
  EXPECT_THAT(answer, HasSubstr(" 403 "));
  EXPECT_THAT(answer, HasSubstr("http.admin_token_file"));
  EXPECT_EQ(service_->mode(), Mode::kOn);
}

TEST_F(AdminWays, by_tcp_the_right_token_operates_and_nothing_else_does) {
  config_.http.admin_token_file = token_file(kToken);
  start();
  EXPECT_THAT(by_tcp(post("mode", R"({"mode":"off"})")), HasSubstr(" 401 "));
  for (const std::string& wrong : {std::string("a-token-of-many-letter"), std::string(kToken) + "s", std::string()}) {
    const std::string answer = by_tcp(post("mode", R"({"mode":"off"})", bearer(wrong)));
    EXPECT_THAT(answer, HasSubstr(" 401 "));
    EXPECT_THAT(answer, Not(HasSubstr(kToken)));
  }
  EXPECT_THAT(by_tcp(post("mode", R"({"mode":"off"})", std::string("Authorization: Basic ") + kToken + "\r\n")),
              HasSubstr(" 401 "));
  EXPECT_EQ(service_->mode(), Mode::kOn);
  EXPECT_THAT(by_tcp(post("mode", R"({"mode":"off"})", bearer(kToken))), HasSubstr(" 200 "));
  EXPECT_EQ(service_->mode(), Mode::kOff);
  EXPECT_THAT(by_tcp(post("mode", R"({"mode":"on"})", bearer(kToken) + "Origin: http://evil.example\r\n")),
              HasSubstr(" 403 "))
      << "a page of somebody else, with whatever token";
  EXPECT_THAT(by_tcp("GET /admin/mode HTTP/1.1\r\nHost: 127.0.0.1\r\n" + bearer(kToken) + "\r\n"), HasSubstr(" 405 "));
  EXPECT_THAT(by_tcp(post("mode", std::string(9000, ' '), bearer(kToken))), HasSubstr(" 413 "));
  EXPECT_THAT(by_tcp("POST /status HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}"), HasSubstr(" 405 "));
  EXPECT_EQ(service_->mode(), Mode::kOff);
}

TEST_F(AdminWays, guesses_are_bounded_and_the_unix_socket_goes_on) {
  config_.http.admin_token_file = token_file(kToken);
  start();
  for (int i = 0; i < 10; ++i) EXPECT_THAT(by_tcp(post("mode", "", bearer("guess"))), HasSubstr(" 401 "));
  const std::string answer = by_tcp(post("mode", "", bearer(kToken)));
  EXPECT_THAT(answer, HasSubstr(" 429 ")) << "the right one too";
  EXPECT_THAT(answer, HasSubstr("Retry-After: "));
  EXPECT_THAT(by_socket(post("mode", "")), HasSubstr(" 200 "));
}

TEST_F(AdminWays, a_token_file_that_others_can_read_keeps_the_service_from_starting) {
  config_.http.admin_token_file = token_file(kToken);
  ASSERT_EQ(::chmod(config_.http.admin_token_file.c_str(), 0644), 0);
  const auto service = Service::open(config_);
  ASSERT_FALSE(service);
  EXPECT_THAT(service.error().message, HasSubstr("http.admin_token_file"));
}

TEST_F(AdminWays, reload_takes_over_what_may_change_and_names_the_rest) {
  start();
  Config wanted = config_;
  wanted.limits.sessions = 7;
  wanted.http.hosts = {"kv.example"};
  wanted.http.admin_token_file = token_file(kToken);
  wanted.host.capacity = 8_MiB;
  wanted.service.threads = 3;
  wanted_ = wanted;
  const std::string answer = by_socket(post("reload", ""));
  EXPECT_THAT(answer,
              HasSubstr("applied: limits.sessions (256 before, now 7), http.hosts (empty before, now kv.example)"));
  EXPECT_THAT(answer,
              HasSubstr("needs a restart: host.capacity (4MiB before, now 8MiB), service.threads (0 before, now 3)"));
  EXPECT_THAT(by_tcp(post("mode", "", bearer(kToken))), HasSubstr(" 200 "));
  EXPECT_THAT(service_->reload().value(), Not(HasSubstr("limits.sessions"))) << "that is so already";
  EXPECT_THAT(service_->reload().value(), HasSubstr("host.capacity")) << "and that still is not";
  bool shown = false;
  for (const ConfigLine& line : service_->facts().config)
    shown = shown || (line.key == "limits.sessions" && line.value == "7");
  EXPECT_TRUE(shown) << "the page shows what holds";

  wanted_ = fail(ErrorCode::kInvalidArgument, "/etc/tiercel.toml:3: limits.sessions: 0 is wrong");
  EXPECT_THAT(by_socket(post("reload", "")), HasSubstr("/etc/tiercel.toml:3: limits.sessions"));
  wanted.http.admin_token_file = folder_ / "none";
  wanted.limits.sessions = 9;
  wanted_ = wanted;
  EXPECT_THAT(by_socket(post("reload", "")), HasSubstr("http.admin_token_file"));
  wanted.http.admin_token_file = "";
  wanted_ = wanted;
  EXPECT_THAT(service_->reload().value(), HasSubstr("limits.sessions (7 before, now 9)")) << "nothing was applied";
  EXPECT_THAT(by_tcp(post("mode", "", bearer(kToken))), HasSubstr(" 403 ")) << "the token is gone";
}

/// One engine: stores, matches, loads and compares, until it is told to end.
class Engine {
 public:
  static constexpr std::size_t kBlocks = 8;

  Engine(const std::string& socket, TokenId seed, std::string engine_id) : seed_(seed) {
    auto client = Client::connect({.socket = socket, .call_deadline = std::chrono::seconds(20)});
    EXPECT_TRUE(client) << client.error().message;
    client_.emplace(std::move(*client));
    auto session = client_->open_session({.model = {.name = "load", .kv_dtype = "f16"},
                                          .block_tokens = 1,
                                          .layout = Layout::blob(64_KiB),
                                          .group = {.engine_id = std::move(engine_id)}});
    EXPECT_TRUE(session) << session.error().message;
    session_.emplace(std::move(*session));
    chain_ = hash_blocks(session_->space(), std::vector<TokenId>(kBlocks, seed));
  }

  std::size_t store() {
    Reservation room = session_->reserve(chain_, 0);
    for (std::size_t i = 0; i < room.size(); ++i) std::ranges::fill(room.writer(i).bytes(), of_block(i));
    const auto done = room.commit_all();
    EXPECT_TRUE(done && done->failures.empty());
    return done->blocks;
  }
  std::size_t matched() { return session_->match(chain_).blocks(); }
  std::size_t loaded() {
    Load load = session_->load(chain_, kBlocks, std::chrono::seconds(20));
    const auto blocks = load.wait();
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const bool right = std::ranges::all_of(blocks[i].bytes(), [&](std::byte b) { return b == of_block(i); });
      EXPECT_TRUE(right) << "block " << i;
    }
    return blocks.size();
  }
  Result<Dropped> drop() { return session_->drop(chain_, kBlocks / 2); }

 private:
  [[nodiscard]] std::byte of_block(std::size_t i) const {
    return static_cast<std::byte>(static_cast<std::size_t>(seed_) * 31 + i * 7 + 1);
  }
  TokenId seed_;
  std::optional<Client> client_;
  std::optional<Session> session_;
  BlockChain chain_;
};

TEST_F(AdminWays, modes_switched_under_load_cost_hits_and_nothing_else) {
  start();
  const std::string socket = socket_path(config_);
  Engine probe(socket, 9, "probe");
  ASSERT_EQ(probe.store(), Engine::kBlocks);
  std::atomic<bool> ends{false};  // relaxed: it orders nothing
  std::atomic<std::uint64_t> turns{0};
  std::vector<std::thread> engines;
  for (TokenId seed = 1; seed <= 2; ++seed) {
    engines.emplace_back([&, seed] {
      Engine engine(socket, seed, "load-" + std::to_string(seed));
      while (!ends.load()) {
        (void)engine.store();
        (void)engine.matched();
        (void)engine.loaded();
        if (turns.fetch_add(1) % 7 == 0) {
          EXPECT_TRUE(engine.drop());
        }
      }
    });
  }
  const auto switch_to = [&](const char* mode, const char* more = "") {
    EXPECT_THAT(by_socket(post("mode", std::string("{\"mode\":\"") + mode + "\"" + more + "}")), HasSubstr(" 200 "));
  };
  while (service_->engines().size() < 3) std::this_thread::yield();  // both are there to be switched
  for (int round = 0; round < 10; ++round) {
    switch_to("off");
    EXPECT_EQ(probe.matched(), 0U);
    EXPECT_EQ(probe.loaded(), 0U);
    EXPECT_EQ(probe.store(), 0U);
    switch_to("store_only");
    EXPECT_EQ(probe.loaded(), 0U);
    switch_to("on");
    EXPECT_EQ(probe.matched(), Engine::kBlocks) << "what was there is there";
    EXPECT_EQ(probe.loaded(), Engine::kBlocks);
    switch_to("load_only", R"(,"engine":"load-1")");
    EXPECT_EQ(probe.loaded(), Engine::kBlocks) << "one engine's mode is no other's";
    switch_to("on", R"(,"engine":"load-1")");
    const std::uint64_t seen = turns.load();
    while (turns.load() < seen + 4) std::this_thread::yield();  // both go on
  }
  ends = true;
  for (std::thread& engine : engines) engine.join();
}

TEST_F(AdminWays, a_session_without_an_engine_id_is_switched_by_its_model_and_process) {
  start();
  Engine engine(socket_path(config_), 3, "");
  ASSERT_EQ(engine.store(), Engine::kBlocks);
  const std::string name = "load (process " + std::to_string(::getpid()) + ")";
  EXPECT_THAT(by_socket(post("mode", R"({"mode":"off","engine":")" + name + R"("})")), HasSubstr(" 200 "));
  EXPECT_EQ(engine.matched(), 0U);
  ASSERT_EQ(service_->engines().size(), 1U);
  EXPECT_EQ(service_->engines()[0].mode, Mode::kOff);
  EXPECT_EQ(service_->engines()[0].engine_id, name);
}

TEST_F(AdminWays, an_engine_has_the_prefill_that_its_ranks_report) {
  start();
  auto client = Client::connect({.socket = socket_path(config_)});
  ASSERT_TRUE(client) << client.error().message;
  std::vector<Session> ranks;
  for (std::uint32_t rank = 0; rank < 2; ++rank) {
    auto session = client->open_session({.model = {.name = "m"},
                                         .block_tokens = 4,
                                         .layout = Layout::blob(64_KiB),
                                         .group = {.engine_id = "e", .members = 2, .member = rank}});
    ASSERT_TRUE(session) << session.error().message;
    ranks.push_back(std::move(*session));
  }
  ASSERT_TRUE(client->sync());
  ASSERT_EQ(service_->engines().size(), 1U);
  EXPECT_FALSE(service_->engines()[0].prefill_bytes_per_second.has_value()) << "nobody has said anything";
  ranks[0].report_prefill(1e9);
  ranks[1].report_prefill(2e9);
  ASSERT_TRUE(client->sync());
  EXPECT_EQ(service_->engines()[0].prefill_bytes_per_second, 3e9);
}

TEST_F(AdminWays, namespaces_of_engines_have_their_names) {
  start();
  Engine engine(socket_path(config_), 3, "e");
  ASSERT_EQ(engine.store(), Engine::kBlocks);
  EXPECT_THAT(by_socket(post("namespaces", "")), HasSubstr(R"("model":"load","tenant":"default")"));
  EXPECT_THAT(by_socket(post("drop", R"({"tenant":"default"})")),
              HasSubstr("dropped 8 blocks (512.0 KiB) of tenant default"));
  EXPECT_EQ(engine.matched(), 0U);
}

TEST_F(AdminWays, after_the_end_the_socket_is_gone) {
  start();
  const std::string path = admin_path(socket_path(config_));
  EXPECT_TRUE(std::filesystem::exists(path));
  EXPECT_TRUE(service_->close(std::chrono::seconds(10)));
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace tiercel::service
