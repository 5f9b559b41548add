// AdminToken: the secret that admits admin calls on TCP, read from a file (http.admin_token_file).
//
// Only its SHA-256 is kept, and digests are compared without a branch on their bytes: neither the token's length nor
// how far a guess is right shows in the time. It is never logged. Immutable; safe from any thread.
// FailureLimit: how many wrong tokens are looked at; one mutex, a leaf.
#pragma once

#include "base/mutex.h"

#include <tiercel/block.h>
#include <tiercel/result.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace tiercel::service {

class AdminToken {
 public:
  static constexpr std::size_t kShortest = 16;
  static constexpr std::size_t kLongest = 1024;

  /// The file's only line. kInvalidArgument: not a regular file, readable by others than its owner, of another owner
  /// than this process' user or root, or not 16 to 1,024 visible characters. kNotFound, kIo: it cannot be read.
  [[nodiscard]] static Result<AdminToken> read(const std::string& path);

  [[nodiscard]] bool matches(std::string_view given) const;

 private:
  explicit AdminToken(const BlockHash& digest) : digest_(digest) {}
  BlockHash digest_;  // SHA-256 of the token
};

/// More than kMost failures within kWindowNs, and every call is refused, right tokens too, until the window is over.
class FailureLimit {
 public:
  static constexpr std::uint32_t kMost = 10;
  static constexpr std::uint64_t kWindowNs = 10'000'000'000;

  /// 0: calls are looked at. Else how many nanoseconds to wait.
  [[nodiscard]] std::uint64_t wait_ns(std::uint64_t now_ns) const;
  void failed(std::uint64_t now_ns);

 private:
  mutable Mutex mutex_;
  std::uint64_t began_ns_ TIERCEL_GUARDED_BY(mutex_) = 0;  // of the window
  std::uint32_t failures_ TIERCEL_GUARDED_BY(mutex_) = 0;  // in it
};

}  // namespace tiercel::service
