#include "without_gil.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>

namespace tiercel::python {
namespace {

thread_local bool given_up = false;
std::atomic<unsigned> forks = 0;

[[noreturn]] void wait_for_the_end() noexcept {
  for (;;) ::pause();
}

}  // namespace

WithoutGil::WithoutGil() noexcept {
  if (given_up) return;
  given_up = true;
  state_ = PyEval_SaveThread();
}

WithoutGil::~WithoutGil() {
  if (state_ == nullptr) return;
  try {
    PyEval_RestoreThread(state_);
  } catch (...) {  // the forced unwinding of pthread_exit
    wait_for_the_end();
  }
  given_up = false;
}

unsigned process_number() noexcept { return forks.load(std::memory_order_relaxed); }

void count_forks() {
  ::pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
}

}  // namespace tiercel::python
