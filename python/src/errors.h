// Errors of C++ as exceptions: tiercel.Error and one subclass for each ErrorCode (tiercel/errors.py), with the text of
// the C++ error as it is.
#pragma once

#include <nanobind/nanobind.h>
#include <tiercel/result.h>

#include <string>
#include <utility>

namespace tiercel::python {

namespace nb = nanobind;

/// Carries an Error through C++ to the translator of the module.
struct Raised {
  Error error;
};

[[noreturn]] inline void raise(ErrorCode code, std::string sentence) {
  throw Raised{{.code = code, .message = std::move(sentence)}};
}

template <class T>
T value_or_raise(Result<T>&& result) {
  if (!result) throw Raised{std::move(result.error())};
  return std::move(*result);
}

inline void raise_unless(const Status& status) {
  if (!status) throw Raised{status.error()};
}

/// The exception object of an error; needs the interpreter's lock.
[[nodiscard]] nb::object exception_of(const Error& error);

void bind_errors(nb::module_& module);

}  // namespace tiercel::python
