// Goal: where a private service lies and who may have put it there, what it is started with, and when a lost one may be
// started again.
#include "service/start/failure.h"
#include "service/start/place.h"
#include "service/start/program.h"
#include "service/start/restarts.h"
#include "service/start/start_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

namespace tiercel::service::start {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

/// A variable of the environment, for as long as a test runs.
class Variable {
 public:
  Variable(std::string name, const char* value) : name_(std::move(name)) {
    if (const char* old = std::getenv(name_.c_str())) old_ = old;
    set(value);
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;
  ~Variable() { set(old_ ? old_->c_str() : nullptr); }

 private:
  void set(const char* value) const {
    if (value == nullptr) {
      (void)::unsetenv(name_.c_str());
    } else {
      (void)::setenv(name_.c_str(), value, 1);
    }
  }
  std::string name_;
  std::optional<std::string> old_;
};

class Start : public ::testing::Test {
 protected:
  Start() {
    std::string name = (fs::temp_directory_path() / "tiercel-start-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  ~Start() override { fs::remove_all(directory_); }
  std::string directory_;
};

TEST_F(Start, one_place_a_user_and_configuration) {
  const Variable run("XDG_RUNTIME_DIR", directory_.c_str());
  EXPECT_EQ(private_socket_path({}), directory_ + "/tiercel/private.sock");
  const std::string other = private_socket_path({.arguments = {"--host-capacity", "1GiB"}});
  EXPECT_THAT(other, HasSubstr(directory_ + "/tiercel/private-"));
  EXPECT_EQ(other, private_socket_path({.arguments = {"--host-capacity", "1GiB"}}));
  EXPECT_NE(other, private_socket_path({.arguments = {"--host-capacity", "2GiB"}}));
  EXPECT_NE(private_socket_path({.config = "a.toml"}), private_socket_path({.arguments = {"a.toml"}}));
  EXPECT_EQ(other, private_socket_path({.arguments = {"--host-capacity", "1GiB"},
                                        .deadline = std::chrono::seconds(1),
                                        .restarts_an_hour = 0}));
}

TEST_F(Start, without_a_runtime_directory_it_lies_in_tmp) {
  const std::string ours = "/tmp/tiercel-" + std::to_string(::geteuid()) + "/private.sock";
  for (const char* none : {"", "relative", "/nonexistent/run"}) {
    const Variable run("XDG_RUNTIME_DIR", none);
    EXPECT_EQ(private_socket_path({}), ours) << none;
  }
}

TEST_F(Start, a_directory_is_made_for_this_user_alone) {
  ASSERT_TRUE(prepare_directory(directory_ + "/new/s"));
  struct stat about{};
  ASSERT_EQ(::stat((directory_ + "/new").c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777U, 0700U);
  EXPECT_TRUE(prepare_directory(directory_ + "/new/s"));
  const Status deep = prepare_directory(directory_ + "/a/b/s");
  ASSERT_FALSE(deep);
  EXPECT_THAT(deep.error().message, HasSubstr(directory_ + "/a/b"));
}

TEST_F(Start, a_directory_of_others_is_refused) {
  ASSERT_EQ(::chmod(directory_.c_str(), 0770), 0);
  Status status = prepare_directory(directory_ + "/s");
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, AllOf(HasSubstr("others may write"), HasSubstr("0770"), HasSubstr("chmod go-w")));
  ASSERT_EQ(::chmod(directory_.c_str(), 0755), 0);
  EXPECT_TRUE(prepare_directory(directory_ + "/s")) << "to read it is not to write it";

  fs::create_directory(directory_ + "/real");
  fs::create_directory_symlink(directory_ + "/real", directory_ + "/link");
  status = prepare_directory(directory_ + "/link/s");
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr("no directory"));
  std::ofstream(directory_ + "/file") << "x";
  EXPECT_FALSE(prepare_directory(directory_ + "/file/s"));
}

TEST_F(Start, a_directory_that_another_user_made_is_refused) {
  const std::string theirs = ::geteuid() == 0 ? directory_ : "/usr";  // which root has made
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown(theirs.c_str(), 12'345, static_cast<gid_t>(-1)), 0);
  }
  const Status status = prepare_directory(theirs + "/s");
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message,
              AllOf(HasSubstr(theirs), HasSubstr("belongs to user"), HasSubstr("XDG_RUNTIME_DIR")));
  const auto client = Client::connect({.socket = theirs + "/s", .start = StartOptions{.program = "/bin/false"}});
  ASSERT_FALSE(client);
  EXPECT_THAT(client.error().message, HasSubstr("belongs to user"));
}

TEST_F(Start, the_lock_has_one_holder_and_is_the_one_of_the_path) {
  StartLock one(directory_ + "/s");
  StartLock other(directory_ + "/s");
  EXPECT_TRUE(one.try_take().value_or(false));
  EXPECT_FALSE(other.try_take().value_or(true));
  EXPECT_EQ(other.holder(), ::getpid());
  one.note_restarts({5, 6});
  one.give_back();
  EXPECT_TRUE(other.try_take().value_or(false));
  EXPECT_THAT(other.restarts(), ::testing::ElementsAre(5, 6)) << "who takes it next keeps them";
  fs::remove(directory_ + "/s.start");
  EXPECT_TRUE(one.try_take().value_or(false)) << "a lock on a file that is gone is none";
}

TEST_F(Start, a_lock_that_was_left_is_still_the_others) {
  StartLock one(directory_ + "/s");
  ASSERT_TRUE(one.try_take().value_or(false));
  const FileDescriptor passed_on(::dup(one.descriptor()));
  one.leave();
  StartLock other(directory_ + "/s");
  EXPECT_FALSE(other.try_take().value_or(true));
}

TEST_F(Start, a_failure_is_told_to_whoever_reads_it) {
  const std::string socket = directory_ + "/s";
  EXPECT_FALSE(last_failure(socket));
  note_failure(socket, {.code = ErrorCode::kOutOfMemory, .message = "no memory\nat all"});
  const auto first = last_failure(socket);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->error.code, ErrorCode::kOutOfMemory);
  EXPECT_EQ(first->error.message, "no memory\nat all");
  note_failure(socket, {.code = ErrorCode::kOutOfMemory, .message = "no memory\nat all"});
  EXPECT_NE(last_failure(socket)->number, first->number) << "another attempt is another failure";
  forget_failure(socket);
  EXPECT_FALSE(last_failure(socket));
  std::ofstream(socket + ".failed") << "garbage";
  EXPECT_FALSE(last_failure(socket));
}

TEST_F(Start, the_program_is_named_or_found_or_asked_for) {
  const Variable path("PATH", (":relative:" + directory_).c_str());
  {
    const Variable variable("TIERCEL_PROGRAM", nullptr);
    const auto none = find_program({});
    if (!none) {  // in an installed tree it lies beside the tests
      EXPECT_THAT(none.error().message, AllOf(HasSubstr("nor in PATH"), HasSubstr("TIERCEL_PROGRAM")));
      std::ofstream(directory_ + "/tiercel") << "#!/bin/sh\n";
      EXPECT_FALSE(find_program({})) << "it cannot be run";
      fs::permissions(directory_ + "/tiercel", fs::perms::owner_all);
      EXPECT_EQ(find_program({}).value_or(""), directory_ + "/tiercel");
    }
  }
  const Variable variable("TIERCEL_PROGRAM", "/bin/sh");
  EXPECT_EQ(find_program({}).value_or(""), "/bin/sh");
  EXPECT_EQ(find_program({.program = "/bin/cat"}).value_or(""), "/bin/cat");
  const auto wrong = find_program({.program = directory_});
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message, HasSubstr(directory_ + " is no program"));
}

TEST_F(Start, its_words_and_its_environment) {
  const Variable secret("ENGINE_SECRET", "1");
  const Variable preload("LD_PRELOAD_OF_TEST", "1");
  const Variable key("TIERCEL_API_KEY", "1");
  const Variable ours("TIERCEL_OURS", "yes");
  const Variable language("LC_ALL", "C");
  const auto command = command_of({.program = "/bin/sh", .config = "my.toml", .arguments = {"--disk-depth", "8"}}, "s");
  ASSERT_TRUE(command) << command.error().message;
  EXPECT_EQ(command->program, "/bin/sh");
  const std::string here = fs::current_path();
  EXPECT_THAT(command->arguments,
              ::testing::ElementsAre("tiercel", "serve", "--private", "--started", "--service-socket", here + "/s",
                                     "--log", here + "/s.log", "--config", here + "/my.toml", "--disk-depth", "8"));
  EXPECT_THAT(command->environment, AllOf(Contains("TIERCEL_OURS=yes"), Contains("LC_ALL=C")));
  EXPECT_THAT(command->environment, Not(Contains(AnyOf(HasSubstr("SECRET"), HasSubstr("PRELOAD"), HasSubstr("KEY")))));
}

TEST(Restarts, the_first_at_once_then_slower_and_at_most_so_many_an_hour) {
  const std::uint64_t now = 10 * kHourMs;
  EXPECT_EQ(next_restart_ms({}, now, 6), now);
  EXPECT_EQ(next_restart_ms({now}, now, 6), now + 1'000);
  EXPECT_EQ(next_restart_ms({now - 5'000, now}, now, 6), now + 4'000);
  EXPECT_EQ(next_restart_ms({now - 2'000}, now, 6), now) << "long enough ago";
  EXPECT_EQ(next_restart_ms({now - 9'000, now - 8'000, now - 7'000}, now, 3), now - 9'000 + kHourMs);
  EXPECT_EQ(next_restart_ms({}, now, 0), UINT64_MAX);
  std::vector<std::uint64_t> many(20, now);
  EXPECT_EQ(next_restart_ms(many, now, 60), now + 600'000);
}

TEST(Restarts, an_hour_ago_and_another_boot_do_not_count) {
  const std::uint64_t now = 2 * kHourMs;
  EXPECT_THAT(within_the_hour({now + 1, kHourMs, kHourMs + 1, now}, now), ::testing::ElementsAre(kHourMs + 1, now));
}

TEST(StartOptions, where_the_environment_names_a_service_none_is_started) {
  const Variable named("TIERCEL_SOCKET", "/nonexistent/of-the-operator");
  const auto client = Client::connect({.start = StartOptions{.program = "/bin/false"}});
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(client.error().message, HasSubstr("no service listens on /nonexistent/of-the-operator"));
}

TEST(StartOptions, values_out_of_range_are_refused_with_their_name) {
  const auto error = [](StartOptions start) {
    const auto client = Client::connect({.socket = "/nonexistent/s", .start = std::move(start)});
    return client ? std::string() : client.error().message;
  };
  EXPECT_THAT(error({.deadline = std::chrono::milliseconds(1)}), HasSubstr("start.deadline: 1 ms"));
  EXPECT_THAT(error({.restarts_an_hour = 61}), HasSubstr("start.restarts_an_hour: 61"));
}

}  // namespace
}  // namespace tiercel::service::start
