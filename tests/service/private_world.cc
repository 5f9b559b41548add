#include "tests/service/private_world.h"

#include <sys/prctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>

namespace tiercel {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

bool all_digits(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

bool has_open(pid_t process, const std::string& file) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(process) + "/fd", error)) {
    if (fs::read_symlink(entry.path(), error) == file) return true;
  }
  return false;
}

}  // namespace

PrivateWorld::PrivateWorld() {
  EXPECT_EQ(::prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  std::string name = (fs::temp_directory_path() / "tiercel-private-XXXXXX").string();
  EXPECT_NE(::mkdtemp(name.data()), nullptr);
  directory_ = name;
  socket_ = name + "/s";
  EXPECT_EQ(::mkfifo((name + "/gate").c_str(), 0600), 0);
}

/// The engines of a test are gone by now; a service that does not end by itself is a failure, and ended by its id.
PrivateWorld::~PrivateWorld() {
  for (const pid_t pid : services()) {
    if (HasFatalFailure() || HasNonfatalFailure()) (void)::kill(pid, SIGKILL);
    if (end_of(pid) != -1) continue;
    ADD_FAILURE() << "process " << pid << " did not end by itself";
    (void)::kill(pid, SIGKILL);
    (void)end_of(pid);
  }
  if (HasFailure()) std::fputs(log().c_str(), stderr);
  fs::remove_all(directory_);
}

std::vector<std::string> PrivateWorld::small(std::chrono::milliseconds grace) {
  return {"--host-capacity",       "8MiB",
          "--host-extent-bytes",   "2MiB",
          "--host-min-slot-bytes", "16KiB",
          "--host-prefault",       "false",
          "--workers-threads",     "1",
          "--service-threads",     "1",
          "--service-idle-grace",  std::to_string(grace.count()) + "ms"};
}

std::unique_ptr<Child> PrivateWorld::engine(const Wishes& wishes) const {
  std::vector<std::string> words = {private_arguments.engine, socket_,
                                    wishes.program.empty() ? private_arguments.program : wishes.program,
                                    std::to_string(wishes.deadline.count())};
  const auto flags = small(wishes.grace);
  words.insert(words.end(), flags.begin(), flags.end());
  words.insert(words.end(), wishes.flags.begin(), wishes.flags.end());
  return std::make_unique<Child>(words);
}

PrivateWorld::Engines PrivateWorld::eight(const Wishes& wishes) const {
  Engines engines;
  while (engines.size() < 8) engines.push_back(engine(wishes));
  return engines;
}

std::string PrivateWorld::program(const std::string& script) const {
  const std::string file = directory_ + "/program";
  std::ofstream(file) << "#!/bin/sh\nDIRECTORY=" << directory_ << "\nTIERCEL=" << private_arguments.program
                      << "\necho start >> $DIRECTORY/starts\n"
                      << script << "\n";
  fs::permissions(file, fs::perms::owner_all);
  return file;
}

std::size_t PrivateWorld::starts() const {
  const std::string text = content(directory_ + "/starts");
  return static_cast<std::size_t>(std::ranges::count(text, '\n'));
}

void PrivateWorld::open_gate() const {
  for (const auto end = std::chrono::steady_clock::now() + kPatience; std::chrono::steady_clock::now() < end;) {
    const int gate = ::open((directory_ + "/gate").c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (gate >= 0) {
      EXPECT_EQ(::write(gate, "go\n", 3), 3);
      ::close(gate);
      return;
    }
    std::this_thread::sleep_for(1ms);
  }
  ADD_FAILURE() << "nobody waits at the gate";
}

std::vector<std::string> PrivateWorld::ask(const Engines& engines, const std::string& command) {
  for (const auto& engine : engines) engine->say(command + "\n");
  std::vector<std::string> answers;
  for (const auto& engine : engines) answers.push_back(engine->line(kPatience));
  return answers;
}

std::string PrivateWorld::ask(Child& engine, const std::string& command) {
  engine.say(command + "\n");
  return engine.line(kPatience);
}

bool PrivateWorld::says(Child& engine, const std::string& command, const std::string& part) {
  for (const auto end = std::chrono::steady_clock::now() + kPatience; std::chrono::steady_clock::now() < end;) {
    if (ask(engine, command).find(part) != std::string::npos) return true;
    std::this_thread::sleep_for(1ms);
  }
  return false;
}

void PrivateWorld::lose(pid_t service) {
  EXPECT_EQ(::kill(service, SIGKILL), 0);
  EXPECT_EQ(end_of(service), 128 + SIGKILL);
}

std::vector<pid_t> PrivateWorld::services() const {
  std::vector<pid_t> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    if (!all_digits(name)) continue;
    const std::string words = content(entry.path() / "cmdline");
    if (words.find(socket_ + '\0') == std::string::npos || words.find("--started") == std::string::npos) continue;
    found.push_back(static_cast<pid_t>(std::strtol(name.c_str(), nullptr, 10)));
  }
  return found;
}

pid_t PrivateWorld::the_service() const {
  const auto found = services();
  EXPECT_EQ(found.size(), 1U);
  return found.empty() ? 0 : found.front();
}

int PrivateWorld::end_of(pid_t service) {
  for (const auto end = std::chrono::steady_clock::now() + kPatience; std::chrono::steady_clock::now() < end;) {
    int status = 0;
    const pid_t ended = ::waitpid(service, &status, WNOHANG);
    if (ended == service) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (ended < 0) return 0;  // seen before
    std::this_thread::sleep_for(1ms);
  }
  return -1;
}

std::size_t PrivateWorld::in_log(const std::string& text) const {
  const std::string all = log();
  std::size_t count = 0;
  for (std::size_t at = all.find(text); at != std::string::npos; at = all.find(text, at + 1)) ++count;
  return count;
}

std::string PrivateWorld::content(const fs::path& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

bool PrivateWorld::all_wait(const Engines& engines) const {
  for (const auto end = std::chrono::steady_clock::now() + kPatience; std::chrono::steady_clock::now() < end;) {
    const auto waits = [&](const auto& one) { return has_open(one->pid(), socket_ + ".start"); };
    if (std::ranges::all_of(engines, waits)) return true;
    std::this_thread::sleep_for(1ms);
  }
  return false;
}

}  // namespace tiercel
