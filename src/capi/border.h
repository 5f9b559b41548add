// The border of the C interface: nothing throws across it, every failure leaves a code and a sentence.
//
// guarded() runs the body of a call and turns its Status, or whatever was thrown, into a tiercel_status; the sentence
// is kept for the calling thread. The checks here are for arguments that C cannot make impossible.
#pragma once

#include <tiercel/c.h>
#include <tiercel/result.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <utility>

namespace tiercel::capi {

/// Keeps the sentence for tiercel_last_error and answers the code.
tiercel_status report(const Error& error) noexcept;
/// For what is in flight in a catch block.
tiercel_status report_exception() noexcept;

template <class Body>
[[nodiscard]] tiercel_status guarded(Body&& body) noexcept {
  try {
    const Status status = std::forward<Body>(body)();
    return status ? TIERCEL_OK : report(status.error());
  } catch (...) {
    return report_exception();
  }
}

/// kInvalidArgument "NAME is NULL" unless `is_set`.
[[nodiscard]] Status require_set(bool is_set, std::string_view name);
[[nodiscard]] Status require(const auto* pointer, std::string_view name) {
  return require_set(pointer != nullptr, name);
}

/// An array may be NULL only if it is empty. kInvalidArgument names both.
[[nodiscard]] Status require_array(const void* pointer, std::size_t count, std::string_view name);

/// kInvalidArgument unless block < blocks.
[[nodiscard]] Status require_block(std::size_t block, std::size_t blocks);

/// kInvalidArgument unless blocks <= of: a count of leading blocks of a chain.
[[nodiscard]] Status require_blocks(std::size_t blocks, std::size_t of);

/// NULL reads as "".
[[nodiscard]] inline std::string_view text_or_empty(const char* text) { return text == nullptr ? "" : text; }

/// A time from C: what does not fit std::chrono is as far away as it can be.
[[nodiscard]] inline std::chrono::nanoseconds nanoseconds(std::uint64_t ns) {
  return std::chrono::nanoseconds(static_cast<std::int64_t>(ns > INT64_MAX ? INT64_MAX : ns));
}

}  // namespace tiercel::capi
