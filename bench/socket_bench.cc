// What a call to the service costs over its socket, beside a bare round trip of the same sizes over a Unix socket.
//
// Both sides have the same layout: client processes that are forked and exec'd, one server thread behind epoll, a
// client that polls before it reads. The bare echo runs before and after the service, and its figures are those of both
// runs together. The call is Session::match of one block whose chain the service knows (about 100 bytes there, 80
// back). Then: a match of 8,192 hashes, and reserve with commit. Usage: socket_bench [--seconds N] [--rate N]. Budgets
// of the architecture's part 8 are printed, not judged. Times are of a steady clock, in microseconds.
#include "base/clock.h"
#include "service/server/socket_server.h"
#include "service/wire/unix_socket.h"

#include <tiercel/cache.h>
#include <tiercel/client.h>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace tiercel {
namespace {

constexpr std::size_t kRequestBytes = 104;  // what a match of a known chain of one block sends, with its frame
constexpr std::size_t kReplyBytes = 72;     // and what comes back
constexpr std::size_t kLongChain = 8192;
constexpr std::uint64_t kBlockBytes = 64_KiB;

using Times = std::vector<std::uint64_t>;

std::uint64_t now_ns() {
  static const SteadyClock kClock;
  return kClock.now_ns();
}

[[noreturn]] void give_up(std::string_view what) {
  fmt::print(stderr, "socket_bench: {}\n", what);
  std::exit(1);
}

template <class T>
T must(Result<T> result, std::string_view what) {
  if (!result) give_up(fmt::format("{}: {}", what, result.error().message));
  return std::move(*result);
}

double quantile(Times& times, double q) {
  if (times.empty()) return 0;
  const auto at = std::min(times.size() - 1, static_cast<std::size_t>(q * static_cast<double>(times.size())));
  std::ranges::nth_element(times, times.begin() + static_cast<std::ptrdiff_t>(at));
  return static_cast<double>(times[at]) / 1e3;
}

// ---- the bare side

/// Answers every request of kRequestBytes with kReplyBytes: one thread, epoll, one recv and one send a request.
class Echo {
 public:
  explicit Echo(const std::string& path)
      : listening_(must(wire::listen_at({.path = path}), "listening")), wake_(eventfd(0, EFD_CLOEXEC)) {
    thread_ = std::thread([this] { run(); });
  }
  ~Echo() {
    const std::uint64_t one = 1;
    (void)!write(wake_.get(), &one, sizeof(one));
    thread_.join();
  }

 private:
  void run() {
    const FileDescriptor epoll(epoll_create1(EPOLL_CLOEXEC));
    const auto watch = [&](int fd) {
      epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
      (void)epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event);
    };
    watch(listening_.socket.get());
    watch(wake_.get());
    std::vector<FileDescriptor> clients;
    std::array<epoll_event, 64> events{};
    std::array<std::byte, 65'536> buffer{};
    for (;;) {
      const int count = epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), -1);
      for (int i = 0; i < count; ++i) {
        const int fd = events[static_cast<std::size_t>(i)].data.fd;
        if (fd == wake_.get()) return;
        if (fd == listening_.socket.get()) {
          clients.emplace_back(accept4(fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
          watch(clients.back().get());
        } else if (recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT) == static_cast<ssize_t>(kRequestBytes)) {
          (void)!send(fd, buffer.data(), kReplyBytes, MSG_NOSIGNAL | MSG_DONTWAIT);
        } else {
          (void)epoll_ctl(epoll.get(), EPOLL_CTL_DEL, fd, nullptr);
        }
      }
    }
  }

  wire::Listening listening_;
  FileDescriptor wake_;
  std::thread thread_;
};

std::function<void()> bare_call(const std::string& path) {
  auto socket = std::make_shared<FileDescriptor>(must(wire::connect_to(path), "connecting"));
  return [socket] {
    std::array<std::byte, 4096> buffer{};
    if (send(socket->get(), buffer.data(), kRequestBytes, MSG_NOSIGNAL) != static_cast<ssize_t>(kRequestBytes)) {
      give_up("the echo takes nothing");
    }
    // As Link does: a look, a wait, a read.
    for (;;) {
      const ssize_t got = recv(socket->get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (got == static_cast<ssize_t>(kReplyBytes)) return;
      if (got >= 0 || (errno != EAGAIN && errno != EINTR)) give_up("the echo is gone");
      pollfd one{.fd = socket->get(), .events = POLLIN, .revents = 0};
      (void)poll(&one, 1, -1);
    }
  };
}

// ---- the service's side

SessionOptions options() {
  return {.model = {.name = "bench", .kv_dtype = "f16"}, .block_tokens = 1, .layout = Layout::blob(kBlockBytes)};
}

struct Connected {
  Client client;
  Session session;
};

std::shared_ptr<Connected> connect(const std::string& path) {
  auto client = must(Client::connect({.socket = path}), "connecting");
  auto session = must(client.open_session(options()), "opening a session");
  return std::make_shared<Connected>(Connected{.client = std::move(client), .session = std::move(session)});
}

BlockChain chain_of(const Session& session, std::size_t blocks, TokenId seed) {
  return hash_blocks(session.space(), std::vector<TokenId>(blocks, seed));
}

std::function<void()> service_call(const std::string& path) {
  auto connected = connect(path);
  auto chain = std::make_shared<BlockChain>(chain_of(connected->session, 1, 1));
  return [connected, chain] { (void)connected->session.match(*chain); };
}

// ---- client processes

/// In a client process: calls at a rate (0: flat out) for a time, and writes what each took to the pipe.
int client_main(const std::string& kind, const std::string& path, std::uint64_t rate, std::uint64_t ns, int out) {
  const auto call = kind == "bare" ? bare_call(path) : service_call(path);
  for (int i = 0; i < 200; ++i) call();
  Times times;
  times.reserve(1 << 20);
  char byte = 0;
  if (write(out, &byte, 1) != 1 || read(STDIN_FILENO, &byte, 1) != 1) return 1;  // all begin together
  const std::uint64_t begin = now_ns();
  std::uint64_t next = begin + (static_cast<std::uint64_t>(getpid()) * 7919) % 1'000'000;  // not all at one moment
  for (std::uint64_t now = begin; now < begin + ns && times.size() < times.capacity(); now = now_ns()) {
    if (rate > 0) {
      if (now < next) {
        const timespec pause{.tv_sec = 0,
                             .tv_nsec = static_cast<long>(std::min<std::uint64_t>(next - now, 999'999'999))};
        (void)nanosleep(&pause, nullptr);
      }
      next = std::max(next + 1'000'000'000 / rate, now_ns());
    }
    const std::uint64_t start = now_ns();
    call();
    times.push_back(now_ns() - start);
  }
  const auto bytes = std::as_bytes(std::span(times));
  for (std::size_t at = 0; at < bytes.size();) {
    const ssize_t done = write(out, bytes.data() + at, bytes.size() - at);
    if (done <= 0) return 1;
    at += static_cast<std::size_t>(done);
  }
  return 0;
}

struct Child {
  pid_t pid = 0;
  FileDescriptor start;
  FileDescriptor figures;
};

Child spawn(const std::string& kind, const std::string& path, std::uint64_t rate, std::uint64_t ns) {
  int in[2];
  int out[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) give_up("no pipe");
  const std::vector<std::string> words = {"socket_bench",     "--client",       kind, path, std::to_string(rate),
                                          std::to_string(ns), std::to_string(3)};
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    (void)dup2(in[0], STDIN_FILENO);
    (void)dup2(out[1], 3);
    (void)execv("/proc/self/exe", argv.data());
    _exit(127);
  }
  ::close(in[0]);
  ::close(out[1]);
  return {.pid = pid, .start = FileDescriptor(in[1]), .figures = FileDescriptor(out[0])};
}

Times measure(const std::string& kind, const std::string& path, int clients, std::uint64_t rate, std::uint64_t ns) {
  std::vector<Child> children;
  for (int i = 0; i < clients; ++i) children.push_back(spawn(kind, path, rate, ns));
  char byte = 0;
  for (const Child& child : children) {
    if (read(child.figures.get(), &byte, 1) != 1) give_up("a client did not start");
  }
  for (const Child& child : children) (void)!write(child.start.get(), &byte, 1);
  Times all;
  for (Child& child : children) {
    std::array<std::uint64_t, 512> some{};
    std::size_t part = 0;  // bytes of a number that is not whole yet
    for (;;) {
      const ssize_t got = read(child.figures.get(), reinterpret_cast<char*>(some.data()) + part, sizeof(some) - part);
      if (got <= 0) break;
      const std::size_t bytes = part + static_cast<std::size_t>(got);
      const std::size_t whole = bytes / sizeof(std::uint64_t);
      all.insert(all.end(), some.begin(), some.begin() + static_cast<std::ptrdiff_t>(whole));
      part = bytes % sizeof(std::uint64_t);
      if (part > 0) some[0] = some[whole];
    }
    int status = 0;
    (void)waitpid(child.pid, &status, 0);
    if (status != 0) give_up("a client failed");
  }
  return all;
}

void compare(const std::string& folder, int clients, std::uint64_t rate, std::uint64_t ns) {
  const auto bare_run = [&] {
    const Echo echo(folder + "/echo");
    return measure("bare", folder + "/echo", clients, rate, ns / 2);
  };
  Times bare = bare_run();
  Times service = measure("service", folder + "/service", clients, rate, ns);
  const Times again = bare_run();
  bare.insert(bare.end(), again.begin(), again.end());
  const double b50 = quantile(bare, 0.5);
  const double b99 = quantile(bare, 0.99);
  const double s50 = quantile(service, 0.5);
  const double s99 = quantile(service, 0.99);
  fmt::print("{:<28} {:>9} {:>8.1f} {:>8.1f} {:>8.1f} {:>8.1f} {:>+9.1f} {:>7.2f} {:>7.2f}\n",
             rate > 0 ? fmt::format("{} x {} calls/s", clients, rate) : fmt::format("{} x flat out", clients),
             service.size(), b50, b99, s50, s99, s50 - b50, s50 / b50, s99 / b99);
}

// ---- calls of one client

template <class Call>
void report(std::string_view name, std::string_view budget, int rounds, Call&& call) {
  Times times;
  for (int i = 0; i < rounds; ++i) {
    const std::uint64_t took = call(i);
    if (i >= rounds / 10) times.push_back(took);
  }
  fmt::print("{:<44} {:>9} {:>9.1f} {:>9.1f}   {}\n", name, times.size(), quantile(times, 0.5), quantile(times, 0.99),
             budget);
}

template <class Work>
std::uint64_t timed(Work&& work) {
  const std::uint64_t start = now_ns();
  work();
  return now_ns() - start;
}

void long_matches(const std::string& path) {
  const auto connected = connect(path);
  Session& session = connected->session;
  constexpr int kRounds = 60;
  std::vector<BlockChain> fresh;
  for (int i = 0; i < kRounds; ++i) fresh.push_back(chain_of(session, kLongChain, 1000 + i));
  report("match of 8192 hashes, a new chain each time", "", kRounds,
         [&](int i) { return timed([&] { (void)session.match(fresh[static_cast<std::size_t>(i)]); }); });
  report("match of 8192 hashes, the same chain", "<= 400 (p50)", kRounds * 5,
         [&](int) { return timed([&] { (void)session.match(fresh.back()); }); });
  BlockChain grown = fresh.back();
  const TokenId token = 7;
  report("match of 8192 hashes, grown by one block", "<= 400 (p50)", kRounds * 5, [&](int) {
    grown.append(std::span(&token, 1));
    return timed([&] { (void)session.match(grown); });
  });
}

/// The blocks of the first chain are stored, so that a match and a load find all of them.
void found_blocks(const std::string& path) {
  const auto connected = connect(path);
  Session& session = connected->session;
  const BlockChain chain = chain_of(session, 1024, 77);
  for (std::size_t at = 0; at < chain.size(); at += 64) {
    Reservation room = session.reserve(chain, at, 64);
    for (std::size_t i = 0; i < room.size(); ++i) {
      if (room.outcome(i) == Reserved::kYes) (void)room.writer(i).commit(4096);
    }
  }
  report(fmt::format("match of 1024 hashes, {} of them found", session.match(chain).blocks()), "", 300,
         [&](int) { return timed([&] { (void)session.match(chain); }); });
  std::size_t loaded = 0;
  const auto load = [&](int) {
    return timed([&] { loaded = session.load(chain, chain.size(), std::chrono::seconds(1)).wait().size(); });
  };
  (void)load(0);
  report(fmt::format("load of {} blocks and giving back", loaded), "", 100, load);
}

void stores(const std::string& path, std::size_t blocks) {
  const auto connected = connect(path);
  Session& session = connected->session;
  Times reserves;
  Times commits;
  Times together;
  for (int i = 0; i < 400; ++i) {
    const BlockChain chain = chain_of(session, blocks, 100'000 + i * 100 + static_cast<TokenId>(blocks));
    Reservation room;
    reserves.push_back(timed([&] { room = session.reserve(chain, 0); }));
    if (i % 2 == 0) {  // in turn, so that both see the same machine
      commits.push_back(timed([&] {
        for (std::size_t b = 0; b < room.size(); ++b) {
          if (room.outcome(b) == Reserved::kYes) (void)room.writer(b).commit(4096);
        }
      }));
      continue;
    }
    std::vector<WriterCommit> writers;
    for (std::size_t b = 0; b < room.size(); ++b) {
      if (room.outcome(b) == Reserved::kYes) writers.push_back({.writer = b, .size = 4096});
    }
    together.push_back(timed([&] {
      const auto done = room.commit(writers);
      if (!done || !done->failures.empty()) give_up("a commit of several failed");
    }));
  }
  fmt::print("{:<44} {:>9} {:>9.1f} {:>9.1f}\n", fmt::format("reserve of {} blocks", blocks), reserves.size(),
             quantile(reserves, 0.5), quantile(reserves, 0.99));
  fmt::print("{:<44} {:>9} {:>9.1f} {:>9.1f}\n", fmt::format("commit of {} blocks, one call each", blocks),
             commits.size(), quantile(commits, 0.5), quantile(commits, 0.99));
  const double each = quantile(commits, 0.5);
  const double all = quantile(together, 0.5);
  fmt::print("{:<44} {:>9} {:>9.1f} {:>9.1f}   {:.1f} x as fast (p50)\n",
             fmt::format("commit of {} blocks, one call for all", blocks), together.size(), all,
             quantile(together, 0.99), each / all);
}

void run(std::uint64_t seconds, std::uint64_t rate) {
  std::string folder = std::filesystem::temp_directory_path() / "tiercel_bench_XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) give_up("no folder for the sockets");
  {
    Config config{
        .host = {
            .capacity = 256_MiB, .arena = ArenaKind::kMemfd, .extent_bytes = 64_MiB, .min_slot_bytes = kBlockBytes}};
    config.index.blocks = 65'536;
    const Cache cache = must(Cache::open(config), "opening a cache");
    const auto server = must(service::SocketServer::start(cache, {.path = folder + "/service"}), "starting a service");
    fmt::print("{:<28} {:>9} {:>8} {:>8} {:>8} {:>8} {:>9} {:>7} {:>7}\n", "one call (us)", "calls", "bare p50",
               "bare p99", "p50", "p99", "p50 -bare", "p50 x", "p99 x");
    const std::uint64_t ns = seconds * 1'000'000'000;
    for (const int clients : {1, 8}) {
      compare(folder, clients, rate, ns);
      compare(folder, clients, 0, ns);
    }
    fmt::print("budget: with 8 x 1000 calls/s p50 <= bare + 8 us, p99 <= 2 x bare\n\n");
    fmt::print("{:<44} {:>9} {:>9} {:>9}   {}\n", "one client (us)", "calls", "p50", "p99", "budget");
    long_matches(folder + "/service");
    found_blocks(folder + "/service");
    for (const std::size_t blocks : {std::size_t{1}, std::size_t{64}}) stores(folder + "/service", blocks);
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace tiercel

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  const auto number = [](const std::string& word) { return std::strtoull(word.c_str(), nullptr, 10); };
  if (words.size() == 6 && words[0] == "--client") {
    return tiercel::client_main(words[1], words[2], number(words[3]), number(words[4]), std::atoi(words[5].c_str()));
  }
  std::uint64_t seconds = 4;
  std::uint64_t rate = 1000;
  for (std::size_t i = 0; i < words.size(); i += 2) {
    const std::uint64_t value = i + 1 < words.size() ? number(words[i + 1]) : 0;
    if (value == 0 || (words[i] != "--seconds" && words[i] != "--rate")) {
      fmt::print(stderr, "usage: {} [--seconds N] [--rate N]\n", argv[0]);
      return 2;
    }
    (words[i] == "--seconds" ? seconds : rate) = value;
  }
  tiercel::run(seconds, rate);
}
