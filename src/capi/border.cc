#include "capi/border.h"

#include <fmt/format.h>

#include <stdexcept>

namespace tiercel::capi {
namespace {

struct LastError {
  std::string text;
  const char* shown = "";  // text, or a literal where there was no memory for text
};

LastError& last_error() noexcept {
  thread_local LastError last;
  return last;
}

tiercel_status keep(ErrorCode code, std::string_view sentence) noexcept {
  LastError& last = last_error();
  try {
    last.text = sentence;
    last.shown = last.text.c_str();
  } catch (...) {
    last.shown = "out of memory";
  }
  return static_cast<tiercel_status>(code);
}

}  // namespace

tiercel_status report(const Error& error) noexcept { return keep(error.code, error.message); }

tiercel_status report_exception() noexcept {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return keep(ErrorCode::kOutOfMemory, "out of memory");
  } catch (const std::length_error&) {
    return keep(ErrorCode::kOutOfMemory, "a size is beyond what memory can hold");
  } catch (const std::exception& error) {
    return keep(ErrorCode::kIo, error.what());  // std::system_error of a thread or a mutex, in practice
  } catch (...) {
    return keep(ErrorCode::kIo, "an unknown exception");
  }
}

Status require_set(bool is_set, std::string_view name) {
  if (!is_set) return fail(ErrorCode::kInvalidArgument, fmt::format("{} is NULL", name));
  return {};
}

Status require_array(const void* pointer, std::size_t count, std::string_view name) {
  if (pointer == nullptr && count != 0) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("{} is NULL, but its count is {}", name, count));
  }
  return {};
}

Status require_block(std::size_t block, std::size_t blocks) {
  if (block < blocks) return {};
  return fail(ErrorCode::kInvalidArgument, fmt::format("block {} of {}; the first is 0", block, blocks));
}

Status require_blocks(std::size_t blocks, std::size_t of) {
  if (blocks <= of) return {};
  return fail(ErrorCode::kInvalidArgument, fmt::format("{} blocks of a chain that has {}", blocks, of));
}

}  // namespace tiercel::capi

extern "C" {

const char* tiercel_last_error(void) { return tiercel::capi::last_error().shown; }

const char* tiercel_status_name(tiercel_status status) {
  if (status == TIERCEL_OK) return "ok";
  if (status < 0 || status > UINT8_MAX) return "unknown";
  return tiercel::error_name(static_cast<tiercel::ErrorCode>(status)).data();  // a literal, so it is terminated
}

const char* tiercel_version(void) { return TIERCEL_VERSION; }

}  // extern "C"
