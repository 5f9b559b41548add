// pass_queue: waits until a threaded executor has ended every task that was queued before; for tests.
//
// One task for each thread: they meet, so every thread has come past what lay before them in the queue. Tasks that
// those queued may still be there. Not for an executor that is turned by hand.
#pragma once

#include "base/executor.h"

#include <cstddef>
#include <latch>
#include <memory>
#include <thread>

namespace tiercel {

inline void pass_queue(ThreadedExecutor& executor) {
  const auto threads = static_cast<std::ptrdiff_t>(executor.concurrency());
  auto meeting = std::make_shared<std::latch>(threads);
  for (std::ptrdiff_t missing = threads; missing > 0;) {
    if (executor.submit([meeting] { meeting->arrive_and_wait(); })) {
      --missing;
    } else {
      std::this_thread::yield();  // the queue is full
    }
  }
  meeting->wait();
}

}  // namespace tiercel
