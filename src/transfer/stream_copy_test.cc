// Goal: every kernel that this processor has moves exactly the rows it is given, at any alignment, and no byte beside.
#include "transfer/stream_copy.h"

#include "base/random.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace tiercel {
namespace {

class StreamKernels : public testing::TestWithParam<StreamKernel> {
 protected:
  void SetUp() override {
    if (!kernel_supported(GetParam())) GTEST_SKIP() << "this processor does not have the instructions of this kernel";
  }
};

TEST_P(StreamKernels, move_rows_of_any_size_and_alignment) {
  Random random(11);
  for (int round = 0; round < 400; ++round) {
    const std::uint64_t row = 1 + random.below(round % 8 == 0 ? 9000 : 700);
    const MoveLevel inner{1 + random.below(4), row + random.below(90), row + random.below(90)};
    const MoveLevel outer{1 + random.below(3), inner.count * inner.to_stride_bytes + random.below(90),
                          inner.count * inner.from_stride_bytes + random.below(90)};
    const std::uint64_t to_offset = random.below(130);
    const std::uint64_t from_offset = random.below(130);
    std::vector<std::byte> from(from_offset + outer.count * outer.from_stride_bytes + 64);
    for (std::byte& b : from) b = static_cast<std::byte>(random.next() & 0xFFU);
    std::vector<std::byte> to(to_offset + outer.count * outer.to_stride_bytes + 64, std::byte{0xAB});
    std::vector<std::byte> expected = to;
    for (std::uint64_t o = 0; o < outer.count; ++o) {
      for (std::uint64_t i = 0; i < inner.count; ++i) {
        std::memcpy(expected.data() + to_offset + o * outer.to_stride_bytes + i * inner.to_stride_bytes,
                    from.data() + from_offset + o * outer.from_stride_bytes + i * inner.from_stride_bytes, row);
      }
    }
    const Move move{.to = to.data() + to_offset,
                    .from = from.data() + from_offset,
                    .row_bytes = row,
                    .outer = outer,
                    .inner = inner};
    std::vector<std::byte> plain = to;
    stream_move(GetParam(), move, from.data());
    stream_fence();
    ASSERT_EQ(to, expected) << "round " << round << ", row of " << row;
    Move again = move;
    again.to = plain.data() + to_offset;
    plain_move(again);
    ASSERT_EQ(plain, expected);
  }
}

INSTANTIATE_TEST_SUITE_P(All, StreamKernels,
                         testing::Values(StreamKernel::kPortable, StreamKernel::kAvx2, StreamKernel::kAvx512));

TEST(StreamKernel, the_best_one_is_supported) { EXPECT_TRUE(kernel_supported(best_stream_kernel())); }

}  // namespace
}  // namespace tiercel
