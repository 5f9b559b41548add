// Token ids out of Python: from a buffer of integers where it lies, or from any iterable of ints.
#pragma once

#include <nanobind/nanobind.h>
#include <tiercel/block.h>

#include <cstddef>
#include <span>
#include <vector>

namespace tiercel::python {

/// The token ids of a Python object, for as long as this lives. A contiguous buffer of 32-bit integers is read where it
/// lies (without an own copy); one of 64-bit integers or with strides, and an iterable, are copied once, in C++.
/// Belongs to one thread, which has the interpreter's lock when it is made and when it is destroyed.
class TokenIds {
 public:
  /// InvalidArgumentError: a number that is no 32-bit token id, a buffer of another type or with several dimensions.
  explicit TokenIds(nanobind::handle object);
  TokenIds(const TokenIds&) = delete;
  TokenIds& operator=(const TokenIds&) = delete;
  ~TokenIds();

  [[nodiscard]] std::span<const TokenId> ids() const noexcept { return ids_; }

 private:
  void read_buffer();
  void read_iterable(nanobind::handle object);
  Py_buffer buffer_{};
  bool has_buffer_ = false;
  std::vector<TokenId> own_;
  std::span<const TokenId> ids_;
};

}  // namespace tiercel::python
