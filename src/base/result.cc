#include <tiercel/result.h>

namespace tiercel {

std::string_view error_name(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "invalid_argument";
    case ErrorCode::kUnknownKey:
      return "unknown_key";
    case ErrorCode::kUnsupported:
      return "unsupported";
    case ErrorCode::kNotFound:
      return "not_found";
    case ErrorCode::kOutOfMemory:
      return "out_of_memory";
    case ErrorCode::kLimit:
      return "limit";
    case ErrorCode::kClosed:
      return "closed";
    case ErrorCode::kTimeout:
      return "timeout";
    case ErrorCode::kIo:
      return "io";
    case ErrorCode::kCorrupt:
      return "corrupt";
    case ErrorCode::kDropped:
      return "dropped";
    case ErrorCode::kNoParent:
      return "no_parent";
    case ErrorCode::kIncomplete:
      return "incomplete";
  }
  return "unknown";
}

}  // namespace tiercel
