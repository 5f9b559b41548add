// Goal: eight processes that ask for a private service at once get one, all of them, or one error, all of them; it has
// nothing of the engine that started it; it ends after its last engine, and nobody who comes at that moment is lost.
// Usage: private_start_test --program TIERCEL --engine PROGRAM [--rounds N].
#include "base/random.h"
#include "service/start/start_lock.h"
#include "service/wire/unix_socket.h"
#include "tests/crash/crash_blocks.h"
#include "tests/service/private_world.h"

#include <tiercel/client.h>

#include <gmock/gmock.h>
#include <sched.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string_view>

namespace tiercel {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

class PrivateStart : public PrivateWorld {};

TEST_F(PrivateStart, eight_at_once_get_one) {
  const Engines engines = eight({});
  for (std::size_t round = 1; round <= 5; ++round) {
    EXPECT_THAT(ask(engines, "connect"), Each("connected"));
    EXPECT_THAT(ask(engines, "serve"), Each("served"));
    const pid_t service = the_service();
    EXPECT_THAT(ask(engines, "leave"), Each("left"));
    EXPECT_EQ(end_of(service), 0);
    EXPECT_FALSE(fs::exists(socket_));
    ASSERT_EQ(in_log("is serving."), round) << "a second one was started beside the first";
    ASSERT_EQ(in_log("error"), 0U);
  }
}

TEST_F(PrivateStart, it_waits_while_a_client_has_not_opened_its_first_session) {
  const auto engine = this->engine({.grace = 1ms});
  ASSERT_EQ(ask(*engine, "connect"), "connected");
  const pid_t service = the_service();
  std::this_thread::sleep_for(100ms);  // an engine loads its model
  EXPECT_EQ(ask(*engine, "serve"), "served");
  EXPECT_EQ(the_service(), service);
  EXPECT_EQ(ask(*engine, "leave"), "left");
  EXPECT_EQ(end_of(service), 0);
}

/// "Name:\tvalue" of /proc/PID/status.
std::string fact(pid_t process, const std::string& name) {
  std::ifstream file("/proc/" + std::to_string(process) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(name + ":")) return line.substr(line.find('\t') + 1);
  }
  return {};
}

/// Of /proc/PID/stat, counted as in proc(5).
long stat_field(pid_t process, int number) {
  std::ifstream file("/proc/" + std::to_string(process) + "/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  std::istringstream rest(text.substr(text.rfind(')') + 2));
  std::string field;
  for (int i = 3; i <= number; ++i) rest >> field;
  return std::strtol(field.c_str(), nullptr, 10);
}

int oom_score(pid_t process) {
  int score = 0;
  std::ifstream("/proc/" + std::to_string(process) + "/oom_score_adj") >> score;
  return score;
}

TEST_F(PrivateStart, it_has_nothing_of_its_engine) {
  const auto engine = this->engine();
  ASSERT_EQ(ask(*engine, "connect"), "connected");
  const pid_t service = the_service();
  const std::string process = "/proc/" + std::to_string(service);

  std::map<std::string, std::string> open;
  for (const auto& entry : fs::directory_iterator(process + "/fd")) {
    std::error_code closed;  // meanwhile: it serves, and accepts and closes as it does
    const std::string file = fs::read_symlink(entry.path(), closed);
    if (!closed) open[entry.path().filename()] = file;
  }
  EXPECT_EQ(open["0"], "/dev/null");
  EXPECT_EQ(open["1"], socket_ + ".log");
  EXPECT_EQ(open["2"], socket_ + ".log");
  for (const auto& [number, file] : open) {
    const bool its_own = file.starts_with("socket:") || file.starts_with("anon_inode:") ||
                         file.starts_with("/memfd:") || file == "/dev/null" || file == socket_ + ".log" ||
                         file == socket_ + ".lock" || file == socket_ + ".arena" || file == socket_ + ".admin.lock";
    EXPECT_TRUE(its_own) << number << " -> " << file;
  }

  const std::set<std::string> kept = {"PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "XDG_RUNTIME_DIR"};
  std::set<std::string> names;
  std::istringstream environment(content(process + "/environ"));
  for (std::string pair; std::getline(environment, pair, '\0');) names.insert(pair.substr(0, pair.find('=')));
  for (const std::string& name : names) {
    const bool ours = name.starts_with("LC_") || (name.starts_with("TIERCEL_") && name != "TIERCEL_API_KEY");
    EXPECT_TRUE(ours || kept.contains(name)) << name;
  }
  EXPECT_TRUE(names.contains("PATH"));
  EXPECT_TRUE(names.contains("TIERCEL_OURS"));

  EXPECT_EQ(fs::read_symlink(process + "/cwd"), "/");
  EXPECT_EQ(stat_field(service, 4), ::getpid()) << "it is adopted, not the engine's child";
  EXPECT_NE(stat_field(service, 6), stat_field(engine->pid(), 6)) << "a session of its own";
  EXPECT_NE(stat_field(service, 5), stat_field(engine->pid(), 5)) << "a process group of its own";
  EXPECT_EQ(stat_field(service, 7), 0) << "no terminal";
  EXPECT_EQ(fact(service, "Umask"), "0077");
  constexpr auto kPipe = 1ULL << (SIGPIPE - 1);  // its HTTP library ignores it, whoever started it
  EXPECT_EQ(std::strtoull(fact(service, "SigIgn").c_str(), nullptr, 16) & ~kPipe, 0U);
  constexpr auto kItsOwn = (1ULL << (SIGHUP - 1)) | (1ULL << (SIGINT - 1)) | (1ULL << (SIGTERM - 1));  // waited for
  EXPECT_EQ(std::strtoull(fact(service, "SigBlk").c_str(), nullptr, 16) & ~kItsOwn, 0U);
  EXPECT_EQ(fact(service, "Cpus_allowed"), fact(::getpid(), "Cpus_allowed"));
  EXPECT_EQ(oom_score(service), std::min(oom_score(engine->pid()) + 500, 1000));
  struct stat about{};
  for (const char* file : {"", ".log", ".start", ".lock"}) {
    ASSERT_EQ(::stat((socket_ + file).c_str(), &about), 0) << file;
    EXPECT_EQ(about.st_mode & 0077, 0U) << file;
  }

  EXPECT_EQ(ask(*engine, "children"), "0 none") << "the engine has no child of it, and has not been told of one";
  EXPECT_EQ(ask(*engine, "leave"), "left");
  EXPECT_EQ(end_of(service), 0);
}

TEST_F(PrivateStart, a_start_that_fails_is_told_to_all_and_tried_once) {
  const std::string program = this->program("read word < $DIRECTORY/gate; exec $TIERCEL \"$@\"");
  const Engines engines = eight({.program = program, .flags = {"--disk-capacity", "1TiB"}});
  for (const auto& engine : engines) engine->say("connect\n");
  ASSERT_TRUE(all_wait(engines));
  open_gate();
  for (const auto& engine : engines) EXPECT_THAT(engine->line(kPatience), HasSubstr("disk.directories"));
  EXPECT_EQ(starts(), 1U);
  EXPECT_TRUE(services().empty());
  // Whoever asks later tries it anew.
  engines[0]->say("connect\n");
  open_gate();
  EXPECT_THAT(engines[0]->line(kPatience), HasSubstr("disk.directories"));
  EXPECT_EQ(starts(), 2U);
}

TEST_F(PrivateStart, a_program_that_dies_or_is_none_is_told_with_its_last_words) {
  const auto dies = engine({.program = program("echo no such luck >&2; exit 3")});
  EXPECT_THAT(ask(*dies, "connect"), AllOf(HasSubstr("no such luck"), HasSubstr(socket_ + ".log")));
  const auto none = engine({.program = directory_ + "/missing"});
  EXPECT_THAT(ask(*none, "connect"), HasSubstr(directory_ + "/missing"));
  std::ofstream(directory_ + "/text") << "not a program";
  fs::permissions(directory_ + "/text", fs::perms::owner_all);
  const auto text = engine({.program = directory_ + "/text"});
  EXPECT_THAT(ask(*text, "connect"), HasSubstr("could not be started: Exec format error"));
}

TEST_F(PrivateStart, a_program_that_never_serves_is_killed_at_the_deadline) {
  const Engines engines = eight({.program = program("read word < $DIRECTORY/gate"), .deadline = 1500ms});
  for (const auto& engine : engines) engine->say("connect\n");
  std::size_t killed = 0;
  for (const auto& engine : engines) {
    const std::string said = engine->line(kPatience);
    EXPECT_THAT(said, HasSubstr("timeout: "));
    killed += said.find("was killed") != std::string::npos ? 1U : 0U;
  }
  EXPECT_GE(killed, 1U);
  for (const pid_t pid : services()) EXPECT_EQ(end_of(pid), 128 + SIGKILL);
}

TEST_F(PrivateStart, who_starts_it_may_die_meanwhile) {
  const std::string program = this->program("read word < $DIRECTORY/gate; exec $TIERCEL \"$@\"");
  Engines engines = eight({.program = program});
  for (const auto& engine : engines) engine->say("connect\n");
  ASSERT_TRUE(all_wait(engines));
  while (starts() == 0) std::this_thread::sleep_for(1ms);
  const auto starter = service::start::StartLock(socket_).holder();
  const auto found = std::ranges::find(engines, starter, [](const auto& engine) { return engine->pid(); });
  ASSERT_NE(found, engines.end());
  (*found)->kill();
  engines.erase(found);
  open_gate();
  for (const auto& engine : engines) EXPECT_EQ(engine->line(kPatience), "connected");
  EXPECT_EQ(starts(), 1U) << "nobody has started another one";
  EXPECT_THAT(ask(engines, "serve"), Each("served"));
  const pid_t service = the_service();
  EXPECT_THAT(ask(engines, "leave"), Each("left"));
  EXPECT_EQ(end_of(service), 0);
}

TEST_F(PrivateStart, what_a_killed_service_leaves_is_in_nobodys_way) {
  const auto engine = this->engine({.grace = 60s});
  ASSERT_EQ(ask(*engine, "connect"), "connected");
  ASSERT_EQ(ask(*engine, "leave"), "left");
  const pid_t first = the_service();
  lose(first);
  ASSERT_TRUE(fs::exists(socket_));
  const auto next = this->engine();
  EXPECT_EQ(ask(*next, "connect"), "connected");
  EXPECT_EQ(ask(*next, "serve"), "served");
  EXPECT_EQ(ask(*next, "leave"), "left");
  EXPECT_EQ(end_of(the_service()), 0);
}

TEST_F(PrivateStart, what_is_no_socket_is_left_alone) {
  std::ofstream(socket_) << "a letter";
  const auto engine = this->engine();
  EXPECT_THAT(ask(*engine, "connect"), HasSubstr("is no socket; it was left alone"));
  EXPECT_EQ(content(socket_), "a letter");
}

TEST_F(PrivateStart, a_service_that_is_lost_comes_back_for_its_engines) {
  const Engines engines = [&] {
    Engines two;
    while (two.size() < 2) two.push_back(engine());
    return two;
  }();
  ASSERT_THAT(ask(engines, "connect"), Each("connected"));
  ASSERT_THAT(ask(engines, "serve"), Each("served"));
  const pid_t first = the_service();
  lose(first);
  for (const auto& engine : engines) EXPECT_TRUE(serves_again(*engine));
  const pid_t second = the_service();
  EXPECT_NE(second, first);
  EXPECT_EQ(in_log("is serving."), 2U);
  EXPECT_EQ(service::start::StartLock(socket_).restarts().size(), 1U) << "counted, for whoever has to start the next";
  EXPECT_THAT(ask(engines, "leave"), Each("left"));
  EXPECT_EQ(end_of(second), 0);
}

TEST_F(PrivateStart, one_that_is_lost_too_often_is_started_again_by_who_calls_alone) {
  const std::string program = this->program("exec $TIERCEL \"$@\"");
  Engines engines;
  while (engines.size() < 2) engines.push_back(engine({.program = program}));
  ASSERT_THAT(ask(engines, "restarts 1"), Each("so be it"));
  ASSERT_THAT(ask(engines, "connect"), Each("connected"));
  ASSERT_THAT(ask(engines, "serve"), Each("served"));
  lose(the_service());
  for (const auto& engine : engines) ASSERT_TRUE(serves_again(*engine));
  ASSERT_EQ(starts(), 2U);
  lose(the_service());
  for (const auto& engine : engines) {
    EXPECT_TRUE(says(*engine, "warned", "was lost 2 times within the hour; it may be started again in 3"))
        << ask(*engine, "warned");
  }
  EXPECT_THAT(ask(engines, "serve"), Each("nothing")) << "they go on without it";
  std::this_thread::sleep_for(1s);  // they go on trying, several times
  EXPECT_TRUE(services().empty());
  EXPECT_EQ(starts(), 2U);
  const auto caller = engine({.program = program});
  EXPECT_EQ(ask(*caller, "connect"), "connected");
  EXPECT_EQ(starts(), 3U);
  for (const auto& engine : engines) EXPECT_TRUE(serves_again(*engine));
  const pid_t service = the_service();
  EXPECT_THAT(ask(engines, "leave"), Each("left"));
  EXPECT_EQ(ask(*caller, "leave"), "left");
  EXPECT_EQ(end_of(service), 0);
}

TEST_F(PrivateStart, who_comes_first_waits_for_the_arena_of_one_that_was_lost) {
  const auto stopped = this->engine();
  ASSERT_EQ(ask(*stopped, "connect"), "connected");
  ASSERT_EQ(ask(*stopped, "serve"), "served");
  const pid_t lost = the_service();
  stopped->signal(SIGSTOP);
  lose(lost);
  const auto first = this->engine();
  first->say("connect\n");
  EXPECT_EQ(first->line(1s), "") << "there is no arena for it yet, and time left";
  stopped->signal(SIGCONT);
  EXPECT_EQ(first->line(kPatience), "connected");
  EXPECT_TRUE(serves_again(*first)) << "once the other has said what it holds, there is room";
  const pid_t service = the_service();
  EXPECT_EQ(ask(*first, "leave"), "left");
  EXPECT_EQ(ask(*stopped, "leave"), "left");
  EXPECT_EQ(end_of(service), 0);
}

TEST_F(PrivateStart, a_client_without_a_session_has_nothing_that_the_next_service_waits_for) {
  const auto engine = this->engine({.deadline = 20s});
  ASSERT_EQ(ask(*engine, "connect"), "connected");
  const pid_t lost = the_service();
  lose(lost);
  EXPECT_EQ(ask(*engine, "serve"), "served");
  const pid_t service = the_service();
  EXPECT_EQ(ask(*engine, "leave"), "left");
  EXPECT_EQ(end_of(service), 0);
}

TEST_F(PrivateStart, a_client_that_leaves_does_not_wait_for_a_start) {
  const auto engine = this->engine(
      {.program =
           program("test $(wc -l < $DIRECTORY/starts) -gt 1 && read word < $DIRECTORY/gate; exec $TIERCEL \"$@\"")});
  ASSERT_EQ(ask(*engine, "connect"), "connected");
  ASSERT_EQ(ask(*engine, "serve"), "served");
  const pid_t first = the_service();
  lose(first);
  while (starts() < 2) std::this_thread::sleep_for(1ms);
  engine->say("leave\n");
  EXPECT_EQ(engine->line(kPatience / 2), "left");
  open_gate();  // it serves nobody, and ends
}

TEST_F(PrivateStart, one_that_is_ended_by_a_signal_is_waited_for) {
  const auto engine = this->engine({.grace = 60s});
  ASSERT_EQ(ask(*engine, "connect"), "connected");
  const pid_t first = the_service();
  ASSERT_EQ(::kill(first, SIGTERM), 0);
  while (fs::exists(socket_)) std::this_thread::sleep_for(1ms);  // until then it takes who comes
  ASSERT_EQ(ask(*engine, "leave"), "left");
  const auto next = this->engine();
  EXPECT_EQ(ask(*next, "connect"), "connected");
  EXPECT_EQ(ask(*next, "serve"), "served");
  EXPECT_EQ(end_of(first), 0);
  EXPECT_EQ(in_log("error"), 0U);
  EXPECT_EQ(ask(*next, "leave"), "left");
  EXPECT_EQ(end_of(the_service()), 0);
}

// ---- the moment of its end

/// The listening end of a service that has decided to end, with the start lock that it then has.
TEST_F(PrivateStart, who_is_in_the_backlog_of_one_that_ends_gets_the_next) {
  auto listening = wire::listen_at({.path = socket_, .group = ""});
  ASSERT_TRUE(listening) << listening.error().message;
  service::start::StartLock lock(socket_);
  ASSERT_TRUE(lock.try_take().value_or(false));
  const auto engine = this->engine();
  engine->say("connect\n");
  pollfd caller{.fd = listening->socket.get(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(::poll(&caller, 1, 60'000), 1);
  ASSERT_EQ(::unlink(socket_.c_str()), 0);
  *listening = {};
  Engines one;
  one.push_back(this->engine());  // comes while the lock is held and the path is gone
  one[0]->say("connect\n");
  ASSERT_TRUE(all_wait(one));
  EXPECT_TRUE(services().empty()) << "none is started while the old one is not gone";
  lock.give_back();
  EXPECT_EQ(engine->line(kPatience), "connected");
  EXPECT_EQ(one[0]->line(kPatience), "connected");
  EXPECT_EQ(in_log("is serving."), 1U);
  EXPECT_EQ(ask(*engine, "serve"), "served");
  EXPECT_EQ(ask(*one[0], "serve"), "served");
}

TEST_F(PrivateStart, it_does_not_end_while_somebody_is_about_to_come) {
  const auto engine = this->engine({.grace = 1ms});
  ASSERT_EQ(ask(*engine, "connect"), "connected");
  ASSERT_EQ(ask(*engine, "serve"), "served");
  const pid_t service = the_service();
  service::start::StartLock lock(socket_);
  while (!lock.try_take().value_or(false)) std::this_thread::sleep_for(1ms);
  ASSERT_EQ(ask(*engine, "leave"), "left");
  const auto next = this->engine({.grace = 1ms});
  for (int i = 0; i < 5; ++i) {
    std::this_thread::sleep_for(20ms);  // many times its grace time
    EXPECT_EQ(ask(*next, "connect"), "connected");
    EXPECT_EQ(ask(*next, "serve"), "served");
    EXPECT_EQ(ask(*next, "leave"), "left");
  }
  EXPECT_EQ(the_service(), service);
  lock.give_back();
  EXPECT_EQ(end_of(service), 0);
}

constexpr auto kGrace = 2ms;

/// One engine's life from connecting to leaving. Answers what went wrong, or "".
std::string visit(const std::string& socket, const std::vector<std::string>& flags, std::uint64_t number) {
  auto client = Client::connect(
      {.socket = socket,
       .call_deadline = 20s,
       .start = StartOptions{.program = private_arguments.program, .arguments = flags, .deadline = 60s}});
  if (!client) return client.error().message;
  auto session = client->open_session(crash::options());
  if (!session) return session.error().message;
  const BlockChain ours = crash::chain(session->space(), number, 1);
  {
    Reservation room = session->reserve(ours, 0);
    if (room.size() != 1 || room.outcome(0) != Reserved::kYes) return "nothing could be stored";
    crash::fill(room.writer(0).bytes(), ours[0]);
    if (!room.writer(0).commit()) return "it was not committed";
  }
  Load load = session->load(ours, 1, 10s);
  const auto blocks = load.wait();
  return blocks.size() == 1 && crash::is_whole(blocks[0].bytes(), ours[0]) ? "" : "nothing was loaded";
}

/// Two clients come and go around the moment at which the service ends: each time each is served.
TEST_F(PrivateStart, nobody_is_lost_at_the_moment_of_its_end) {
  std::atomic<bool> failed{false};
  const auto come_and_go = [&](std::uint64_t seed) {
    Random random(seed);
    for (std::uint64_t round = 0; round < private_arguments.rounds / 2 && !failed; ++round) {
      const std::string wrong = visit(socket_, small(kGrace), seed * 1'000'000 + round);
      if (!wrong.empty()) {
        failed = true;
        ADD_FAILURE() << "client " << seed << ", round " << round << ": " << wrong;
      }
      // Around the grace time: the end comes some milliseconds later than that.
      std::this_thread::sleep_for(std::chrono::microseconds(random.below(10'000)));
    }
  };
  std::thread other([&] { come_and_go(2); });
  come_and_go(1);
  other.join();
  const std::size_t services = in_log("is serving.");
  std::printf("%llu visits, %zu services\n", static_cast<unsigned long long>(private_arguments.rounds), services);
  EXPECT_GT(services, private_arguments.rounds / 50) << "the moment was missed";
  EXPECT_EQ(in_log("error"), 0U);
}

}  // namespace
}  // namespace tiercel

int main(int argc, char** argv) {
  ::testing::InitGoogleMock(&argc, argv);
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view flag = argv[i];
    if (flag == "--program") tiercel::private_arguments.program = std::filesystem::absolute(argv[i + 1]);
    if (flag == "--engine") tiercel::private_arguments.engine = argv[i + 1];
    if (flag == "--rounds") tiercel::private_arguments.rounds = std::strtoull(argv[i + 1], nullptr, 10);
  }
  return RUN_ALL_TESTS();
}
