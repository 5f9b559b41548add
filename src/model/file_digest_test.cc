// Goal: a digest is the SHA-256 of the file's bytes as they are now; what is kept is used only for the very same state
// of the very same file, and a broken cache costs a second reading and nothing else.
#include "model/file_digest.h"

#include "base/log.h"
#include "model/digest_cache.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

namespace tiercel {
namespace {

// FIPS 180-2, appendix B: "abc", and a million times "a".
constexpr const char* kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr const char* kMillion = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
constexpr const char* kEmpty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

class FileDigest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "tiercel_digest_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    cache_ = name + "/cache";
  }
  void TearDown() override {
    set_log_sink({});
    std::filesystem::remove_all(directory_);
  }
  std::string write(std::string_view bytes) {
    const std::string path = directory_ + "/model.gguf";
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
  static FileIdentity look(const std::string& path) {
    struct stat status{};
    EXPECT_EQ(::stat(path.c_str(), &status), 0);
    return identity_of(status);
  }
  std::string cache_file(const std::string& path) const { return digest_cache_path(cache_, look(path)); }
  std::string digest(const std::string& path) const {
    const auto result = file_digest(path, cache_);
    return result ? to_hex(*result) : result.error().message;
  }
  /// Puts a digest into the cache that the file does not have: whoever gets it was served from the cache.
  void plant(const std::string& path) const {
    std::ofstream(cache_file(path)) << encode_digest_entry(look(path), planted());
  }
  static BlockHash planted() {
    BlockHash hash;
    hash.bytes.fill(std::byte{0xAB});
    return hash;
  }
  std::string directory_;
  std::string cache_;
};

TEST_F(FileDigest, is_sha256_of_the_bytes) {
  EXPECT_EQ(digest(write("abc")), kAbc);
  EXPECT_EQ(digest(write(std::string(1'000'000, 'a'))), kMillion);
  EXPECT_EQ(digest(write("")), kEmpty);
  EXPECT_EQ(to_hex(file_digest(write("abc"), "").value()), kAbc);
}

TEST_F(FileDigest, is_kept_for_its_owner_alone) {
  const std::string path = write("abc");
  EXPECT_EQ(digest(path), kAbc);
  struct stat status{};
  ASSERT_EQ(::stat(cache_file(path).c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  ASSERT_EQ(::stat(cache_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0700U);
  plant(path);
  EXPECT_EQ(digest(path), to_hex(planted()));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(cache_), {}), 1);  // no drafts left
}

TEST_F(FileDigest, of_a_changed_file_is_computed_again) {
  const std::string path = write("xyz");
  ASSERT_NE(digest(path), kAbc);  // also waits until a later write has a later ctime
  plant(path);
  ASSERT_EQ(digest(path), to_hex(planted()));
  const auto modified = std::filesystem::last_write_time(path);
  write("abc");  // the same inode, size and, set back, mtime: ctime tells
  std::filesystem::last_write_time(path, modified);
  EXPECT_EQ(digest(path), kAbc);
}

TEST_F(FileDigest, broken_or_foreign_entries_are_ignored_and_rewritten) {
  const std::string path = write("abc");
  std::filesystem::create_directory(cache_);
  const std::string whole = encode_digest_entry(look(path), planted());
  std::string flipped = whole;
  flipped[flipped.size() - 80] = flipped[flipped.size() - 80] == 'a' ? 'b' : 'a';
  for (const std::string& text : {std::string(), whole.substr(0, 100), flipped, whole + "x", std::string(4096, 'a')}) {
    std::ofstream(cache_file(path)) << text;
    EXPECT_EQ(digest(path), kAbc) << text;
    plant(path);
    EXPECT_EQ(digest(path), to_hex(planted()));  // the file that was written instead is in use
  }
  ASSERT_EQ(::chmod(cache_file(path).c_str(), 0666), 0);  // anyone may have written it
  EXPECT_EQ(digest(path), kAbc);
  std::filesystem::remove(cache_file(path));
  std::ofstream(directory_ + "/elsewhere") << whole;
  std::filesystem::create_symlink(directory_ + "/elsewhere", cache_file(path));
  EXPECT_EQ(digest(path), kAbc);
}

TEST_F(FileDigest, a_cache_that_cannot_be_written_costs_a_log_line) {
  std::vector<std::string> lines;
  set_log_sink([&](LogLevel, std::string_view text) { lines.emplace_back(text); });
  const std::string path = write("abc");
  cache_ = directory_ + "/model.gguf/cache";  // below a file: not even root can create it
  EXPECT_EQ(digest(path), kAbc);
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_NE(lines[0].find("file digests are not kept"), std::string::npos) << lines[0];
}

TEST_F(FileDigest, a_file_that_changes_meanwhile_is_read_again) {
  const std::string path = write("before");
  int passes = 0;
  const auto result = file_digest_observed(path, cache_, [&] {
    if (++passes == 1) write("abc");
  });
  EXPECT_EQ(to_hex(result.value()), kAbc);
  EXPECT_EQ(passes, 2);
  EXPECT_EQ(digest(path), kAbc);
}

TEST_F(FileDigest, a_file_that_never_rests_is_an_error_and_nothing_is_kept) {
  const std::string path = write("0");
  int passes = 0;
  const auto result =
      file_digest_observed(path, cache_, [&] { write(std::string(static_cast<std::size_t>(++passes) + 1, '0')); });
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kIo);
  EXPECT_EQ(result.error().message, path + ": changed while it was read, 3 times in a row");
  EXPECT_FALSE(std::filesystem::exists(cache_));
}

TEST_F(FileDigest, what_is_no_file_is_an_error) {
  const auto missing = file_digest(directory_ + "/none", cache_);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(missing.error().os_error, ENOENT);
  EXPECT_EQ(missing.error().message, directory_ + "/none: No such file or directory");
  EXPECT_EQ(file_digest(directory_, cache_).error().code, ErrorCode::kInvalidArgument);
  const std::string fifo = directory_ + "/fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(file_digest(fifo, cache_).error().message, fifo + ": is not a regular file, which a digest needs");
}

RC_GTEST_PROP(DigestEntry, is_read_back_for_its_file_alone, ()) {
  const auto number = [] { return *rc::gen::arbitrary<std::uint64_t>(); };
  const auto time = [] { return *rc::gen::arbitrary<std::int64_t>(); };
  const FileIdentity file{number(), number(), number(), time(), time()};
  BlockHash digest;
  for (std::byte& byte : digest.bytes) byte = static_cast<std::byte>(*rc::gen::inRange(0, 256));
  std::string text = encode_digest_entry(file, digest);
  RC_ASSERT(decode_digest_entry(text, file) == digest);
  FileIdentity other = file;
  ++**rc::gen::element(&other.device, &other.inode, &other.size_bytes);
  RC_ASSERT(decode_digest_entry(text, other) == std::nullopt);
  text[*rc::gen::inRange<std::size_t>(0, text.size())] ^= 1;
  RC_ASSERT(decode_digest_entry(text, file) == std::nullopt);
}

}  // namespace
}  // namespace tiercel
