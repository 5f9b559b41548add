// TIERCEL_TRY: passes an error on to the caller.
//   TIERCEL_TRY(check_range(x));                 of a Status
//   TIERCEL_TRY_ASSIGN(auto bytes, parse(text)); of a Result<T>
#pragma once

#include <tiercel/result.h>

#define TIERCEL_TRY(expression)                                                      \
  do {                                                                               \
    if (auto tiercel_status_ = (expression); !tiercel_status_) [[unlikely]] {        \
      return ::tl::unexpected<::tiercel::Error>(std::move(tiercel_status_).error()); \
    }                                                                                \
  } while (false)

#define TIERCEL_TRY_CONCAT_(a, b) a##b
#define TIERCEL_TRY_NAME_(line) TIERCEL_TRY_CONCAT_(tiercel_result_, line)
#define TIERCEL_TRY_ASSIGN(target, expression)                                                 \
  auto TIERCEL_TRY_NAME_(__LINE__) = (expression);                                             \
  if (!TIERCEL_TRY_NAME_(__LINE__)) [[unlikely]] {                                             \
    return ::tl::unexpected<::tiercel::Error>(std::move(TIERCEL_TRY_NAME_(__LINE__)).error()); \
  }                                                                                            \
  target = std::move(*TIERCEL_TRY_NAME_(__LINE__))
