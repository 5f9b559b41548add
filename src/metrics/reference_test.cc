// Goal: docs/metrics.md says what the table of metrics says. TIERCEL_REGENERATE=1 writes it again.
#include "metrics/reference.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace tiercel::metrics {
namespace {

TEST(MetricsReference, file_is_what_the_table_says) {
  if (std::getenv("TIERCEL_REGENERATE") != nullptr) std::ofstream(TIERCEL_REFERENCE) << reference_markdown();
  std::ifstream file(TIERCEL_REFERENCE);
  ASSERT_TRUE(file) << "docs/metrics.md is missing; run this test with TIERCEL_REGENERATE=1";
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), reference_markdown()) << "run this test with TIERCEL_REGENERATE=1";
}

}  // namespace
}  // namespace tiercel::metrics
