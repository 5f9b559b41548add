// Goal: a stream cut anywhere gives the same frames; what is no frame is refused before anything is kept for it.
#include "service/wire/frame.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace tiercel::wire {
namespace {

using Bytes = std::vector<std::byte>;

Bytes stream_of(const std::vector<Bytes>& payloads) {
  OutBuffer out;
  for (const Bytes& payload : payloads) out.add_frame(payload);
  return {out.pending().begin(), out.pending().end()};
}

/// Feeds the bytes in pieces of the given sizes (the last one goes on), and gives every payload that came.
std::vector<Bytes> read_in_pieces(FrameReader& reader, std::span<const std::byte> bytes,
                                  const std::vector<std::size_t>& pieces) {
  std::vector<Bytes> read;
  for (std::size_t i = 0; !bytes.empty(); ++i) {
    const std::size_t wanted = pieces.empty() ? bytes.size() : pieces[std::min(i, pieces.size() - 1)];
    const auto room = reader.room();
    EXPECT_GE(room.size(), 4096U);
    const std::size_t taken = std::min({std::max<std::size_t>(wanted, 1), room.size(), bytes.size()});
    std::memcpy(room.data(), bytes.data(), taken);
    reader.filled(taken);
    bytes = bytes.subspan(taken);
    for (;;) {
      const auto payload = reader.next();
      EXPECT_TRUE(payload);
      if (!payload || !*payload) break;
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>((*payload)->data()) % 8, 0U);
      read.emplace_back((*payload)->begin(), (*payload)->end());
    }
  }
  return read;
}

/// What a reader that allows `most` bytes says to a header.
bool refuses(std::uint32_t length, std::uint32_t marks, std::size_t most) {
  FrameReader reader(most);
  const std::uint32_t head[] = {length, marks};
  std::memcpy(reader.room().data(), head, sizeof(head));
  reader.filled(sizeof(head));
  return !reader.next();
}

TEST(Frame, every_cut_of_a_stream_in_two_gives_the_same_frames) {
  const std::vector<Bytes> payloads = {Bytes(1, std::byte{1}), Bytes(8, std::byte{2}), Bytes(21, std::byte{3})};
  const Bytes stream = stream_of(payloads);
  ASSERT_EQ(stream.size(), 3 * kFrameHeaderBytes + 8 + 8 + 24);
  for (std::size_t cut = 1; cut < stream.size(); ++cut) {
    FrameReader reader(64);
    ASSERT_EQ(read_in_pieces(reader, stream, {cut, stream.size()}), payloads) << cut;
  }
}

RC_GTEST_PROP(Frame, any_payloads_arrive_through_any_cuts, ()) {
  const auto sizes = *rc::gen::container<std::vector<std::size_t>>(
      rc::gen::oneOf(rc::gen::inRange<std::size_t>(1, 64), rc::gen::inRange<std::size_t>(1, 200'000)));
  const auto pieces = *rc::gen::container<std::vector<std::size_t>>(
      rc::gen::oneOf(rc::gen::inRange<std::size_t>(1, 40), rc::gen::inRange<std::size_t>(1000, 100'000)));
  std::vector<Bytes> payloads;
  for (std::size_t i = 0; i < sizes.size(); ++i) payloads.emplace_back(sizes[i], static_cast<std::byte>(i + 1));
  FrameReader reader(200'000);
  const bool quick = pieces.empty() || pieces.back() >= 1000;
  auto cuts = pieces;
  if (!quick) cuts.push_back(50'000);  // the rest in large pieces: byte by byte would take long
  RC_ASSERT(read_in_pieces(reader, stream_of(payloads), cuts) == payloads);
}

TEST(Frame, a_length_of_zero_or_beyond_the_limit_is_refused_by_its_header_alone) {
  EXPECT_FALSE(refuses(1, 0, 100));
  EXPECT_FALSE(refuses(100, 0, 100));
  EXPECT_TRUE(refuses(0, 0, 100));
  EXPECT_TRUE(refuses(101, 0, 100));
  EXPECT_TRUE(refuses(0xFFFFFFFF, 0, 100));
}

TEST(Frame, the_marks_must_be_zero) {
  EXPECT_TRUE(refuses(8, 1, 100));
  EXPECT_TRUE(refuses(8, 0x80000000, 100));
}

TEST(Frame, padding_is_written_as_zero_and_not_given_out) {
  const Bytes stream = stream_of({Bytes(3, std::byte{0xFF})});
  ASSERT_EQ(stream.size(), kFrameHeaderBytes + 8);
  EXPECT_TRUE(std::ranges::all_of(std::span(stream).last(5), [](std::byte b) { return b == std::byte{0}; }));
}

RC_GTEST_PROP(OutBuffer, what_is_sent_in_any_pieces_is_the_whole_stream, ()) {
  const auto sizes = *rc::gen::container<std::vector<std::size_t>>(rc::gen::inRange<std::size_t>(1, 100'000));
  std::vector<Bytes> payloads;
  for (std::size_t i = 0; i < sizes.size(); ++i) payloads.emplace_back(sizes[i], static_cast<std::byte>(i));
  OutBuffer out;
  Bytes sent;
  const auto send_some = [&](std::size_t most) {
    const std::size_t taken = std::min(most, out.pending().size());
    sent.insert(sent.end(), out.pending().begin(), out.pending().begin() + static_cast<std::ptrdiff_t>(taken));
    out.sent(taken);
  };
  for (const Bytes& payload : payloads) {
    out.add_frame(payload);
    send_some(*rc::gen::inRange<std::size_t>(0, 120'000));
  }
  while (!out.empty()) send_some(70'000);
  RC_ASSERT(sent == stream_of(payloads));
}

}  // namespace
}  // namespace tiercel::wire
