// An engine without a model that asks for a private service, and is as untidy as engines are: it has files open,
// signals blocked and ignored, one processor, a secret in its environment and a handler for its children. Usage:
// private_engine SOCKET PROGRAM DEADLINE_MS [FLAG OF THE SERVICE...]. For each line of stdin one line of stdout:
//   restarts N how often within the hour it may start a lost service again: "so be it"
//   connect    "connected", or the error
//   serve      opens a session where there is none, stores a chain and loads it: "served", "nothing", or the error
//   leave      "left": neither session nor client
//   children   the SIGCHLDs so far, and what wait(-1) says
//   warned     what its log said last that is a warning, or "nothing"
// Ends with its stdin, or by an alarm.
#include "base/log.h"
#include "base/mutex.h"
#include "tests/crash/crash_blocks.h"

#include <tiercel/client.h>

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>

namespace tiercel::crash {
namespace {

using namespace std::chrono_literals;

volatile std::sig_atomic_t children = 0;

void be_untidy() {
  for (int i = 0; i < 20; ++i) (void)!::open("/proc/self/status", O_RDONLY);  // not close-on-exec
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  sigaddset(&blocked, SIGTERM);
  (void)::sigprocmask(SIG_BLOCK, &blocked, nullptr);
  for (const int ignored : {SIGINT, SIGPIPE, SIGUSR2}) (void)std::signal(ignored, SIG_IGN);
  (void)std::signal(SIGCHLD, [](int) { children = children + 1; });
  (void)::umask(0);
  (void)::setenv("ENGINE_SECRET", "1234", 1);
  (void)::setenv("TIERCEL_API_KEY", "1234", 1);
  (void)::setenv("TIERCEL_OURS", "kept", 1);
  (void)::setenv("LD_PRELOAD", "/nonexistent/of-the-engine.so", 1);
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<std::size_t>(::sched_getcpu()), &one);
  (void)::sched_setaffinity(0, sizeof(one), &one);
}

/// The log of this process: on stderr, and the last warning is kept.
class Warned {
 public:
  Warned() {
    set_log_sink([this](LogLevel level, std::string_view text) {
      (void)std::fprintf(stderr, "%.*s\n", static_cast<int>(text.size()), text.data());
      const MutexLock lock(mutex_);
      if (level == LogLevel::kWarn) last_ = text;
    });
  }
  Warned(const Warned&) = delete;
  Warned& operator=(const Warned&) = delete;
  ~Warned() { set_log_sink({}); }
  std::string last() {
    const MutexLock lock(mutex_);
    return last_;
  }

 private:
  Mutex mutex_;
  std::string last_ TIERCEL_GUARDED_BY(mutex_) = "nothing";
};

std::string line_of(const Error& error) {
  std::string text = std::string(error_name(error.code)) + ": " + error.message;
  std::ranges::replace(text, '\n', ' ');
  return text;
}

struct Engine {
  ClientOptions options;
  std::optional<Client> client;
  std::optional<Session> session;
  std::uint64_t number = static_cast<std::uint64_t>(::getpid()) << 20U;

  std::string connect() {
    auto connected = Client::connect(options);
    if (!connected) return line_of(connected.error());
    client.emplace(std::move(*connected));
    return "connected";
  }

  std::string serve() {
    if (!session) {
      auto opened = client->open_session(crash::options());
      if (!opened) return line_of(opened.error());
      session.emplace(std::move(*opened));
    }
    const BlockChain ours = chain(session->space(), number++);
    Reservation room = session->reserve(ours, 0);
    for (std::size_t i = 0; i < room.size(); ++i) {
      if (room.outcome(i) != Reserved::kYes) return "nothing";
      fill(room.writer(i).bytes(), ours[i]);
      if (!room.writer(i).commit()) return "nothing";
    }
    Load load = session->load(ours, ours.size(), 10s);
    const auto blocks = load.wait();
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      if (!is_whole(blocks[i].bytes(), ours[i])) return "wrong bytes";
    }
    return blocks.size() == ours.size() ? "served" : "nothing";
  }
};

std::string wait_for_any() {
  const pid_t found = ::waitpid(-1, nullptr, WNOHANG);
  return found < 0 && errno == ECHILD ? "none" : std::to_string(found);
}

int run(int count, char** words) {
  be_untidy();
  (void)::alarm(100);
  Warned warned;
  Engine engine;
  engine.options.socket = words[1];
  engine.options.call_deadline = 20s;
  engine.options.start = StartOptions{.program = words[2],
                                      .arguments = {words + 4, words + count},
                                      .deadline = std::chrono::milliseconds(std::strtoull(words[3], nullptr, 10))};
  for (std::string line; std::getline(std::cin, line);) {
    std::string answer = "what?";
    if (line.starts_with("restarts ")) {
      engine.options.start->restarts_an_hour = static_cast<std::uint32_t>(std::strtoul(line.c_str() + 9, nullptr, 10));
      answer = "so be it";
    }
    if (line == "connect") answer = engine.connect();
    if (line == "serve") answer = engine.serve();
    if (line == "leave") {
      engine.session.reset();
      engine.client.reset();
      answer = "left";
    }
    if (line == "warned") answer = warned.last();
    if (line == "children") answer = std::to_string(children) + " " + wait_for_any();
    std::puts(answer.c_str());
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace tiercel::crash

int main(int argc, char** argv) { return argc < 4 ? 64 : tiercel::crash::run(argc, argv); }
