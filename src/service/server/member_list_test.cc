// Goal: what a service wrote is read again, to the byte as docs/formats.md says; of anything else nothing is believed;
// and a life descriptor tells of its member until the last copy is closed.
#include "service/server/member_list.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

namespace tiercel::service {
namespace {

ArenaFacts some_facts() {
  return {.arena = 0x1122334455667788,
          .epoch = 3,
          .bytes = std::uint64_t{16} << 30U,
          .extent_bytes = std::uint64_t{64} << 20U,
          .min_slot_bytes = std::uint64_t{256} << 10U,
          .device = 1,
          .inode = 4711,
          .boot = boot_id()};
}
ListedMember member(std::uint64_t number, pid_t pid = 0) {
  return {.member = number, .token = number * 7 + 1, .start_time = 5, .pid_namespace = own_pid_namespace(), .pid = pid};
}

std::vector<std::byte> list_bytes(const ArenaFacts& facts, const std::vector<std::optional<ListedMember>>& places) {
  std::vector<std::byte> bytes;
  const auto append = [&](const auto& record) { bytes.insert(bytes.end(), record.begin(), record.end()); };
  append(encode(facts));
  for (const auto& place : places) {
    place ? append(encode(*place)) : append(std::array<std::byte, kListEntryBytes>{});
  }
  return bytes;
}

std::string hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) {
    constexpr const char* kDigits = "0123456789abcdef";
    text += kDigits[static_cast<unsigned>(byte) >> 4U];
    text += kDigits[static_cast<unsigned>(byte) & 15U];
  }
  return text;
}

class MemberListFile : public testing::Test {
 protected:
  MemberListFile() {
    std::string name = (std::filesystem::temp_directory_path() / "tiercel-list-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    path_ = name + "/s.arena";
  }
  ~MemberListFile() override { std::filesystem::remove_all(directory_); }
  std::string directory_;
  std::string path_;
};

// The expected bytes were computed with Python's struct and a table of CRC32C.
TEST(MemberListFormat, is_what_the_docs_say) {
  ArenaFacts facts = some_facts();
  facts.boot = "01234567-89ab-cdef-0123-456789abcdef";
  EXPECT_EQ(hex(encode(facts)),
            "5452434c4d454d42010000004000000088776655443322110300000000000000"
            "0000000004000000000000040000000000000400000000000100000000000000"
            "671200000000000030313233343536372d383961622d636465662d303132332d"
            "34353637383961626364656600000000000000000000000000000000dedde967");
  EXPECT_EQ(hex(encode(ListedMember{
                .member = 0x100000001, .token = 0xABCD, .start_time = 99, .pid_namespace = 4026531836, .pid = 4242})),
            "0100000001000000cdab0000000000006300000000000000fcffffef00000000"
            "92100000000000000000000000000000000000000000000000000000c2378eea");
}

TEST(MemberListFormat, what_was_written_is_read_again) {
  const auto list = decode_list(list_bytes(some_facts(), {member(1, 12), std::nullopt, member(9)}));
  ASSERT_TRUE(list) << list.error().message;
  EXPECT_EQ(list->facts, some_facts());
  ASSERT_EQ(list->places.size(), 3U);
  EXPECT_EQ(list->places[0], member(1, 12));
  EXPECT_FALSE(list->places[1]);
  EXPECT_EQ(list->places[2], member(9));
}

TEST(MemberListFormat, two_members_of_one_number_are_not_believed) {
  const auto list = decode_list(list_bytes(some_facts(), {member(1), member(2), member(1)}));
  ASSERT_FALSE(list);
  EXPECT_EQ(list.error().code, ErrorCode::kCorrupt);
}

TEST(MemberListFormat, another_version_is_named) {
  auto bytes = list_bytes(some_facts(), {});
  bytes[8] = std::byte{2};
  EXPECT_EQ(decode_list(bytes).error().message, "it has the version 2; this release knows 1");
}

TEST(MemberListFormat, a_list_of_too_many_is_none) {
  std::vector<std::optional<ListedMember>> places(kMostListed);
  EXPECT_TRUE(decode_list(list_bytes(some_facts(), places)));
  places.emplace_back();
  EXPECT_FALSE(decode_list(list_bytes(some_facts(), places)));
}

RC_GTEST_PROP(MemberListFormat, a_changed_bit_is_seen, ()) {
  const auto count = *rc::gen::inRange<std::size_t>(0, 6);
  std::vector<std::optional<ListedMember>> places;
  for (std::size_t i = 0; i < count; ++i) places.emplace_back(member(i + 1, static_cast<pid_t>(i)));
  auto bytes = list_bytes(some_facts(), places);
  const auto bit = *rc::gen::inRange<std::size_t>(0, bytes.size() * 8);
  bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
  RC_ASSERT(!decode_list(bytes));
}

RC_GTEST_PROP(MemberListFormat, garbage_and_what_is_cut_off_is_answered, (const std::vector<std::uint8_t>& garbage)) {
  std::vector<std::byte> bytes(garbage.size());
  if (!garbage.empty()) std::memcpy(bytes.data(), garbage.data(), garbage.size());
  RC_ASSERT(!decode_list(bytes));
  auto cut = list_bytes(some_facts(), {member(1), member(2)});
  cut.resize(*rc::gen::inRange<std::size_t>(0, cut.size()));
  const auto list = decode_list(cut);  // whole entries may be missing: those that were not written yet
  RC_ASSERT(!list || (cut.size() - kListHeadBytes) % kListEntryBytes == 0);
}

TEST_F(MemberListFile, members_come_and_go_and_places_are_used_again) {
  EXPECT_FALSE(*MemberList::find(path_));
  {
    auto list = MemberList::create(path_, some_facts());
    ASSERT_TRUE(list) << list.error().message;
    for (std::uint64_t number = 1; number <= 3; ++number) ASSERT_TRUE(list->add(member(number)));
    list->remove(2);
    ASSERT_TRUE(list->add(member(4)));
    list->remove(77);  // never there
  }
  auto found = MemberList::find(path_);
  ASSERT_TRUE(found && *found);
  EXPECT_EQ((**found).facts(), some_facts());
  EXPECT_EQ((**found).members(), (std::vector<ListedMember>{member(1), member(4), member(3)}));
  ASSERT_TRUE((**found).begin_epoch());
  EXPECT_EQ((**MemberList::find(path_)).facts().epoch, 4U);
  EXPECT_EQ((**MemberList::find(path_)).members().size(), 3U);
  struct stat about{};
  ASSERT_EQ(::stat(path_.c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777U, 0600U);
}

TEST_F(MemberListFile, a_list_of_another_boot_is_none_and_garbage_is_an_error) {
  ArenaFacts earlier = some_facts();
  earlier.boot = "of another boot";
  ASSERT_TRUE(MemberList::create(path_, earlier));
  EXPECT_FALSE(*MemberList::find(path_));
  std::ofstream(path_) << "something else";
  EXPECT_EQ(MemberList::find(path_).error().code, ErrorCode::kCorrupt);
  ASSERT_TRUE(MemberList::create(path_, some_facts())) << "a new one takes its place";
  EXPECT_TRUE(*MemberList::find(path_));
}

TEST_F(MemberListFile, a_life_descriptor_tells_of_its_member_until_it_is_closed) {
  auto list = MemberList::create(path_, some_facts());
  ASSERT_TRUE(list);
  EXPECT_FALSE(MemberList::anybody_lives(path_));
  constexpr std::uint64_t kNumber = (std::uint64_t{3} << 32U) + 1;
  auto first = list->life(kNumber);
  auto again = list->life(kNumber);  // of a second connection
  ASSERT_TRUE(first && again);
  EXPECT_TRUE(list->lives(kNumber));
  EXPECT_FALSE(list->lives(kNumber + 1));
  first = fail(ErrorCode::kClosed, "");
  EXPECT_TRUE(list->lives(kNumber));
  EXPECT_TRUE(MemberList::anybody_lives(path_));
  again = fail(ErrorCode::kClosed, "");
  EXPECT_FALSE(list->lives(kNumber));
  EXPECT_FALSE(MemberList::anybody_lives(path_));
}

TEST_F(MemberListFile, a_life_descriptor_ends_with_its_process) {
  auto list = MemberList::create(path_, some_facts());
  ASSERT_TRUE(list);
  auto life = list->life(5);
  ASSERT_TRUE(life);
  int end[2];
  ASSERT_EQ(::pipe2(end, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(end[1]);
    char byte = 0;
    (void)!::read(end[0], &byte, 1);  // until the parent lets it go
    ::_exit(0);
  }
  life = fail(ErrorCode::kClosed, "");
  ::close(end[0]);
  EXPECT_TRUE(list->lives(5)) << "the child has it";
  ::close(end[1]);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_FALSE(list->lives(5));
}

TEST(Processes, a_start_time_tells_a_process_from_the_next_one_of_its_number) {
  EXPECT_NE(start_time_of(::getpid()), 0U);
  EXPECT_EQ(start_time_of(::getpid()), start_time_of(::getpid()));
  EXPECT_NE(own_pid_namespace(), 0U);
  EXPECT_EQ(boot_id().size(), 36U);
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  EXPECT_NE(start_time_of(child), 0U) << "it waits to be reaped";
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(start_time_of(child), 0U);
}

}  // namespace
}  // namespace tiercel::service
