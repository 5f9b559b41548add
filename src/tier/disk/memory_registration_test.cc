#include "tier/disk/memory_registration.h"

#include "io/decorator.h"
#include "io/memory_file_system.h"
#include "tier/disk/format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <memory>
#include <vector>

namespace tiercel::disk {
namespace {

constexpr std::uint64_t kPiece = 64 * kPageBytes;
constexpr std::uint64_t kPieceTime = 2'000'000;  // that registering a piece takes

/// Notes what is registered, takes its time for it, and refuses after `room` bytes.
class Registry final : public IoDecorator {
 public:
  Registry(std::unique_ptr<IoBackend> inner, ManualClock& clock) : IoDecorator(std::move(inner)), clock_(clock) {}
  Status register_memory(std::span<const struct iovec> memory) override {
    ++calls;
    clock_.advance(kPieceTime);
    for (const struct iovec& piece : memory) {
      if (piece.iov_len > room) return fail(ErrorCode::kUnsupported, "no more");
      room -= piece.iov_len;
      pieces.push_back(piece);
    }
    return {};
  }

  std::uint64_t room = UINT64_MAX;
  int calls = 0;
  std::vector<struct iovec> pieces;

 private:
  ManualClock& clock_;
};

class MemoryRegistrationTest : public testing::Test {
 protected:
  void SetUp() override {
    files_.make_directory("/disk");
    auto opened = files_.open("/disk/file", {.create = true});
    ASSERT_TRUE(opened);
    backend_ = std::make_unique<Registry>(std::move(*opened), clock_);
    options_.memory_piece_bytes = kPiece;
    options_.memory = {{.iov_base = at(0), .iov_len = 2 * kPiece + kPageBytes},
                       {.iov_base = at(8 * kPiece), .iov_len = kPiece}};
  }
  /// Addresses that nobody reads.
  static void* at(std::uint64_t offset) { return std::bit_cast<void*>((std::uint64_t{1} << 40U) + offset); }
  void run(MemoryRegistration& registration) {
    while (registration.next_event() != UINT64_MAX) {
      const std::uint64_t event_ns = registration.next_event();
      if (event_ns > clock_.now_ns()) clock_.advance(event_ns - clock_.now_ns());
      registration.step(*backend_);
    }
  }

  ManualClock clock_;
  MemoryFileSystem files_;
  DiskOptions options_;
  std::unique_ptr<Registry> backend_;
};

TEST_F(MemoryRegistrationTest, RegistersAllOfItOncePieceByPiece) {
  MemoryRegistration registration(options_, clock_);
  registration.step(*backend_);
  EXPECT_EQ(backend_->calls, 1) << "one piece a step";
  run(registration);
  ASSERT_EQ(backend_->pieces.size(), 4U);
  EXPECT_EQ(backend_->pieces[0].iov_base, at(0));
  EXPECT_EQ(backend_->pieces[1].iov_base, at(kPiece));
  EXPECT_EQ(backend_->pieces[2].iov_base, at(2 * kPiece));
  EXPECT_EQ(backend_->pieces[2].iov_len, kPageBytes);
  EXPECT_EQ(backend_->pieces[3].iov_base, at(8 * kPiece));
  EXPECT_EQ(registration.registered_bytes(), 3 * kPiece + kPageBytes);
  registration.step(*backend_);
  EXPECT_EQ(backend_->calls, 4);
}

TEST_F(MemoryRegistrationTest, LeavesNineTenthsOfTheTimeToTheDriver) {
  MemoryRegistration registration(options_, clock_);
  registration.step(*backend_);
  EXPECT_EQ(registration.next_event(), clock_.now_ns() + 9 * kPieceTime);
  clock_.advance(9 * kPieceTime - 1);
  registration.step(*backend_);
  EXPECT_EQ(backend_->calls, 1);
  clock_.advance(1);
  registration.step(*backend_);
  EXPECT_EQ(backend_->calls, 2);
}

TEST_F(MemoryRegistrationTest, WaitsUntilThePagesAreThere) {
  bool ready = false;
  options_.memory_ready = [&ready] { return ready; };
  MemoryRegistration registration(options_, clock_);
  registration.step(*backend_);
  EXPECT_EQ(backend_->calls, 0);
  EXPECT_EQ(registration.next_event(), UINT64_MAX);
  ready = true;
  registration.step(*backend_);
  EXPECT_EQ(backend_->calls, 1);
}

TEST_F(MemoryRegistrationTest, ARefusalEndsItUntilAnotherFileIsOpened) {
  backend_->room = kPiece;
  MemoryRegistration registration(options_, clock_);
  registration.step(*backend_);
  run(registration);
  EXPECT_EQ(backend_->calls, 2);
  EXPECT_EQ(registration.registered_bytes(), kPiece);
  clock_.advance(1'000'000'000'000);
  registration.step(*backend_);
  EXPECT_EQ(backend_->calls, 2) << "it is not asked again";
  backend_->room = UINT64_MAX;
  registration.reset();
  registration.step(*backend_);
  run(registration);
  EXPECT_EQ(registration.registered_bytes(), 3 * kPiece + kPageBytes);
}

TEST_F(MemoryRegistrationTest, PiecesGrowWithTheMemorySoThatTheyStayFew) {
  constexpr std::uint64_t kGiB = std::uint64_t{1} << 30U;
  options_.memory = {{.iov_base = at(0), .iov_len = 512 * kGiB}};
  options_.memory_piece_bytes = 64U << 20U;
  MemoryRegistration registration(options_, clock_);
  registration.step(*backend_);
  run(registration);
  EXPECT_EQ(registration.registered_bytes(), 512 * kGiB);
  EXPECT_EQ(backend_->pieces.size(), 1024U);
  for (const struct iovec& piece : backend_->pieces) EXPECT_EQ(piece.iov_len, kGiB / 2);
}

TEST_F(MemoryRegistrationTest, NothingToRegisterIsNothingToDo) {
  options_.memory.clear();
  MemoryRegistration registration(options_, clock_);
  registration.step(*backend_);
  EXPECT_EQ(registration.next_event(), UINT64_MAX);
  EXPECT_EQ(backend_->calls, 0);
}

}  // namespace
}  // namespace tiercel::disk
