#include "connectors/llamacpp/http_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace tiercel::llamacpp {
namespace {

/// A client's socket with bounded waits.
class Client {
 public:
  explicit Client(int port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  ~Client() { ::close(socket_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  [[nodiscard]] bool connected() const { return connected_; }
  void send(std::string_view bytes) {
    ASSERT_EQ(::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }
  void get(const std::string& path) { send("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n"); }

  /// Reads until `end` was seen, the server closed, or 10 s passed.
  std::string read_until(std::string_view end) {
    while (bytes_.find(end) == std::string::npos) {
      pollfd waiting{.fd = socket_, .events = POLLIN, .revents = 0};
      if (::poll(&waiting, 1, 10'000) <= 0) return bytes_ + "(nothing came)";
      char buffer[4096];
      const ssize_t n = ::recv(socket_, buffer, sizeof buffer, 0);
      if (n <= 0) return bytes_ + "(closed)";
      bytes_.append(buffer, static_cast<std::size_t>(n));
    }
    const std::size_t cut = bytes_.find(end) + end.size();
    std::string read = bytes_.substr(0, cut);
    bytes_.erase(0, cut);
    return read;
  }

 private:
  int socket_;
  bool connected_ = false;
  std::string bytes_;
};

class HttpServerTest : public ::testing::Test {
 protected:
  void start(HttpOptions options) {
    http_ = std::make_unique<HttpServer>(options);
    http_->Get("/hello", [](const httplib::Request&, httplib::Response& r) { r.set_content("hello", "text/plain"); });
    http_->Get("/wait_until_gone", [this](const httplib::Request&, httplib::Response&) {
      entered_.set_value();
      while (!HttpServer::client_gone()) std::this_thread::yield();
      saw_gone_.set_value();
    });
    auto port = http_->bind("127.0.0.1", 0);
    ASSERT_TRUE(port) << port.error().message;
    bound_port_ = *port;
    serving_ = std::thread([this] { http_->serve(); });
  }
  void TearDown() override {
    if (!http_) return;
    http_->end();
    serving_.join();
  }

  std::unique_ptr<HttpServer> http_;
  int bound_port_ = 0;
  std::thread serving_;
  std::promise<void> entered_;
  std::promise<void> saw_gone_;
};

TEST_F(HttpServerTest, IdleConnectionsHoldNoWorker) {
  start({.workers = 2});
  std::vector<std::unique_ptr<Client>> idle;
  for (int i = 0; i < 64; ++i) {
    idle.push_back(std::make_unique<Client>(bound_port_));
    ASSERT_TRUE(idle.back()->connected());
    if (i % 2 == 0) {  // half were used before and are kept alive, half never sent a byte
      idle.back()->get("/hello");
      ASSERT_NE(idle.back()->read_until("hello").find("200 OK"), std::string::npos);
    }
  }
  Client fresh(bound_port_);
  fresh.get("/hello");
  EXPECT_NE(fresh.read_until("hello").find("200 OK"), std::string::npos);
  for (auto& client : idle) {  // and each of them is served again
    client->get("/hello");
    EXPECT_NE(client->read_until("hello").find("200 OK"), std::string::npos);
  }
}

TEST_F(HttpServerTest, PipelinedRequestsAreAllAnswered) {
  start({.workers = 1});
  Client client(bound_port_);
  const std::string one = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
  client.send(one + one + one);
  for (int i = 0; i < 3; ++i) EXPECT_NE(client.read_until("\r\n\r\nhello").find("200 OK"), std::string::npos);
}

TEST_F(HttpServerTest, ARequestThatNeverEndsGivesItsWorkerBack) {
  start({.workers = 1, .limits = {.whole_request = std::chrono::milliseconds(50)}});
  Client slow(bound_port_);
  slow.send("GET /hello HTTP/1.1\r\nHost: loc");
  Client other(bound_port_);
  other.get("/hello");
  EXPECT_NE(other.read_until("hello").find("200 OK"), std::string::npos);
}

TEST_F(HttpServerTest, AHandlerSeesThatItsClientHasGone) {
  start({.workers = 1});
  {
    Client client(bound_port_);
    client.get("/wait_until_gone");
    ASSERT_EQ(entered_.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
  }
  EXPECT_EQ(saw_gone_.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
}

TEST_F(HttpServerTest, IdleConnectionsAreClosedAfterTheirTime) {
  start({.workers = 1, .idle = std::chrono::milliseconds(1)});
  Client client(bound_port_);
  EXPECT_EQ(client.read_until("x"), "(closed)");
}

TEST_F(HttpServerTest, OneConnectionTooManyIsClosed) {
  start({.workers = 1, .connections = 1});
  Client first(bound_port_);
  first.get("/hello");
  first.read_until("hello");
  Client second(bound_port_);
  EXPECT_EQ(second.read_until("x"), "(closed)");
}

TEST_F(HttpServerTest, AUsedPortIsAnError) {
  start({.workers = 1});
  HttpServer second({.workers = 1});
  const auto port = second.bind("127.0.0.1", bound_port_);
  ASSERT_FALSE(port);
  EXPECT_NE(port.error().message.find(std::to_string(bound_port_)), std::string::npos);
}

TEST_F(HttpServerTest, StopClosesParkedConnections) {
  start({.workers = 1});
  Client client(bound_port_);
  client.get("/hello");
  client.read_until("hello");
  http_->end();
  serving_.join();
  EXPECT_EQ(client.read_until("x"), "(closed)");
  EXPECT_EQ(http_->open_connections(), 0U);
  http_.reset();
}

}  // namespace
}  // namespace tiercel::llamacpp
