// loaded_service FOLDER [HTTP_PORT [TENANTS]]: a service under load, for tests of what people see.
//
// A cache with a small arena and a disk tier in FOLDER, and in the same process users whose conversations grow, are
// evicted and come back. They belong to as many TENANTS [4], the first of which is the default one; two have settings,
// and one of these is at its cap. Prints one line of JSON with the addresses, and ends when its stdin closes, or after
// two minutes. The two engines that it reports are made up; what they do to the cache is not.
#include "service/service.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::service {
namespace {

using std::chrono::steady_clock;

constexpr std::uint32_t kBlockTokens = 16;
constexpr std::uint64_t kBlockBytes = 256_KiB;
constexpr std::size_t kUsers = 40;
constexpr std::size_t kMostBlocks = 16;
constexpr int kTurnMs = 10;
constexpr std::chrono::minutes kLongest(2);

struct Done {
  std::atomic<std::uint64_t> stored{0};
  std::atomic<std::uint64_t> loaded{0};
  std::atomic<std::uint64_t> load_ns{0};
};

class Engines final : public EngineDoor {
 public:
  explicit Engines(const Done& done) : done_(done) {}
  [[nodiscard]] std::vector<EngineReport> engines() const override {
    const std::uint64_t age = static_cast<std::uint64_t>((steady_clock::now() - start_).count());
    const std::uint64_t used = 20_GiB + (done_.stored.load() / 64_KiB * 7_MiB) % 30_GiB;
    return {{.engine_id = "qwen3-8b-vllm-0",
             .pid = ::getpid(),
             .members = 2,
             .sessions = 2,
             .connected_ns = age,
             .counters = EngineCounters{.stored_bytes = done_.stored.load(),
                                        .loaded_bytes = done_.loaded.load(),
                                        .load_ns = done_.load_ns.load()},
             .kv_pool = KvPool{.used_bytes = used, .free_bytes = 56_GiB - used, .total_bytes = 56_GiB},
             .prefill_bytes_per_second = 2e7},
            {.engine_id = "llama-1", .pid = ::getpid(), .mode = Mode::kStoreOnly, .connected_ns = age / 2}};
  }
  Status close(std::chrono::nanoseconds) override { return {}; }

 private:
  const Done& done_;
  steady_clock::time_point start_ = steady_clock::now();
};

constexpr std::array<std::string_view, 4> kTenants = {"default", "search", "batch",
                                                      "nightly-evaluation-of-all-branches"};

/// Of one of so many: those without a name here have a number.
std::string tenant_name(std::size_t tenant) {
  return tenant < kTenants.size() ? std::string(kTenants[tenant]) : fmt::format("team-{:02}", tenant);
}

struct User {
  Space space;
  BlockChain chain;
};

class Load {
 public:
  Load(Session session, Done& done, std::size_t tenants)
      : session_(std::move(session)), done_(done), users_(std::max(kUsers, tenants)) {
    for (std::size_t i = 0; i < users_.size(); ++i) {
      users_[i].space = session_.space(tenant_name(i % tenants));
      users_[i].chain = BlockChain(users_[i].space);
    }
  }

  /// One turn of one user: what is there is loaded, the rest is computed (here: filled) and stored.
  void turn() {
    User& user = users_[static_cast<std::size_t>(static_cast<double>(users_.size()) * skewed())];
    if (user.chain.size() >= kMostBlocks) user.chain = BlockChain(user.space);
    std::vector<TokenId> tokens(std::size_t{2} * kBlockTokens);
    for (TokenId& token : tokens) token = static_cast<TokenId>(random_() % 50'000);
    user.chain.append(tokens);
    const std::size_t matched = session_.match(user.chain).blocks();
    const auto start = steady_clock::now();
    tiercel::Load load = session_.load(user.chain, matched, std::chrono::milliseconds(100));
    const std::size_t ready = load.wait().size();
    done_.load_ns += static_cast<std::uint64_t>((steady_clock::now() - start).count());
    done_.loaded += ready * kBlockBytes;
    Reservation room = session_.reserve(user.chain, ready);
    for (std::size_t i = 0; i < room.size(); ++i) {
      if (room.outcome(i) != Reserved::kYes) continue;
      for (std::byte& byte : room.writer(i).bytes()) byte = static_cast<std::byte>(i);
      if (room.writer(i).commit()) done_.stored += kBlockBytes;
    }
  }

 private:
  double skewed() {
    const double x = std::uniform_real_distribution<double>(0, 1)(random_);
    return x * x;
  }

  Session session_;
  Done& done_;
  std::vector<User> users_;
  std::mt19937 random_{7};  // NOLINT(bugprone-random-generator-seed): the same load each time
};

Config config_of(const std::string& folder, const std::string& port, std::size_t tenants) {
  TenantConfigs limits;
  if (tenants > 1) {
    limits["search"] = {.host_guarantee = TierShare::of_percent(25),
                        .host_cap = TierShare::of_percent(60),
                        .disk_guarantee = TierShare::of_percent(20)};
  }
  if (tenants > 2) {
    limits["batch"] = {.host_cap = TierShare::of_percent(12), .disk_cap = TierShare::of_percent(40)};
  }
  return {.host = {.capacity = 48_MiB, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = kBlockBytes},
          .disk = {.directories = {folder}, .capacity = 96_MiB},
          .http = {.listen = "127.0.0.1:" + port},
          .metrics = {.listen = "127.0.0.1:0"},
          .tenants = limits};
}

bool stdin_closed(int patience_ms) {
  pollfd in{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  char byte = 0;
  return ::poll(&in, 1, patience_ms) > 0 && ::read(STDIN_FILENO, &byte, 1) <= 0;
}

int run(const std::string& folder, const std::string& port, std::size_t tenants) {
  Done done;
  auto service = Service::open(config_of(folder, port, tenants), [&](Cache&) -> Result<std::unique_ptr<EngineDoor>> {
    return std::unique_ptr<EngineDoor>(std::make_unique<Engines>(done));
  });
  if (!service) {
    std::fputs((service.error().message + "\n").c_str(), stderr);
    return 1;
  }
  auto session = (*service)->cache().open_session(
      {.model = {.name = "load"}, .block_tokens = kBlockTokens, .layout = Layout::blob(kBlockBytes)});
  if (!session) return 1;
  std::fputs(fmt::format(R"({{"page":"{}","metrics":"{}"}})"
                         "\n",
                         (*service)->page_url(), (*service)->metrics_url())
                 .c_str(),
             stdout);
  std::fflush(stdout);
  Load load(std::move(*session), done, tenants);
  const auto end = steady_clock::now() + kLongest;
  while (!stdin_closed(kTurnMs) && steady_clock::now() < end) load.turn();
  return (*service)->close(std::chrono::seconds(10)) ? 0 : 1;
}

}  // namespace
}  // namespace tiercel::service

int main(int argc, char** argv) {
  if (argc < 2) return 64;
  const std::size_t tenants = argc > 3 ? std::strtoul(argv[3], nullptr, 10) : 4;
  return tiercel::service::run(argv[1], argc > 2 ? argv[2] : "0", std::max<std::size_t>(tenants, 1));
}
