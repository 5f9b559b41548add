// Result<T>, Status and Error: how every fallible call of Tiercel answers.
//
// A miss, a full cache or a busy queue are outcomes, not errors (see session.h). An Error carries a code of the table
// below, the operating system's number where there is one, and a sentence that names the key, the value and what would
// be valid. Nothing inside throws; std::bad_alloc is caught at the public border and comes back as kOutOfMemory.
#pragma once

#include <tiercel/export.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace tiercel {

/// The one table of error codes. `error_name` gives the short name used in metrics and in the C ABI.
enum class ErrorCode : std::uint8_t {
  kInvalidArgument = 1,  ///< a value is malformed or out of its range
  kUnknownKey = 2,       ///< a configuration key or option that does not exist
  kUnsupported = 3,      ///< well-formed, but this version or this machine cannot do it
  kNotFound = 4,         ///< a file, a directory or an object that should exist does not
  kOutOfMemory = 5,      ///< memory, address space or a configured capacity is exhausted
  kLimit = 6,            ///< a configured bound (sessions, pins, namespaces) is reached
  kClosed = 7,           ///< the cache or the session is closed
  kTimeout = 8,          ///< the deadline passed first
  kIo = 9,               ///< the operating system reported an error; see `os_error`
  kCorrupt = 10,         ///< data does not agree with its checksum or format
  kDropped = 11,         ///< the block was deleted while it was being written
  kNoParent = 12,        ///< the block before this one is no longer in the cache
  kIncomplete = 13,      ///< not all members of the session group have reported their part
};

/// The short name of a code: "invalid_argument", "timeout", ...; "unknown" for a value outside the table.
[[nodiscard]] TIERCEL_API std::string_view error_name(ErrorCode code) noexcept;

struct Error {
  ErrorCode code = ErrorCode::kInvalidArgument;
  int os_error = 0;     ///< errno, or 0
  std::string message;  ///< one sentence for a person
};

/// A value or an Error. `tl::expected` with [[nodiscard]].
template <class T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using tl::expected<T, Error>::expected;
};

using Status = Result<void>;

/// Builds the error side of a Result.
[[nodiscard]] inline tl::unexpected<Error> fail(ErrorCode code, std::string message, int os_error = 0) {
  return tl::unexpected<Error>(Error{.code = code, .os_error = os_error, .message = std::move(message)});
}

}  // namespace tiercel
