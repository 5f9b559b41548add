// TIERCEL_CHECK: an invariant that must hold, in release too. Aborts with place and text.
#pragma once

namespace tiercel {

[[noreturn]] void check_failed(const char* expression, const char* file, int line, const char* what) noexcept;

}  // namespace tiercel

#define TIERCEL_CHECK(condition, what)                                 \
  do {                                                                 \
    if (!(condition)) [[unlikely]] {                                   \
      ::tiercel::check_failed(#condition, __FILE__, __LINE__, (what)); \
    }                                                                  \
  } while (false)
