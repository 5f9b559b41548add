// TraceFile: a file with a trace, for tests of its formats; it goes with the fixture.
#pragma once

#include "workload/read_workload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <zstd.h>

#include <cstdio>
#include <string>
#include <vector>

namespace tiercel {

class TraceFile : public testing::Test {
 protected:
  ~TraceFile() override { (void)std::remove(path_.c_str()); }
  void write(const std::string& bytes) {
    std::FILE* file = std::fopen(path_.c_str(), "wbe");
    ASSERT_NE(file, nullptr);
    ASSERT_EQ(std::fwrite(bytes.data(), 1, bytes.size(), file), bytes.size());
    ASSERT_EQ(std::fclose(file), 0);
  }
  Workload read(const std::string& bytes, const SessionLayout& layout = {}) {
    write(bytes);
    auto workload = read_workload(path_, layout);
    if (!workload) ADD_FAILURE() << workload.error().message;
    return workload ? *std::move(workload) : Workload{};
  }
  /// Without the path, with which it must begin.
  std::string error_of(const std::string& bytes) {
    write(bytes);
    const auto workload = read_workload(path_);
    if (workload) return "(accepted)";
    EXPECT_THAT(workload.error().message, testing::StartsWith(path_));
    return workload.error().message.substr(path_.size());
  }
  static std::vector<WorkloadBlock> blocks(const Workload& workload, std::size_t request) {
    const auto span = workload.blocks_of(workload.requests.at(request));
    return {span.begin(), span.end()};
  }
  static std::string compressed(const std::string& text) {
    std::string packed(ZSTD_compressBound(text.size()), '\0');
    packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
    return packed;
  }

  std::string path_ = testing::TempDir() + "tiercel_trace_" + std::to_string(getpid());
};

}  // namespace tiercel
