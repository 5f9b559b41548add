#include "errors.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <array>
#include <cstddef>
#include <cstdint>

using namespace nanobind::literals;

namespace tiercel::python {
namespace {

struct Row {
  ErrorCode code;
  const char* member;
  const char* exception;
};
constexpr std::array kTable = {
    Row{ErrorCode::kInvalidArgument, "INVALID_ARGUMENT", "InvalidArgumentError"},
    Row{ErrorCode::kUnknownKey, "UNKNOWN_KEY", "UnknownKeyError"},
    Row{ErrorCode::kUnsupported, "UNSUPPORTED", "UnsupportedError"},
    Row{ErrorCode::kNotFound, "NOT_FOUND", "NotFoundError"},
    Row{ErrorCode::kOutOfMemory, "OUT_OF_MEMORY", "OutOfMemoryError"},
    Row{ErrorCode::kLimit, "LIMIT", "LimitError"},
    Row{ErrorCode::kClosed, "CLOSED", "ClosedError"},
    Row{ErrorCode::kTimeout, "TIMEOUT", "TimeoutError"},
    Row{ErrorCode::kIo, "IO", "IoError"},
    Row{ErrorCode::kCorrupt, "CORRUPT", "CorruptError"},
    Row{ErrorCode::kDropped, "DROPPED", "DroppedError"},
    Row{ErrorCode::kNoParent, "NO_PARENT", "NoParentError"},
    Row{ErrorCode::kIncomplete, "INCOMPLETE", "IncompleteError"},
};

const char* exception_name(ErrorCode code) noexcept {
  for (const Row& row : kTable)
    if (row.code == code) return row.exception;
  return "Error";
}

void translate(const std::exception_ptr& thrown, void* /*payload*/) {
  try {
    std::rethrow_exception(thrown);
  } catch (const Raised& raised) {
    const nb::object exception = exception_of(raised.error);
    PyErr_SetObject(exception.type().ptr(), exception.ptr());
  }
}

}  // namespace

nb::object exception_of(const Error& error) {
  const nb::object type = nb::module_::import_("tiercel.errors").attr(exception_name(error.code));
  nb::object exception = type(error.message);
  exception.attr("os_error") = error.os_error;
  return exception;
}

void bind_errors(nb::module_& module) {
  auto codes =
      nb::enum_<ErrorCode>(module, "ErrorCode", "The table of error codes; tiercel.Error.code is one of them.");
  for (const Row& row : kTable) codes.value(row.member, row.code);
  nb::module_ errors = nb::module_::import_("tiercel.errors");
  for (const Row& row : kTable) nb::object(errors.attr(row.exception)).attr("code") = row.code;
  module.def("error_name", &error_name, "code"_a, "The short name of a code, as in metrics: \"invalid_argument\".");
  nb::register_exception_translator(translate, nullptr);
}

}  // namespace tiercel::python
