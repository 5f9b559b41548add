// leave_alone: what a forked child inherited and must neither use nor destroy, because its threads are the parent's.
#pragma once

#include <memory>
#include <new>
#include <utility>

namespace tiercel::python {

/// Moves `value` to where nobody destroys it. Without memory for that it ends the process.
template <class T>
void leave_alone(T&& value) noexcept {
  ::new (::operator new(sizeof(T))) T(std::forward<T>(value));
}

}  // namespace tiercel::python
