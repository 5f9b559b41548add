// Goal: mappings are aligned, writable, sealed where they are memfds, and errors are sentences.
#include "base/mapping.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>

namespace tiercel {
namespace {

class MappingKinds : public testing::TestWithParam<std::tuple<ArenaKind, HugePages>> {};

TEST_P(MappingKinds, gives_zeroed_writable_aligned_pages) {
  const auto [kind, huge] = GetParam();
  auto mapping = Mapping::create({.bytes = 3'000'000, .huge_pages = huge, .kind = kind});
  ASSERT_TRUE(mapping) << mapping.error().message;
  EXPECT_EQ(mapping->bytes(), 4_MiB);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(mapping->data()) % kHugePageBytes, 0U);
  if (auto status = mapping->populate(0, 2_MiB); !status) {
    EXPECT_EQ(status.error().code, ErrorCode::kUnsupported) << status.error().message;
  }
  EXPECT_TRUE(
      std::all_of(mapping->data(), mapping->data() + mapping->bytes(), [](std::byte b) { return b == std::byte{0}; }));
  mapping->data()[mapping->bytes() - 1] = std::byte{7};
  EXPECT_LE(mapping->huge_bytes(), mapping->bytes());
  EXPECT_EQ(mapping->fd() >= 0, kind == ArenaKind::kMemfd);
  if (mapping->fd() >= 0) {
    EXPECT_NE(ftruncate(mapping->fd(), 4096), 0) << "a sealed memfd cannot shrink";
    EXPECT_NE(ftruncate(mapping->fd(), 1 << 30), 0) << "a sealed memfd cannot grow";
    EXPECT_NE(fcntl(mapping->fd(), F_ADD_SEALS, F_SEAL_WRITE), 0) << "no further seals";
    void* again = mmap(nullptr, mapping->bytes(), PROT_READ, MAP_SHARED, mapping->fd(), 0);
    ASSERT_NE(again, MAP_FAILED);
    EXPECT_EQ(static_cast<std::byte*>(again)[mapping->bytes() - 1], std::byte{7}) << "another process sees the bytes";
    munmap(again, mapping->bytes());
  }
}

INSTANTIATE_TEST_SUITE_P(All, MappingKinds,
                         testing::Combine(testing::Values(ArenaKind::kAnonymous, ArenaKind::kMemfd),
                                          testing::Values(HugePages::kAuto, HugePages::kOff)));

TEST(Mapping, refuses_impossible_sizes_with_the_key) {
  EXPECT_EQ(Mapping::create({.bytes = 0, .name = "host.capacity"}).error().code, ErrorCode::kInvalidArgument);
  const auto huge = Mapping::create({.bytes = std::uint64_t{1} << 47U, .name = "host.capacity"});
  ASSERT_FALSE(huge);
  EXPECT_EQ(huge.error().code, ErrorCode::kOutOfMemory);
  EXPECT_NE(huge.error().message.find("host.capacity"), std::string::npos);
}

TEST(Mapping, a_reserved_place_is_filled_with_memory_of_its_own_or_with_another_s) {
  auto own = Mapping::reserve(4_MiB);
  ASSERT_TRUE(own) << own.error().message;
  std::byte* const place = own->data();
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(place) % kHugePageBytes, 0U);
  EXPECT_EQ(own->fd(), -1);
  ASSERT_TRUE(own->fill({.bytes = 4_MiB, .kind = ArenaKind::kMemfd}));
  EXPECT_EQ(own->data(), place) << "addresses that were given out stay";
  own->data()[4_MiB - 1] = std::byte{9};

  auto adopted = Mapping::reserve(4_MiB);
  ASSERT_TRUE(adopted);
  ASSERT_TRUE(adopted->fill_with(dup(own->fd()), HugePages::kAuto));
  EXPECT_EQ(adopted->data()[4_MiB - 1], std::byte{9});
}

TEST(Mapping, a_reserved_place_takes_only_what_is_sealed_and_of_its_size) {
  auto reserved = Mapping::reserve(4_MiB);
  ASSERT_TRUE(reserved);
  auto other = Mapping::create({.bytes = 2_MiB, .kind = ArenaKind::kMemfd});
  ASSERT_TRUE(other);
  EXPECT_EQ(reserved->fill_with(dup(other->fd()), HugePages::kAuto).error().code, ErrorCode::kInvalidArgument);
  const int open_ended = memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ASSERT_EQ(ftruncate(open_ended, 4_MiB), 0);
  EXPECT_EQ(reserved->fill_with(open_ended, HugePages::kAuto).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(reserved->fd(), -1);
  ASSERT_TRUE(reserved->fill({.bytes = 4_MiB, .kind = ArenaKind::kMemfd})) << "it can still be filled";
}

TEST(Mapping, a_forked_child_inherits_no_shared_mapping) {
  auto made = Mapping::create({.bytes = 2_MiB, .kind = ArenaKind::kMemfd});
  ASSERT_TRUE(made);
  auto opened = Mapping::of_memfd(dup(made->fd()), 2_MiB);
  ASSERT_TRUE(opened);
  auto filled = Mapping::reserve(2_MiB);
  ASSERT_TRUE(filled);
  ASSERT_TRUE(filled->fill_with(dup(made->fd()), HugePages::kAuto));
  const pid_t child = fork();
  if (child == 0) {
    unsigned char resident[2_MiB / 4096];
    int mapped = 0;  // mincore says ENOMEM of what is not mapped
    for (const Mapping* one : {&*made, &*opened, &*filled}) {
      if (mincore(one->data(), 2_MiB, resident) == 0) ++mapped;
    }
    _exit(mapped);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Mapping, moves_leave_nothing_behind) {
  auto first = Mapping::create({.bytes = 2_MiB});
  ASSERT_TRUE(first);
  std::byte* data = first->data();
  Mapping second = std::move(*first);
  EXPECT_EQ(first->data(), nullptr);
  EXPECT_EQ(second.data(), data);
  second = Mapping();
  EXPECT_EQ(second.bytes(), 0U);
}

}  // namespace
}  // namespace tiercel
