// Goal: only what is a recording goes on, behind its last whole frame; nothing else is ever overwritten, and a write
// that fails leaves the file as it was.
#include "recording/recording_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <csignal>
#include <fstream>
#include <iterator>
#include <string>

namespace tiercel {
namespace {

using ::testing::HasSubstr;

std::string frame_of(const std::string& text) {
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
  return packed;
}

const std::string kFirst = "{\"tiercel_recording\":1,\"unix_seconds\":1.000}\n";

class RecordingFileTest : public testing::Test {
 protected:
  ~RecordingFileTest() override { (void)::unlink(path_.c_str()); }
  void write(const std::string& bytes) { std::ofstream(path_, std::ios::binary) << bytes; }
  std::string read() {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  Result<std::unique_ptr<RecordingFile>> open() { return RecordingFile::open(path_); }
  std::string error_of_open() {
    const auto file = open();
    return file ? "(opened)" : file.error().message;
  }
  static Status append(RecordingFile& file, const std::string& bytes) {
    return file.append(std::as_bytes(std::span(bytes)));
  }

  std::string path_ = testing::TempDir() + "tiercel_recording_" + std::to_string(::getpid());
};

TEST_F(RecordingFileTest, is_made_for_its_owner_alone) {
  const auto file = open();
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_TRUE(append(**file, "abc"));
  ASSERT_TRUE(append(**file, "de"));
  EXPECT_EQ((*file)->size(), 5U);
  EXPECT_EQ(read(), "abcde");
  struct stat status{};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
}

TEST_F(RecordingFileTest, goes_on_behind_the_last_whole_frame) {
  const std::string whole = frame_of(kFirst) + frame_of("more\n");
  const std::string next = frame_of("and more that is longer than nothing\n");
  for (std::size_t cut = 0; cut < next.size(); ++cut) {
    write(whole + next.substr(0, cut));
    const auto file = open();
    ASSERT_TRUE(file) << cut << ": " << file.error().message;
    EXPECT_EQ((*file)->size(), whole.size());
    EXPECT_EQ((*file)->cut_bytes(), cut);
    ASSERT_TRUE(append(**file, next));
    EXPECT_EQ(read(), whole + next);
  }
}

TEST_F(RecordingFileTest, what_is_no_recording_is_refused_and_left_as_it_was) {
  for (const std::string& bytes : {std::string("hello\n"), frame_of("{\"timestamp\": 1}\n"), frame_of(""),
                                   std::string("\x28\xB5\x2F\xFD"), frame_of(kFirst).substr(0, 9)}) {
    write(bytes);
    EXPECT_THAT(error_of_open(), HasSubstr("it is not a recording; name another file"));
    EXPECT_EQ(read(), bytes);
  }
  write(frame_of("{\"tiercel_recording\":2,\"unix_seconds\":1}\n"));
  EXPECT_THAT(error_of_open(), HasSubstr("a recording of version 2; this program writes 1"));
  const std::string damaged = frame_of(kFirst) + "not a frame" + frame_of("more\n");
  write(damaged);
  EXPECT_THAT(error_of_open(), HasSubstr("the recording is damaged"));
  EXPECT_EQ(read(), damaged);
}

TEST_F(RecordingFileTest, a_place_that_cannot_be_written_is_an_error_that_names_it) {
  path_ = testing::TempDir() + "no_such_folder/recording";
  EXPECT_THAT(error_of_open(), HasSubstr("no_such_folder/recording: cannot be opened for a recording: No such file"));
  path_ = testing::TempDir();
  EXPECT_THAT(error_of_open(), HasSubstr("Is a directory"));
  path_ = "/dev/null";
  EXPECT_THAT(error_of_open(), HasSubstr("not a file"));
  path_.clear();
}

TEST_F(RecordingFileTest, two_processes_do_not_write_into_one_file) {
  const auto first = open();
  ASSERT_TRUE(first);
  EXPECT_THAT(error_of_open(), HasSubstr("another process records to it"));
}

TEST_F(RecordingFileTest, a_write_that_fails_leaves_the_file_as_it_was) {
  const auto file = open();
  ASSERT_TRUE(file);
  ASSERT_TRUE(append(**file, "whole"));
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto ignored = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 8;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Status status = append(**file, "too long");
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  (void)std::signal(SIGXFSZ, ignored);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr("writing failed"));
  EXPECT_EQ(read(), "whole");
  ASSERT_TRUE(append(**file, " again"));
  EXPECT_EQ(read(), "whole again");
}

}  // namespace
}  // namespace tiercel
