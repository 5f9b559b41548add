// WithoutGil: the interpreter's lock given up for the time of a call that may wait or takes long.
//
// Order in a function: first WithoutGil, then the mutexes of handles, so that no thread ever waits for the interpreter
// while it holds one. A thread that comes back after the interpreter has begun to end stays where it is until the
// process is gone; before Python 3.14 the interpreter would unwind it through our frames, which ends the process.
#pragma once

#include <nanobind/nanobind.h>

namespace tiercel::python {

namespace nb = nanobind;

class WithoutGil {
 public:
  WithoutGil() noexcept;
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;
  ~WithoutGil();

 private:
  PyThreadState* state_ = nullptr;  // null: this thread had given the lock up before
};

/// How many forks lie between the process that loaded this module and this one. What one process opened is of no use to
/// another: its threads are not there, and a mutex may be held for ever.
[[nodiscard]] unsigned process_number() noexcept;
/// Called once, by the module.
void count_forks();

}  // namespace tiercel::python
