// An engine without a model, for tests of what people watch. Usage: commanded_engine SOCKET ENGINE_ID
// [RECONNECT_MS [TENANT]].
//
// Users whose conversations grow are served through the service on SOCKET: what is there is loaded, the rest is filled
// and stored, as an engine would. Prints "serving" after its first turn. Lines of stdin change what it does; it answers
// each with "done", and ends with its stdin, or after three minutes.
//
//   pace MS       pause after each turn [40]
//   forget 0|1    each turn is of a conversation that nobody has had before
//   hold 0|1      keeps every block that it loads or stores; 0 lets go of all
//   pool PERCENT  how full it says its KV pool is [50]
//   deadline US   of its loads [100000]
//   drop USER     deletes the conversation of one of its 24 users
//   empty 0       deletes all blocks
//   garbage 0     sends what is no message
//   cut 0         ends its connection; it connects again after RECONNECT_MS [50]
#include <tiercel/client.h>
#include <tiercel/config.h>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tiercel {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kBlockTokens = 16;
constexpr std::uint64_t kBlockBytes = 256_KiB;
constexpr std::size_t kUsers = 24;
constexpr std::size_t kMostBlocks = 16;
constexpr std::uint64_t kPoolBytes = 64_GiB;
constexpr auto kLongest = 3min;

struct Orders {
  std::chrono::milliseconds pace{40};
  bool forget = false;
  bool hold = false;
  std::uint64_t pool_percent = 50;
  std::chrono::microseconds deadline{100'000};
};

/// stdin, a line at a time, without waiting longer than is said.
class Lines {
 public:
  [[nodiscard]] bool ended() const noexcept { return ended_; }
  std::optional<std::string> next(std::chrono::milliseconds patience) {
    if (auto line = take()) return line;
    pollfd in{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    if (::poll(&in, 1, static_cast<int>(patience.count())) <= 0) return std::nullopt;
    std::array<char, 256> buffer{};
    const ssize_t got = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (got <= 0) {
      ended_ = true;
      return std::nullopt;
    }
    said_.append(buffer.data(), static_cast<std::size_t>(got));
    return take();
  }

 private:
  std::optional<std::string> take() {
    const std::size_t end = said_.find('\n');
    if (end == std::string::npos) return std::nullopt;
    std::string line = said_.substr(0, end);
    said_.erase(0, end + 1);
    return line;
  }
  std::string said_;
  bool ended_ = false;
};

/// The client's connection, behind its back: this process has no other socket.
int connection() {
  for (int fd = 3; fd < 1024; ++fd) {
    int domain = 0;
    socklen_t size = sizeof domain;
    if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX) return fd;
  }
  return -1;
}

class Engine {
 public:
  Engine(Session session, std::string_view tenant)
      : session_(std::move(session)), space_(session_.space(tenant)), users_(kUsers, BlockChain(space_)) {}

  void turn() {
    BlockChain& chain = users_[random_() % kUsers];
    if (orders_.forget || chain.size() >= kMostBlocks) chain = BlockChain(space_);
    std::vector<TokenId> tokens((orders_.forget ? kMostBlocks : 2) * kBlockTokens);
    for (TokenId& token : tokens) token = static_cast<TokenId>(random_() % 50'000);
    chain.append(tokens);
    const std::size_t matched = session_.match(chain).blocks();
    Load load = session_.load(chain, matched, orders_.deadline);
    const std::size_t ready = load.wait().size();
    if (orders_.hold) {
      for (BlockRef& block : load.take()) held_.push_back(std::move(block));
    }
    store(chain, ready);
    session_.report_pool({.used_bytes = kPoolBytes / 100 * orders_.pool_percent,
                          .free_bytes = kPoolBytes - kPoolBytes / 100 * orders_.pool_percent,
                          .total_bytes = kPoolBytes});
  }

  /// False: that is no order.
  bool obey(const std::string& line) {
    const std::size_t space = line.find(' ');
    if (space == std::string::npos) return false;
    const std::string word = line.substr(0, space);
    const std::uint64_t value = std::strtoull(line.c_str() + space + 1, nullptr, 10);
    if (word == "pace") {
      orders_.pace = std::chrono::milliseconds(value);
    } else if (word == "forget") {
      orders_.forget = value != 0;
    } else if (word == "hold") {
      orders_.hold = value != 0;
      if (!orders_.hold) held_.clear();
    } else if (word == "pool") {
      orders_.pool_percent = value;
    } else if (word == "deadline") {
      orders_.deadline = std::chrono::microseconds(value);
    } else if (word == "drop") {
      (void)session_.drop(users_[value % kUsers], 0);
    } else if (word == "empty") {
      (void)session_.drop(space_);
    } else if (word == "garbage") {
      const std::array<char, 64> garbage = {'\x7f', '\x7f', '\x7f', '\x7f'};
      (void)::send(connection(), garbage.data(), garbage.size(), MSG_NOSIGNAL);
    } else if (word == "cut") {
      (void)::shutdown(connection(), SHUT_RDWR);
    } else {
      return false;
    }
    return true;
  }
  [[nodiscard]] std::chrono::milliseconds pace() const noexcept { return orders_.pace; }

 private:
  void store(const BlockChain& chain, std::size_t from) {
    Reservation room = session_.reserve(chain, from);
    std::size_t stored = 0;
    for (std::size_t i = 0; i < room.size(); ++i) {
      if (room.outcome(i) != Reserved::kYes) continue;
      for (std::byte& byte : room.writer(i).bytes()) byte = static_cast<std::byte>(i);
      if (room.writer(i).commit()) ++stored;
    }
    if (!orders_.hold || stored == 0) return;
    Load load = session_.load(chain, chain.size(), orders_.deadline);
    (void)load.wait();
    for (BlockRef& block : load.take()) held_.push_back(std::move(block));
  }

  Session session_;
  Space space_;
  Orders orders_;
  std::vector<BlockChain> users_;
  std::vector<BlockRef> held_;
  std::mt19937 random_{7};  // NOLINT(bugprone-random-generator-seed): the same users each time
};

struct Options {
  std::string socket;
  std::string engine_id;
  std::chrono::milliseconds reconnect{50};
  std::string tenant{};  ///< empty: the default one
};

int run(const Options& options) {
  auto client = Client::connect({.socket = options.socket, .reconnect_pause = options.reconnect});
  if (!client) return std::fprintf(stderr, "%s\n", client.error().message.c_str()), 1;
  auto session = client->open_session({.model = {.name = "model of a test"},
                                       .block_tokens = kBlockTokens,
                                       .layout = Layout::blob(kBlockBytes),
                                       .group = {.engine_id = options.engine_id}});
  if (!session) return std::fprintf(stderr, "%s\n", session.error().message.c_str()), 1;
  Engine engine(std::move(*session), options.tenant);
  Lines lines;
  engine.turn();
  std::puts("serving");
  std::fflush(stdout);
  for (const auto end = std::chrono::steady_clock::now() + kLongest; std::chrono::steady_clock::now() < end;) {
    if (const auto line = lines.next(engine.pace())) {
      std::puts(engine.obey(*line) ? "done" : "that is no order");
      std::fflush(stdout);
    }
    if (lines.ended()) return 0;
    engine.turn();
  }
  return 1;  // forgotten
}

}  // namespace
}  // namespace tiercel

int main(int argc, char** argv) {
  if (argc < 3) return 64;
  tiercel::Options options{.socket = argv[1], .engine_id = argv[2]};
  if (argc > 3) options.reconnect = std::chrono::milliseconds(std::strtoul(argv[3], nullptr, 10));
  if (argc > 4) options.tenant = argv[4];
  return tiercel::run(options);
}
