// Goal: a socket is its owner's, or its group's, from the first moment; one service a path; nothing that is not a dead
// service's socket is removed; descriptors arrive.
#include "service/wire/unix_socket.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

namespace tiercel::wire {
namespace {

using testing::HasSubstr;

class UnixSocket : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "tiercel_socket_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    path_ = directory_ / "kv" / "s";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  static mode_t mode_of(const std::string& path) {
    struct stat about{};
    EXPECT_EQ(stat(path.c_str(), &about), 0) << path;
    return about.st_mode & 07777U;
  }

  std::filesystem::path directory_;
  std::string path_;
};

TEST_F(UnixSocket, the_owner_alone_may_come_where_no_group_is_named) {
  const mode_t before = umask(0);
  const auto listening = listen_at({.path = path_});
  umask(before);
  ASSERT_TRUE(listening) << listening.error().message;
  EXPECT_EQ(mode_of(path_), 0600U);
  EXPECT_EQ(mode_of(directory_ / "kv"), 0700U);
}

TEST_F(UnixSocket, a_group_is_let_in_and_nobody_else) {
  const group* own = getgrgid(getegid());
  if (own == nullptr) GTEST_SKIP() << "the group of this process has no name here";
  const std::string name = own->gr_name;
  const gid_t id = own->gr_gid;
  const auto listening = listen_at({.path = path_, .group = name});
  ASSERT_TRUE(listening) << listening.error().message;
  EXPECT_EQ(mode_of(path_), 0660U);
  EXPECT_EQ(mode_of(directory_ / "kv"), 0750U);
  struct stat about{};
  ASSERT_EQ(stat(path_.c_str(), &about), 0);
  EXPECT_EQ(about.st_gid, id);
}

TEST_F(UnixSocket, a_group_that_does_not_exist_is_named) {
  const auto listening = listen_at({.path = path_, .group = "no-such-group"});
  ASSERT_FALSE(listening);
  EXPECT_EQ(listening.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(listening.error().message, HasSubstr("no-such-group"));
}

TEST_F(UnixSocket, a_second_service_is_told_who_listens) {
  const auto first = listen_at({.path = path_});
  ASSERT_TRUE(first);
  const auto second = listen_at({.path = path_});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kLimit);
  EXPECT_THAT(second.error().message, HasSubstr("process " + std::to_string(getpid())));
  EXPECT_TRUE(connect_to(path_)) << "the first goes on";
}

TEST_F(UnixSocket, the_lock_of_a_process_that_is_gone_is_waited_for) {
  const pid_t gone = ::fork();
  if (gone == 0) ::_exit(0);
  ASSERT_EQ(::waitpid(gone, nullptr, 0), gone);
  std::filesystem::create_directory(directory_ / "kv");
  const std::string name = path_ + ".lock";
  const int held = ::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);  // as a ring of it would
  ASSERT_EQ(::flock(held, LOCK_EX | LOCK_NB), 0);
  const std::string text = std::to_string(gone) + "\n";
  ASSERT_EQ(::write(held, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  std::atomic<bool> ended{false};
  std::thread disk([&] {
    (void)::poll(nullptr, 0, 50);
    ended = true;
    ::close(held);
  });
  const auto lock = take_path({.path = path_});
  EXPECT_TRUE(ended);
  disk.join();
  EXPECT_TRUE(lock) << lock.error().message;
}

TEST_F(UnixSocket, what_a_dead_service_left_is_replaced) {
  {
    const auto first = listen_at({.path = path_});
  }
  ASSERT_TRUE(std::filesystem::exists(path_));
  const auto nobody = connect_to(path_);
  ASSERT_FALSE(nobody);
  EXPECT_EQ(nobody.error().code, ErrorCode::kNotFound);
  const auto second = listen_at({.path = path_});
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_TRUE(connect_to(path_));
}

TEST_F(UnixSocket, a_file_that_is_no_socket_is_left_alone) {
  std::filesystem::create_directory(directory_ / "kv");
  std::ofstream(path_) << "precious";
  const auto listening = listen_at({.path = path_});
  ASSERT_FALSE(listening);
  EXPECT_EQ(listening.error().code, ErrorCode::kInvalidArgument);
  std::string content;
  std::ifstream(path_) >> content;
  EXPECT_EQ(content, "precious");
}

TEST_F(UnixSocket, a_link_is_not_followed_to_what_it_names) {
  std::filesystem::create_directory(directory_ / "kv");
  std::ofstream(directory_ / "precious") << "precious";
  std::filesystem::create_symlink(directory_ / "precious", path_);
  EXPECT_FALSE(listen_at({.path = path_}));
  EXPECT_TRUE(std::filesystem::exists(directory_ / "precious"));
}

TEST_F(UnixSocket, a_path_that_is_too_long_is_refused_with_the_limit) {
  const std::string longest = "/" + std::string(106, 'x');
  for (const std::string& path : {std::string(), longest + "x"}) {
    const auto listening = listen_at({.path = path});
    ASSERT_FALSE(listening);
    EXPECT_EQ(listening.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(listening.error().message, HasSubstr("1 to 107"));
    EXPECT_EQ(connect_to(path).error().code, ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(connect_to(longest).error().code, ErrorCode::kNotFound);
}

class Pair : public testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    here_ = FileDescriptor(ends[0]);
    there_ = FileDescriptor(ends[1]);
  }
  FileDescriptor here_;
  FileDescriptor there_;
  std::array<std::byte, 16> buffer_{};
};

TEST_F(Pair, descriptors_arrive_with_their_bytes_and_close_on_exec) {
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const FileDescriptor reads(pipe_ends[0]);
  FileDescriptor writes(pipe_ends[1]);
  const int shown[] = {writes.get()};
  const char text[] = "hello";
  ASSERT_TRUE(send_with_descriptors(here_.get(), std::as_bytes(std::span(text)), shown));
  const auto received = receive_with_descriptors(there_.get(), buffer_);
  ASSERT_TRUE(received && *received);
  EXPECT_EQ((*received)->bytes, sizeof(text));
  EXPECT_STREQ(reinterpret_cast<const char*>(buffer_.data()), "hello");
  ASSERT_EQ((*received)->descriptors.size(), 1U);
  const int copy = (*received)->descriptors[0].get();
  EXPECT_NE(fcntl(copy, F_GETFD) & FD_CLOEXEC, 0);
  writes = FileDescriptor();
  ASSERT_EQ(write(copy, "x", 1), 1);
  char byte = 0;
  EXPECT_EQ(read(reads.get(), &byte, 1), 1);
}

TEST_F(Pair, of_more_descriptors_than_a_message_may_have_none_is_sent) {
  const int shown[] = {0, 0, 0, 0, 0};
  EXPECT_FALSE(send_with_descriptors(here_.get(), buffer_, shown));
  const auto nothing = receive_with_descriptors(there_.get(), buffer_);
  ASSERT_TRUE(nothing);
  EXPECT_FALSE(*nothing);
}

TEST_F(Pair, nothing_yet_and_the_end_are_told_apart) {
  const auto nothing = receive_with_descriptors(there_.get(), buffer_);
  ASSERT_TRUE(nothing);
  EXPECT_FALSE(*nothing);
  here_ = FileDescriptor();
  const auto end = receive_with_descriptors(there_.get(), buffer_);
  ASSERT_TRUE(end && *end);
  EXPECT_EQ((*end)->bytes, 0U);
}

TEST_F(Pair, the_other_end_is_who_the_kernel_says) {
  const auto peer = peer_of(here_.get());
  ASSERT_TRUE(peer);
  EXPECT_EQ(peer->pid, getpid());
  EXPECT_EQ(peer->uid, getuid());
}

TEST(Pidfd, names_this_process_and_nothing_else_does) {
  const auto own = own_pidfd();
  ASSERT_TRUE(own);
  EXPECT_EQ(process_of(own->get()), getpid());
  pollfd one{.fd = own->get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&one, 1, 0), 0) << "readable while the process lives";
  EXPECT_FALSE(process_of(STDIN_FILENO));
}

}  // namespace
}  // namespace tiercel::wire
