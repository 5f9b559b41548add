// Goal: HTTP as its clients meet it, on loopback: every address answers what it should, what waits is bounded, and
// whatever else is open, /healthz answers. The service behind it is a view with figures of its own.
#include "service/http/front.h"

#include "base/mutex.h"

#include "service/http/assets.h"
#include "service/http/tenant_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <nlohmann/json.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <optional>
#include <sstream>

namespace tiercel::service {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class FakeView final : public ServiceView {
 public:
  [[nodiscard]] Stats stats() const override {
    const MutexLock lock(mutex_);
    return shown_.figures;
  }
  [[nodiscard]] std::vector<DiskReport> disks() const override {
    const MutexLock lock(mutex_);
    return shown_.reports;
  }
  [[nodiscard]] std::vector<EngineReport> engines() const override {
    const MutexLock lock(mutex_);
    return shown_.connected;
  }
  [[nodiscard]] std::optional<SocketFigures> socket() const override {
    const MutexLock lock(mutex_);
    return shown_.callers;
  }
  [[nodiscard]] ServiceFacts facts() const override {
    return {.version = "9.8.7", .instance = "one", .started_unix_seconds = 1'700'000'000.5};
  }
  [[nodiscard]] std::vector<TenantReport> tenants() const override {
    const MutexLock lock(mutex_);
    return shown_.tenants;
  }
  [[nodiscard]] Mode mode() const override { return of_all; }
  [[nodiscard]] bool closing() const noexcept override { return ending; }

  struct Shown {
    Stats figures;
    std::vector<DiskReport> reports;
    std::vector<EngineReport> connected;
    std::optional<SocketFigures> callers;
    std::vector<TenantReport> tenants;
  };
  /// The front may be asking meanwhile.
  template <class Change>
  void change(Change&& change) {
    const MutexLock lock(mutex_);
    change(shown_);
  }
  std::atomic<bool> ending{false};
  std::atomic<Mode> of_all{Mode::kOn};

 private:
  mutable Mutex mutex_;
  Shown shown_ TIERCEL_GUARDED_BY(mutex_);
};

std::uint16_t port_of(const std::string& url) {
  return static_cast<std::uint16_t>(std::atoi(url.c_str() + url.rfind(':') + 1));
}

/// One client's connection, by hand.
class Client {
 public:
  explicit Client(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    timeval patience{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ~Client() { ::close(socket_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void send(const std::string& bytes) const { (void)::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }
  void ask(const std::string& path, const std::string& more = "") const {
    send("GET " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\n" + more + "\r\n");
  }
  /// Reads until `end` has come, or the connection ends.
  std::string read_until(const std::string& end) const {
    std::string text;
    char byte = 0;
    while (text.find(end) == std::string::npos && ::recv(socket_, &byte, 1, 0) == 1) text += byte;
    return text;
  }
  std::string read_to_end() const { return read_until(std::string("\0never\0", 7)); }

 private:
  int socket_;
};

class HttpFront : public ::testing::Test {
 protected:
  HttpFront() {
    config_.http.listen = "127.0.0.1:0";
    config_.metrics.listen = "127.0.0.1:0";
  }
  ~HttpFront() override {
    if (front_) front_->stop();
  }
  void start() {
    auto front = Front::bind(config_);
    ASSERT_TRUE(front) << front.error().message;
    front_ = std::move(*front);
    front_->start(view_, clock_);
    page_ = port_of(front_->page_url());
    metrics_ = port_of(front_->metrics_url());
  }
  /// The whole answer, head and body, of a connection of its own.
  static std::string get(std::uint16_t port, const std::string& path, const std::string& more = "") {
    const Client client(port);
    client.ask(path, "Connection: close\r\n" + more);
    return client.read_to_end();
  }

  Config config_;
  FakeView view_;
  SteadyClock clock_;
  std::unique_ptr<Front> front_;
  std::uint16_t page_ = 0;
  std::uint16_t metrics_ = 0;
};

TEST_F(HttpFront, health_is_ok_degraded_with_its_cause_or_closing) {
  start();
  EXPECT_THAT(get(metrics_, "/healthz"), HasSubstr("200 OK"));
  view_.change([](auto& shown) {
    shown.reports = {{.directory = "/kv", .state = DiskDirectoryState::kOff, .cause = "reads stall"}};
  });
  const std::string degraded = get(metrics_, "/healthz");
  EXPECT_THAT(degraded, HasSubstr("200 OK"));
  EXPECT_THAT(degraded, HasSubstr("degraded\n/kv is off: reads stall\n"));
  view_.ending = true;
  EXPECT_THAT(get(metrics_, "/healthz"), HasSubstr(" 503 "));
}

TEST_F(HttpFront, metrics_are_those_of_the_service_and_of_the_cache) {
  view_.change([](auto& shown) {
    shown.figures.matches = 42;
    shown.connected = {{.engine_id = "a\"b", .kv_pool = KvPool{.used_bytes = 7, .free_bytes = 2, .total_bytes = 9}}};
  });
  start();
  const std::string text = get(metrics_, "/metrics");
  for (const char* line :
       {"tiercel_matches_total 42\n", "tiercel_build_info{version=\"9.8.7\"} 1\n", "tiercel_health{state=\"ok\"} 1\n",
        "tiercel_engines 1\n", "tiercel_engine_kv_pool_used_bytes{engine=\"a\\\"b\"} 7\n",
        "tiercel_engine_kv_pool_capacity_bytes{engine=\"a\\\"b\"} 9\n",
        "tiercel_http_connections{listener=\"metrics\"} 1\n", "tiercel_start_time_seconds 1700000000.5\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  for (const char* unknown : {"tiercel_engine_stored_bytes_total{", "tiercel_engine_prefill_bytes_per_second{",
                              "\ntiercel_departed_slots "}) {
    EXPECT_THAT(text, Not(HasSubstr(unknown))) << "what is not reported has no series";
  }
}

TEST_F(HttpFront, callers_of_the_socket_and_what_engines_measured_are_metrics) {
  view_.change([](auto& shown) {
    shown.callers = SocketFigures{.connections = 1,
                                  .accepted_connections = 2,
                                  .refused_connections = 3,
                                  .protocol_errors = 4,
                                  .taken_up_connections = 5,
                                  .departed_members = 6,
                                  .departed_slots = 7};
    shown.connected = {{.engine_id = "e",
                        .counters = EngineCounters{.stored_bytes = 8, .loaded_bytes = 9, .load_ns = 1'500'000'000},
                        .prefill_bytes_per_second = 2e9}};
  });
  start();
  const std::string text = get(metrics_, "/metrics");
  for (const char* line :
       {"tiercel_socket_connections 1\n", "tiercel_socket_accepted_connections_total 2\n",
        "tiercel_socket_refused_connections_total 3\n", "tiercel_socket_protocol_errors_total 4\n",
        "tiercel_socket_taken_up_connections_total 5\n", "tiercel_departed_members 6\n", "tiercel_departed_slots 7\n",
        "tiercel_engine_stored_bytes_total{engine=\"e\"} 8\n", "tiercel_engine_loaded_bytes_total{engine=\"e\"} 9\n",
        "tiercel_engine_load_seconds_total{engine=\"e\"} 1.5\n",
        "tiercel_engine_prefill_bytes_per_second{engine=\"e\"} 2000000000\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST_F(HttpFront, tenants_have_series_and_lines_of_their_own_up_to_a_number) {
  view_.change([](auto& shown) {
    shown.figures.tiers[0].capacity_bytes = 1'000;
    shown.figures.tiers[1].capacity_bytes = 2'000;
    for (std::size_t i = 0; i < kMostTenantsShown + 3; ++i) {
      TenantReport tenant{.name = "t" + std::to_string(i), .configured = i == 0, .pinned_bytes = 5};
      tenant.tiers[0] = {.used_bytes = 10, .guarantee_bytes = 4, .cap_bytes = 100, .hit_blocks = 2, .evicted_bytes = 3};
      tenant.tiers[1] = {.used_bytes = 7, .cap_bytes = 1'500, .stored_blocks = 1};
      shown.tenants.push_back(tenant);
    }
    TenantReport others{.name = std::string(kOtherTenantsName)};
    others.tiers[0].used_bytes = 1;
    shown.tenants.push_back(others);
    TenantReport unnamed{.name = std::string(kUnnamedTenants), .namespaces = 9};
    unnamed.tiers[1].used_bytes = 11;
    shown.tenants.push_back(unnamed);
  });
  start();
  const std::string text = get(metrics_, "/metrics");
  for (const char* line :
       {"tiercel_tenant_used_bytes{tenant=\"t0\",tier=\"host\"} 10\n",
        "tiercel_tenant_used_bytes{tenant=\"t63\",tier=\"disk\"} 7\n",
        "tiercel_tenant_used_bytes{tenant=\"(other)\",tier=\"host\"} 31\n",
        "tiercel_tenant_guarantee_bytes{tenant=\"t0\",tier=\"host\"} 4\n",
        "tiercel_tenant_cap_bytes{tenant=\"t0\",tier=\"host\"} 100\n",
        "tiercel_tenant_hit_blocks_total{tenant=\"t0\",tier=\"host\"} 2\n",
        "tiercel_tenant_evicted_bytes_total{tenant=\"t0\",tier=\"host\"} 3\n",
        "tiercel_tenant_pinned_bytes{tenant=\"t0\"} 5\n", "tiercel_tenant_pinned_bytes{tenant=\"(other)\"} 15\n",
        "tiercel_tenant_used_bytes{tenant=\"(unnamed)\",tier=\"disk\"} 11\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  for (const char* absent : {"tenant=\"t64\"", "cap_bytes{tenant=\"("}) EXPECT_THAT(text, Not(HasSubstr(absent)));
  const auto status = nlohmann::json::parse(front_->sampler().latest()->json);
  const auto& tenants = status["tenants"];
  ASSERT_EQ(tenants.size(), kMostTenantsShown + 2);
  EXPECT_EQ(tenants[0]["tenant"], "t0");
  EXPECT_EQ(tenants[0]["configured"], true);
  EXPECT_EQ(tenants[1]["configured"], false);
  EXPECT_EQ(tenants[0]["pinned_bytes"], 5);
  const auto& host = tenants[0]["tiers"][0];
  for (const auto& [key, value] : {std::pair{"used_bytes", 10},
                                   {"guarantee_bytes", 4},
                                   {"cap_bytes", 100},
                                   {"hit_blocks", 2},
                                   {"evicted_bytes", 3}}) {
    EXPECT_EQ(host[key], value) << key;
  }
  EXPECT_EQ(tenants[0]["tiers"][1]["stored_blocks"], 1);
  const auto& rest = tenants[kMostTenantsShown];
  EXPECT_EQ(rest["tenant"], kOtherTenantsName);
  EXPECT_EQ(rest["tiers"][0]["used_bytes"], 3 * 10 + 1);
  EXPECT_EQ(rest["tiers"][1]["stored_blocks"], 3);
  EXPECT_EQ(rest["tiers"][1]["name"], "disk");
  EXPECT_TRUE(rest["tiers"][0]["cap_bytes"].is_null() && rest["pinned_cap_bytes"].is_null()) << "a sum has no cap";
  EXPECT_EQ(tenants.back()["tenant"], kUnnamedTenants);
  EXPECT_EQ(tenants.back()["namespaces"], 9);
  std::uint64_t used = 0;
  for (const auto& tenant : tenants) used += tenant["tiers"][1]["used_bytes"].get<std::uint64_t>();
  EXPECT_EQ(used, 7 * (kMostTenantsShown + 3) + 11) << "nothing of the tier is left out";
}

TEST_F(HttpFront, modes_are_those_that_hold) {
  view_.change(
      [](auto& shown) { shown.connected = {{.engine_id = "a", .mode = Mode::kStoreOnly}, {.engine_id = "b"}}; });
  view_.of_all = Mode::kLoadOnly;
  start();
  const std::string text = get(metrics_, "/metrics");
  for (const char* line : {"tiercel_mode{mode=\"load_only\"} 1\n", "tiercel_mode{mode=\"on\"} 0\n",
                           "tiercel_engine_mode{engine=\"a\",mode=\"off\"} 1\n",
                           "tiercel_engine_mode{engine=\"b\",mode=\"load_only\"} 1\n",
                           "tiercel_engine_mode{engine=\"b\",mode=\"on\"} 0\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  const std::string status = get(page_, "/status");
  EXPECT_THAT(status, HasSubstr(R"("mode":"load_only","engines")"));
  EXPECT_THAT(status, HasSubstr(R"("mode":"off","own_mode":"store_only")"));
}

TEST_F(HttpFront, names_and_streams_may_change_while_it_runs) {
  start();
  const auto ask = [&] { return get(page_, "/status", "Origin: http://kv.example\r\n"); };
  EXPECT_THAT(ask(), HasSubstr(" 403 "));
  front_->reconfigure({.hosts = {"kv.example"}, .streams = 1});
  EXPECT_THAT(ask(), HasSubstr(" 200 "));
  const Client first(page_);
  first.ask("/stream");
  (void)first.read_until("data: ");
  EXPECT_THAT(get(page_, "/stream"), HasSubstr(" 503 "));
}

TEST_F(HttpFront, without_an_admin_door_nothing_is_operated) {
  start();
  const Client client(page_);
  client.send("POST /admin/mode HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}");
  EXPECT_THAT(client.read_to_end(), HasSubstr(" 405 "));
}

TEST_F(HttpFront, the_page_and_its_files_are_there_and_nothing_else) {
  start();
  for (const Asset& asset : assets()) {
    EXPECT_THAT(get(page_, std::string(asset.path)), HasSubstr("200 OK")) << asset.path;
  }
  EXPECT_THAT(get(page_, "/"), HasSubstr("Content-Security-Policy: default-src 'none'"));
  for (const char* path : {"/../etc/passwd", "/page.css/", "/metrics", "/healthz"}) {
    EXPECT_THAT(get(page_, path), HasSubstr(" 404 ")) << path;
  }
}

TEST_F(HttpFront, foreign_hosts_foreign_origins_and_other_methods_are_refused) {
  config_.http.hosts = {"kv.example"};
  start();
  for (const std::uint16_t port : {page_, metrics_}) {
    const Client foreign(port);
    foreign.send("GET /status HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    const std::string answer = foreign.read_to_end();
    EXPECT_THAT(answer, HasSubstr(" 403 "));
    EXPECT_THAT(answer, HasSubstr("http.hosts"));
    EXPECT_THAT(get(port, "/healthz", "Origin: http://evil.example\r\n"), HasSubstr(" 403 "));
    const Client writer(port);
    writer.send("POST /status HTTP/1.1\r\nHost: kv.example\r\nContent-Length: 3\r\n\r\nabc");
    EXPECT_THAT(writer.read_to_end(), HasSubstr(" 405 "));
  }
  EXPECT_THAT(get(metrics_, "/metrics"), HasSubstr("tiercel_http_refused_requests_total 6\n"));
}

TEST_F(HttpFront, a_request_without_end_is_let_go) {
  start();
  const Client client(metrics_);
  client.send("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n");
  for (int i = 0; i < 400; ++i) client.send("X-Header-" + std::to_string(i) + ": " + std::string(100, 'x') + "\r\n");
  client.send("\r\n");
  EXPECT_THAT(client.read_to_end(), Not(HasSubstr("200 OK")));
  EXPECT_THAT(get(metrics_, "/healthz"), HasSubstr("200 OK"));
}

TEST_F(HttpFront, a_stream_brings_each_tick_and_ends_with_the_service) {
  start();
  const Client client(page_);
  client.ask("/stream");
  EXPECT_THAT(client.read_until("\n\n"), HasSubstr("text/event-stream"));
  const std::string tick = std::to_string(nlohmann::json::parse(front_->sampler().latest()->json)["tick"].get<int>());
  front_->sampler().tick();
  EXPECT_THAT(client.read_until("\"tick\":"), HasSubstr("data: "));
  front_->stop();
  (void)client.read_to_end();
  EXPECT_NE(tick, "0");
}

TEST_F(HttpFront, streams_are_capped_with_a_word_when_to_come_back) {
  config_.http.streams = 2;
  start();
  const Client first(page_);
  const Client second(page_);
  first.ask("/stream");
  second.ask("/stream");
  ASSERT_THAT(first.read_until("data: "), HasSubstr("200 OK"));
  ASSERT_THAT(second.read_until("data: "), HasSubstr("200 OK"));
  const std::string refused = get(page_, "/stream");
  EXPECT_THAT(refused, HasSubstr(" 503 "));
  EXPECT_THAT(refused, HasSubstr("Retry-After: "));
  EXPECT_THAT(get(page_, "/status"), HasSubstr("200 OK"));
  const std::string text = get(metrics_, "/metrics");
  EXPECT_THAT(text, HasSubstr("tiercel_http_streams 2\n"));
  EXPECT_THAT(text, HasSubstr("tiercel_http_refused_streams_total 1\n"));
}

TEST_F(HttpFront, one_connection_too_many_is_answered_and_closed) {
  config_.http.connections = 8;
  config_.http.streams = 1;
  start();
  std::vector<std::unique_ptr<Client>> open;
  for (int i = 0; i < 8; ++i) {
    open.push_back(std::make_unique<Client>(metrics_));
    open.back()->ask("/healthz");
    ASSERT_THAT(open.back()->read_until("ok\n"), HasSubstr("200 OK"));
  }
  EXPECT_THAT(Client(metrics_).read_to_end(), HasSubstr(" 503 "));
}

TEST_F(HttpFront, health_answers_beside_64_streams_and_64_idle_connections_of_each_listener) {
  start();
  std::vector<std::unique_ptr<Client>> open;
  for (int i = 0; i < 64; ++i) {
    open.push_back(std::make_unique<Client>(page_));
    open.back()->ask("/stream");
    ASSERT_THAT(open.back()->read_until("data: "), HasSubstr("200 OK"));
    for (const auto& [port, path, end] :
         {std::tuple{page_, "/icon.svg", "</svg>"}, std::tuple{metrics_, "/healthz", "ok\n"}}) {
      open.push_back(std::make_unique<Client>(port));
      open.back()->ask(path);
      ASSERT_THAT(open.back()->read_until(end), HasSubstr("200 OK"));
    }
    open.push_back(std::make_unique<Client>(metrics_));  // says nothing at all
  }
  // A busy machine makes one answer late, not twenty; what waited for a stream or an idle connection would be late
  // each time.
  std::vector<double> took_ms;
  for (int i = 0; i < 20; ++i) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_THAT(get(metrics_, "/healthz"), HasSubstr("200 OK"));
    took_ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  std::ranges::sort(took_ms);
  std::cout << "/healthz beside " << open.size() << " open connections: median " << took_ms[10] << " ms, longest "
            << took_ms.back() << " ms\n";
  EXPECT_LT(took_ms.front(), 50);
}

TEST_F(HttpFront, an_address_that_is_taken_names_its_key_and_leaves_the_other_free) {
  start();
  Config second = config_;
  second.http.listen = "127.0.0.1:0";
  second.metrics.listen = "127.0.0.1:" + std::to_string(metrics_);
  const auto refused = Front::bind(second);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("metrics.listen: " + second.metrics.listen + " is taken"));
}

TEST_F(HttpFront, history_is_bounded_and_in_order) {
  ManualClock clock;
  Sampler sampler(view_, clock);
  for (std::size_t i = 0; i < Sampler::kSamples + 5; ++i) {
    view_.change([](auto& shown) { shown.figures.tiers[0].stored_bytes += 1'000; });
    clock.advance(1'000'000'000);
    sampler.tick();
  }
  const auto json = nlohmann::json::parse(sampler.history());
  ASSERT_EQ(json["ticks"].size(), Sampler::kSamples);
  EXPECT_EQ(json["ticks"].front(), 6);
  EXPECT_EQ(json["columns"].size(), kColumns);
  EXPECT_DOUBLE_EQ(json["columns"]["store_bytes_per_second"].back().get<double>(), 1'000);
  const auto status = nlohmann::json::parse(sampler.latest()->json);
  EXPECT_DOUBLE_EQ(status["window_seconds"].get<double>(), Sampler::kWindow);
  EXPECT_DOUBLE_EQ(status["now"]["store_bytes_per_second"].get<double>(), 1'000);
}

TEST(OperationsReference, its_table_is_what_the_code_says) {
  constexpr std::string_view kBegin =
      "<!-- metrics: begin; generated, run service_http_test with TIERCEL_REGENERATE=1 -->\n";
  constexpr std::string_view kEnd = "<!-- metrics: end -->\n";
  std::stringstream read;
  read << std::ifstream(TIERCEL_OPERATIONS).rdbuf();
  std::string text = read.str();
  const std::size_t begin = text.find(kBegin);
  const std::size_t end = text.find(kEnd);
  ASSERT_NE(begin, std::string::npos);
  ASSERT_NE(end, std::string::npos);
  const std::size_t from = begin + kBegin.size();
  if (std::getenv("TIERCEL_REGENERATE") != nullptr) {
    std::ofstream(TIERCEL_OPERATIONS) << text.replace(from, end - from, metrics_markdown());
    return;
  }
  EXPECT_EQ(text.substr(from, end - from), metrics_markdown()) << "run this test with TIERCEL_REGENERATE=1";
}

}  // namespace
}  // namespace tiercel::service
