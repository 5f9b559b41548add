#include "token_ids.h"

#include "errors.h"
#include "without_gil.h"

#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

namespace tiercel::python {
namespace {

constexpr std::int64_t kLowest = std::numeric_limits<TokenId>::min();
constexpr std::int64_t kHighest = std::numeric_limits<TokenId>::max();

[[noreturn]] void refuse(std::int64_t value, std::size_t place) {
  raise(ErrorCode::kInvalidArgument, "tokens[" + std::to_string(place) + "]: " + std::to_string(value) +
                                         " is no token id; valid are 32-bit integers up to 2147483647");
}

/// The signedness and size of the items of a buffer, by the letter of its format ("i", "<q", "=I").
struct ItemType {
  bool is_signed = true;
  Py_ssize_t bytes = 0;
};

std::optional<ItemType> item_type(const Py_buffer& buffer) {
  std::string_view format = buffer.format == nullptr ? "B" : buffer.format;
  if (format.size() == 2 && std::string_view("@=<").find(format.front()) != std::string_view::npos)
    format.remove_prefix(1);
  if (format.size() != 1 || (buffer.itemsize != 4 && buffer.itemsize != 8)) return std::nullopt;
  if (std::string_view("ilqn").find(format.front()) != std::string_view::npos) return ItemType{true, buffer.itemsize};
  if (std::string_view("ILQN").find(format.front()) != std::string_view::npos) return ItemType{false, buffer.itemsize};
  return std::nullopt;
}

/// One item, as a 64-bit integer; what is larger comes out negative or beyond the highest token id.
template <class T>
std::int64_t item(const char* place) noexcept {
  T value;
  std::memcpy(&value, place, sizeof(value));
  if (value > static_cast<T>(kHighest)) return sizeof(T) == 8 ? kHighest + 1 : static_cast<std::int64_t>(value);
  return static_cast<std::int64_t>(value);
}

template <class T>
std::optional<std::size_t> copy_items(const Py_buffer& buffer, std::vector<TokenId>& ids) {
  const auto count = static_cast<std::size_t>(buffer.shape[0]);
  ids.resize(count);
  const auto* place = static_cast<const char*>(buffer.buf);
  for (std::size_t i = 0; i < count; ++i, place += buffer.strides[0]) {
    const std::int64_t value = item<T>(place);
    if (value < kLowest || value > kHighest) return i;
    ids[i] = static_cast<TokenId>(value);
  }
  return std::nullopt;
}

}  // namespace

TokenIds::TokenIds(nb::handle object) {
  if (PyObject_CheckBuffer(object.ptr()) == 0) {
    read_iterable(object);
    return;
  }
  if (PyObject_GetBuffer(object.ptr(), &buffer_, PyBUF_FORMAT | PyBUF_STRIDES) != 0) throw nb::python_error();
  has_buffer_ = true;
  try {
    read_buffer();
  } catch (...) {
    PyBuffer_Release(&buffer_);
    throw;
  }
}

TokenIds::~TokenIds() {
  if (has_buffer_) PyBuffer_Release(&buffer_);
}

void TokenIds::read_buffer() {
  const auto type = item_type(buffer_);
  if (!type)
    raise(ErrorCode::kInvalidArgument, std::string("tokens: a buffer of format \"") +
                                           (buffer_.format == nullptr ? "B" : buffer_.format) +
                                           "\"; valid are 32-bit and 64-bit integers in this machine's byte order");
  if (buffer_.ndim != 1)
    raise(ErrorCode::kInvalidArgument,
          "tokens: a buffer with " + std::to_string(buffer_.ndim) + " dimensions; valid is one");
  const auto count = static_cast<std::size_t>(buffer_.shape[0]);
  const bool aligned = reinterpret_cast<std::uintptr_t>(buffer_.buf) % alignof(TokenId) == 0;
  if (type->is_signed && type->bytes == 4 && buffer_.strides[0] == 4 && aligned) {
    ids_ = {static_cast<const TokenId*>(buffer_.buf), count};
    return;
  }
  std::optional<std::size_t> wrong;
  {
    const WithoutGil without_gil;
    if (type->bytes == 4) {
      wrong = type->is_signed ? copy_items<std::int32_t>(buffer_, own_) : copy_items<std::uint32_t>(buffer_, own_);
    } else {
      wrong = type->is_signed ? copy_items<std::int64_t>(buffer_, own_) : copy_items<std::uint64_t>(buffer_, own_);
    }
  }
  if (wrong) {
    raise(ErrorCode::kInvalidArgument,
          "tokens[" + std::to_string(*wrong) + "]: is no token id; valid are 32-bit integers up to 2147483647");
  }
  ids_ = own_;
}

void TokenIds::read_iterable(nb::handle object) {
  for (const nb::handle number : object) {
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
    if (value == -1 && PyErr_Occurred() != nullptr) throw nb::python_error();
    if (overflow != 0 || value < kLowest || value > kHighest)
      refuse(overflow > 0 ? std::numeric_limits<std::int64_t>::max() : value, own_.size());
    own_.push_back(static_cast<TokenId>(value));
  }
  ids_ = own_;
}

}  // namespace tiercel::python
