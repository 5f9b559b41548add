// Sequence: steps of IO written one after the other as a coroutine, which is suspended while an operation is under way,
// so that opening and recovery never hold the thread that drives the file.
//
//   Steps<Status> read_twice(...) { const Status first = co_await io.wait(io.read(...)); ... co_return Status{}; }
//   Sequence sequence; sequence.begin(read_twice()); while (!sequence.step()) { file.poll(wait_ns); }
//
// IoPort starts operations of one File, all with the same patience, and holds those back for which the File has no
// place. A sequence may be destroyed at any time: what is in flight then ends for nobody, and `owner` keeps its memory.
// One thread. GCC 12 copies temporaries of a co_await expression wrongly: operations are made by plain calls.
#pragma once

#include "io/file.h"

#include <coroutine>
#include <deque>
#include <exception>
#include <memory>
#include <optional>
#include <utility>

namespace tiercel::disk {

/// What a suspended sequence waits for.
struct IoOutcome {
  IoJob job;  ///< until the File has taken it
  bool ended = false;
  Status status{};
};
using Pending = std::shared_ptr<IoOutcome>;

/// The place where a sequence stands still.
struct Standstill {
  std::coroutine_handle<> coroutine;
  Pending pending;  ///< null: it goes on with the next step
};

class IoPort {
 public:
  /// `ended`: counts operations that have ended within their patience, where given; lives as long as the File is
  /// polled.
  IoPort(const Clock& clock, std::uint64_t patience_ns, std::uint64_t* ended = nullptr)
      : clock_(clock), patience_ns_(patience_ns), ended_(ended) {}

  IoPort(const IoPort&) = delete;
  IoPort& operator=(const IoPort&) = delete;
  ~IoPort();

  void use(File* file) noexcept { file_ = file; }
  [[nodiscard]] File& file() const noexcept { return *file_; }

  [[nodiscard]] Pending read(std::uint64_t offset, IoSegment to, std::shared_ptr<void> owner) {
    return transfer(IoKind::kRead, offset, to, std::move(owner));
  }
  [[nodiscard]] Pending write(std::uint64_t offset, IoSegment from, std::shared_ptr<void> owner) {
    return transfer(IoKind::kWrite, offset, from, std::move(owner));
  }
  [[nodiscard]] Pending sync();

  /// What has no place yet has `ns` longer: see File::excuse.
  void excuse(std::uint64_t ns) noexcept {
    for (const Pending& pending : waiting_) pending->job.deadline_ns = deadline_after(pending->job.deadline_ns, ns);
  }
  /// Gives the File what it had no place for.
  void submit_waiting();

  struct Awaiter {
    IoPort& port;
    Pending pending;
    [[nodiscard]] bool await_ready() const noexcept { return pending && pending->ended; }
    void await_suspend(std::coroutine_handle<> coroutine) noexcept { port.standstill_ = {coroutine, pending}; }
    [[nodiscard]] Status await_resume() const { return pending ? pending->status : Status{}; }
  };
  [[nodiscard]] Awaiter wait(Pending pending) noexcept { return {*this, std::move(pending)}; }
  /// Lets the thread do something else in between.
  [[nodiscard]] Awaiter pause() noexcept { return {*this, nullptr}; }

  /// The sequence can go on without another poll of the File.
  [[nodiscard]] bool ready() const noexcept {
    return standstill_ && (!standstill_->pending || standstill_->pending->ended);
  }
  [[nodiscard]] std::optional<Standstill> take_ready();

 private:
  [[nodiscard]] Pending transfer(IoKind kind, std::uint64_t offset, IoSegment segment, std::shared_ptr<void> owner);
  [[nodiscard]] Pending enqueue(IoJob job);

  const Clock& clock_;
  std::uint64_t patience_ns_;
  std::uint64_t* ended_;
  File* file_ = nullptr;
  std::deque<Pending> waiting_;  ///< not submitted yet
  std::optional<Standstill> standstill_;
};

/// A coroutine that answers a T, begun when it is awaited.
template <class T>
class Steps {
 public:
  struct promise_type {  // NOLINT(readability-identifier-naming): the language asks for this name
    std::optional<T> value;
    std::coroutine_handle<> caller = std::noop_coroutine();

    Steps get_return_object() noexcept { return Steps(std::coroutine_handle<promise_type>::from_promise(*this)); }
    std::suspend_always initial_suspend() const noexcept { return {}; }
    auto final_suspend() const noexcept {
      struct Return {
        [[nodiscard]] bool await_ready() const noexcept { return false; }
        std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> ended) const noexcept {
          return ended.promise().caller;
        }
        void await_resume() const noexcept {}
      };
      return Return{};
    }
    template <class U>
    void return_value(U&& result) {
      value.emplace(std::forward<U>(result));
    }
    [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
  };

  Steps() = default;
  Steps(Steps&& other) noexcept : coroutine_(std::exchange(other.coroutine_, nullptr)) {}
  Steps& operator=(Steps&& other) noexcept {
    std::swap(coroutine_, other.coroutine_);
    return *this;
  }
  ~Steps() {
    if (coroutine_) coroutine_.destroy();
  }

  [[nodiscard]] bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> caller) noexcept {
    coroutine_.promise().caller = caller;
    return coroutine_;
  }
  T await_resume() { return std::move(*coroutine_.promise().value); }

  // For Sequence.
  void begin() { coroutine_.resume(); }
  [[nodiscard]] bool begun() const noexcept { return static_cast<bool>(coroutine_); }
  [[nodiscard]] bool ended() const noexcept { return coroutine_ && coroutine_.done(); }
  [[nodiscard]] T& value() noexcept { return *coroutine_.promise().value; }

 private:
  explicit Steps(std::coroutine_handle<promise_type> coroutine) noexcept : coroutine_(coroutine) {}
  std::coroutine_handle<promise_type> coroutine_;
};

/// Runs one coroutine, a step at a time.
class Sequence {
 public:
  explicit Sequence(IoPort& port) noexcept : port_(port) {}
  void begin(Steps<Status> steps) {
    steps_ = std::move(steps);
    steps_.begin();
  }
  /// Goes on if what it waits for has ended. True: it has ended itself. The File is polled by its owner.
  bool step();
  [[nodiscard]] bool begun() const noexcept { return steps_.begun(); }
  [[nodiscard]] bool ended() const noexcept { return steps_.ended(); }
  [[nodiscard]] const Status& status() noexcept { return steps_.value(); }

 private:
  IoPort& port_;
  Steps<Status> steps_;
};

}  // namespace tiercel::disk

/// Inside a coroutine that answers a Status: passes an error on. The operand must not be a co_await expression.
#define TIERCEL_CO_TRY(expression)                                                      \
  do {                                                                                  \
    if (auto tiercel_status_ = (expression); !tiercel_status_) [[unlikely]] {           \
      co_return ::tl::unexpected<::tiercel::Error>(std::move(tiercel_status_).error()); \
    }                                                                                   \
  } while (false)
