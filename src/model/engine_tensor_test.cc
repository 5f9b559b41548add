// Goal: a tensor that could make a copy leave its memory, or overlap itself, is refused with tensor and axis named.
#include "model/engine_tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace tiercel {
namespace {

using testing::HasSubstr;

class TensorCheck : public testing::Test {
 protected:
  /// 4 pages, [kv][head][token][inner] = 2 x 2 x 4 x 8 bytes each.
  EngineTensor good() {
    return {.name = "layer.0",
            .base = memory_.data(),
            .storage_bytes = memory_.size(),
            .axes = {{Axis::kPage, 4, 128},
                     {Axis::kKv, 2, 64},
                     {Axis::kHead, 2, 32},
                     {Axis::kToken, 4, 8},
                     {Axis::kInner, 8, 1}}};
  }
  static std::string error_of(const EngineTensor& tensor) {
    const Status status = check_tensor(tensor);
    return status ? "" : status.error().message;
  }
  static TensorAxis& axis(EngineTensor& tensor, Axis which) {
    return *std::ranges::find(tensor.axes, which, &TensorAxis::axis);
  }

  std::vector<std::byte> memory_ = std::vector<std::byte>(512);
};

TEST_F(TensorCheck, takes_a_tensor_that_fills_its_storage_exactly) {
  EngineTensor tensor = good();
  EXPECT_EQ(error_of(tensor), "");
  tensor.storage_bytes = 511;
  EXPECT_THAT(error_of(tensor), HasSubstr("tensor layer.0: axis page of size 4 and stride 128 reaches byte 512 of a "
                                          "storage of 511 bytes"));
}

TEST_F(TensorCheck, padding_after_the_last_page_need_not_be_there) {
  EngineTensor tensor = good();
  axis(tensor, Axis::kPage).stride_bytes = 160;
  tensor.storage_bytes = 3 * 160 + 128;
  EXPECT_THAT(error_of(tensor), "");
  tensor.storage_bytes -= 1;
  EXPECT_THAT(error_of(tensor), HasSubstr("axis page"));
}

TEST_F(TensorCheck, names_a_missing_or_doubled_axis) {
  EngineTensor tensor = good();
  tensor.axes.erase(tensor.axes.begin());
  EXPECT_THAT(error_of(tensor), HasSubstr("axis page is missing"));
  tensor = good();
  tensor.axes.pop_back();
  EXPECT_THAT(error_of(tensor), HasSubstr("axis inner is missing"));
  tensor = good();
  tensor.axes.push_back({Axis::kHead, 1, 1});
  EXPECT_THAT(error_of(tensor), HasSubstr("axis head is given twice"));
  tensor = good();
  tensor.axes[0].axis = static_cast<Axis>(9);
  EXPECT_THAT(error_of(tensor), HasSubstr("axis 9 is unknown"));
}

TEST_F(TensorCheck, names_a_bad_size_or_stride) {
  EngineTensor tensor = good();
  axis(tensor, Axis::kHead).size = 0;
  EXPECT_THAT(error_of(tensor), HasSubstr("axis head has size 0"));
  tensor = good();
  axis(tensor, Axis::kKv).size = 3;
  EXPECT_THAT(error_of(tensor), HasSubstr("axis kv has size 3; it must be 2"));
  tensor = good();
  axis(tensor, Axis::kInner).stride_bytes = 2;
  EXPECT_THAT(error_of(tensor), HasSubstr("axis inner has a stride of 2 bytes; it must be 1"));
  tensor = good();
  axis(tensor, Axis::kToken).stride_bytes = -8;
  EXPECT_THAT(error_of(tensor), HasSubstr("axis token has a stride of -8 bytes"));
  tensor = good();
  tensor.base = nullptr;
  EXPECT_THAT(error_of(tensor), HasSubstr("base is null"));
}

TEST_F(TensorCheck, refuses_elements_that_overlap) {
  EngineTensor tensor = good();
  axis(tensor, Axis::kToken).stride_bytes = 7;
  EXPECT_THAT(error_of(tensor), HasSubstr("axis token has a stride of 7 bytes, less than the 8 bytes"));
  tensor = good();
  axis(tensor, Axis::kHead).stride_bytes = 8;  // the same as the token axis
  EXPECT_THAT(error_of(tensor), HasSubstr("overlap"));
}

TEST_F(TensorCheck, a_stride_of_an_axis_of_one_step_does_not_matter) {
  EngineTensor tensor = good();
  axis(tensor, Axis::kHead) = {Axis::kHead, 1, -5};
  EXPECT_EQ(error_of(tensor), "");
  EXPECT_EQ(tensor.axis(Axis::kHead).stride_bytes, 0);
}

TEST_F(TensorCheck, sizes_that_overflow_are_out_of_the_storage) {
  EngineTensor tensor = good();
  axis(tensor, Axis::kPage) = {Axis::kPage, std::numeric_limits<std::uint64_t>::max(), 128};
  EXPECT_THAT(error_of(tensor), HasSubstr("spans more than 2^64 bytes"));
  tensor = good();
  tensor.storage_bytes = std::numeric_limits<std::uint64_t>::max();
  EXPECT_THAT(error_of(tensor), HasSubstr("passes the end of memory"));
}

}  // namespace
}  // namespace tiercel
