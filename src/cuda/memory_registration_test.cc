// Goal: all of the memory is registered, in pieces that end where copies are cut, what is asked for first, not while it
// is paused, and given back.
#include "cuda/memory_registration.h"

#include "cuda/testing/fake_device.h"

#include <gtest/gtest.h>

#include <bit>
#include <functional>
#include <thread>

namespace tiercel::gpu {
namespace {

constexpr std::uint64_t kPiece = 4096;

class RegistrationTest : public testing::Test {
 protected:
  void wait_until_done(const MemoryRegistration& registration) {
    while (!registration.done()) std::this_thread::yield();
  }
  FakeDevice device_{GpuCopyOptions{}, 1};
  std::vector<std::byte> memory_ = std::vector<std::byte>(10 * kPiece);
};

TEST_F(RegistrationTest, pieces_end_at_their_boundary_and_are_given_back) {
  {
    MemoryRegistration registration(device_, {.piece_bytes = kPiece, .threads = 2});
    registration.add(memory_.data() + 100, memory_.size() - 100);
    wait_until_done(registration);
    EXPECT_EQ(registration.registered_bytes(), memory_.size() - 100);
    std::byte* next = memory_.data() + 100;
    for (const auto& [begin, bytes] : device_.pinned()) {
      EXPECT_EQ(begin, next) << "without gaps";
      next = begin + bytes;
      EXPECT_EQ(std::bit_cast<std::uintptr_t>(begin) / kPiece, (std::bit_cast<std::uintptr_t>(next) - 1) / kPiece);
    }
    EXPECT_EQ(next, memory_.data() + memory_.size());
  }
  EXPECT_TRUE(device_.pinned().empty());
}

TEST_F(RegistrationTest, nothing_is_registered_while_it_is_paused) {
  MemoryRegistration registration(device_, {.piece_bytes = kPiece, .threads = 2});
  registration.pause();
  registration.pause();
  registration.add(memory_.data(), memory_.size());
  registration.resume();
  for (int i = 0; i < 1000; ++i) std::this_thread::yield();
  EXPECT_TRUE(device_.pinned().empty());
  registration.resume();
  wait_until_done(registration);
  EXPECT_EQ(registration.registered_bytes(), memory_.size());
}

TEST_F(RegistrationTest, what_is_asked_for_comes_first_and_waits_for_nothing_while_it_is_paused) {
  MemoryRegistration registration(device_, {.piece_bytes = kPiece, .threads = 1});
  registration.pause();
  registration.add(memory_.data(), memory_.size());
  std::byte* const late = memory_.data() + 7 * kPiece + kPiece / 2;
  EXPECT_TRUE(registration.ask_for({&late, 1}, kPiece));
  std::uint64_t late_bytes = 0;  // of the two pieces that the range lies in
  const auto piece = [](const std::byte* at) { return std::bit_cast<std::uintptr_t>(at) / kPiece; };
  for (const std::byte& byte : memory_) {
    late_bytes += piece(&byte) >= piece(late) && piece(&byte) <= piece(late + kPiece - 1) ? 1U : 0U;
  }
  device_.limit_pinning(late_bytes);
  registration.resume();
  wait_until_done(registration);
  EXPECT_EQ(registration.registered_bytes(), late_bytes);
  std::byte* const stranger = nullptr;
  EXPECT_TRUE(registration.ask_for({&stranger, 1}, kPiece)) << "memory that nobody gave";
}

TEST_F(RegistrationTest, a_range_waits_until_its_last_piece_is_there) {
  device_.let_pins_wait(true);
  MemoryRegistration registration(device_, {.piece_bytes = kPiece, .threads = 2});
  registration.add(memory_.data(), memory_.size());
  std::byte* const first = memory_.data();
  EXPECT_FALSE(registration.ask_for({&first, 1}, 3 * kPiece));
  EXPECT_FALSE(registration.done());
  device_.let_pins_wait(false);
  while (!registration.ask_for({&first, 1}, 3 * kPiece)) std::this_thread::yield();
  EXPECT_GE(registration.registered_bytes(), 3 * kPiece);
  wait_until_done(registration);
  EXPECT_EQ(registration.registered_bytes(), memory_.size());
}

TEST_F(RegistrationTest, what_is_refused_ends_it_and_what_is_registered_stays) {
  device_.limit_pinning(3 * kPiece);
  MemoryRegistration registration(device_, {.piece_bytes = kPiece, .threads = 2});
  registration.add(memory_.data(), memory_.size());
  wait_until_done(registration);
  EXPECT_GT(registration.registered_bytes(), kPiece);
  EXPECT_LE(registration.registered_bytes(), 3 * kPiece);
}

}  // namespace
}  // namespace tiercel::gpu
