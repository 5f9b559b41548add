// The Session of a cache that is reached over a Unix socket, as other processes reach it.
#include "base/testing/pass_queue.h"
#include "cache/cache_access.h"
#include "cache/core.h"
#include "service/server/socket_server.h"
#include "tests/contract/session_contract.h"
#include "transfer/host_copy_engine.h"

#include <tiercel/client.h>

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace tiercel::contract {
namespace {

class SocketWorld final : public World {
 public:
  SocketWorld(Config config, std::uint32_t threads) : executor_({.threads = 2}, clock_), copies_(executor_) {
    static std::atomic<int> worlds{0};
    directory_ = std::filesystem::temp_directory_path() /
                 ("tiercel_contract_" + std::to_string(getpid()) + "_" + std::to_string(worlds++));
    config.host.arena = ArenaKind::kMemfd;
    cache_.emplace(
        *detail::CacheCore::create(config, {.clock = clock_, .executor = executor_, .copies = copies_, .seed = 7}),
        nullptr);
    const std::string path = directory_ / "s";
    auto server = service::SocketServer::start(*cache_, {.path = path, .threads = threads});
    EXPECT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
    auto client = Client::connect({.socket = path, .call_deadline = std::chrono::seconds(20)});
    EXPECT_TRUE(client) << client.error().message;
    client_.emplace(std::move(*client));
  }
  ~SocketWorld() override {
    (void)cache_->close(std::chrono::nanoseconds(0));
    server_.reset();
    std::filesystem::remove_all(directory_);
  }
  Result<Session> open(const SessionOptions& options) override { return client_->open_session(options); }
  Stats stats() override {
    EXPECT_TRUE(client_->sync());
    return cache_->stats();
  }
  void settle() override {
    EXPECT_TRUE(client_->sync());
    // Tasks queue tasks: quiet is when a task that was queued last found no other, several times in a row.
    for (int i = 0; i < 20; ++i) pass_queue(executor_);
  }
  [[nodiscard]] std::optional<double> prefill() override {
    EXPECT_TRUE(client_->sync());
    double sum = 0;
    for (const service::MemberReport& member : server_->members()) sum += member.prefill_bytes_per_second;
    return sum;
  }
  void set_mode(Mode mode) override { cache_->set_mode(mode); }
  void close() override { (void)cache_->close(std::chrono::nanoseconds(0)); }

 private:
  std::filesystem::path directory_;
  SteadyClock clock_;
  ThreadedExecutor executor_;
  HostCopyEngine copies_;
  std::optional<Cache> cache_;
  std::unique_ptr<service::SocketServer> server_;
  std::optional<Client> client_;
};

}  // namespace

std::vector<WorldKind> world_kinds() {
  return {{.name = "socket", .make = [](const Config& c) { return std::make_unique<SocketWorld>(c, 1); }},
          {.name = "socket_two_threads", .make = [](const Config& c) { return std::make_unique<SocketWorld>(c, 2); }}};
}

}  // namespace tiercel::contract
