// Goal: the error table has one distinct name a code, and TIERCEL_TRY passes errors on unchanged.
#include "base/try.h"

#include <gtest/gtest.h>

#include <set>

namespace tiercel {
namespace {

Result<int> half(int n) {
  if (n % 2 != 0) return fail(ErrorCode::kInvalidArgument, "odd", 7);
  return n / 2;
}

Result<int> quarter(int n) {
  TIERCEL_TRY_ASSIGN(const int once, half(n));
  TIERCEL_TRY(half(once));
  return half(once);
}

TEST(Result, every_code_has_a_name_of_its_own) {
  std::set<std::string_view> names;
  for (int code = 1; code <= 13; ++code) names.insert(error_name(static_cast<ErrorCode>(code)));
  EXPECT_EQ(names.size(), 13U);
  EXPECT_FALSE(names.contains("unknown"));
  EXPECT_EQ(error_name(static_cast<ErrorCode>(14)), "unknown");
}

TEST(Result, try_passes_value_and_error_on) {
  EXPECT_EQ(quarter(8).value(), 2);
  const auto bad = quarter(6);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(bad.error().os_error, 7);
  EXPECT_EQ(bad.error().message, "odd");
}

}  // namespace
}  // namespace tiercel
