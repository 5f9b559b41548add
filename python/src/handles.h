// Load, Reservation, Writer and Pin as Python objects.
//
// The handles of C++ belong to one thread at a time; these may be used from any: a mutex each lets one call in at a
// time, and is only ever waited for without the interpreter's lock. A handle that was closed answers ClosedError.
#pragma once

#include "block_bytes.h"
#include "owners.h"

#include <tiercel/session.h>

#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace tiercel::python {

class LoadState {
 public:
  LoadState(Load load, std::shared_ptr<SessionState> session) : load_(std::move(load)), session_(std::move(session)) {}
  LoadState(const LoadState&) = delete;
  LoadState& operator=(const LoadState&) = delete;
  ~LoadState();

  using Blocks = std::vector<std::shared_ptr<const BlockRef>>;
  [[nodiscard]] Blocks wait();
  [[nodiscard]] bool done();
  [[nodiscard]] std::optional<LoadOutcome> outcome();
  void close() noexcept;

 private:
  void check_open() const;
  std::mutex mutex_;
  std::optional<Load> load_;              // guarded by mutex_, as what follows; empty when closed
  std::optional<LoadOutcome> outcome_{};  // after wait
  Blocks blocks_;
  std::shared_ptr<SessionState> session_;
};

class ReservationState {
 public:
  ReservationState(Reservation reservation, std::shared_ptr<SessionState> session)
      : reservation_(std::move(reservation)), session_(std::move(session)), writers_(reservation_->size()) {}
  ReservationState(const ReservationState&) = delete;
  ReservationState& operator=(const ReservationState&) = delete;
  ~ReservationState();

  /// Of a writer, with the interpreter's lock held when it is used.
  struct WriterSide {
    std::shared_ptr<WriterViews> views = std::make_shared<WriterViews>();
    nanobind::object view;  // the memoryview given last: it is released before a commit
  };

  // With the interpreter's lock held; each gives it up while it waits.
  [[nodiscard]] std::size_t size() const noexcept { return writers_.size(); }
  [[nodiscard]] Reserved outcome(std::size_t writer);
  [[nodiscard]] std::uint64_t id();
  [[nodiscard]] nanobind::object bytes(std::size_t writer);
  void write(std::size_t writer, nanobind::handle data, std::size_t offset);
  void commit(std::size_t writer, std::optional<std::size_t> size);
  [[nodiscard]] Committed commit(const std::vector<WriterCommit>& commits);
  [[nodiscard]] Committed commit_all();
  void abort(std::size_t writer);
  void close();
  /// `call` with the open reservation; without the interpreter's lock.
  template <class Call>
  auto store(Call&& call) {
    const std::lock_guard lock(mutex_);
    return std::forward<Call>(call)(open_reservation());
  }
  /// Before the last owner goes, with the interpreter's lock held: what is Python's of it.
  void let_go() noexcept {
    for (WriterSide& side : writers_) side.view.reset();
  }

 private:
  [[nodiscard]] Reservation& open_reservation();  // with mutex_ held
  [[nodiscard]] std::vector<std::size_t> unfinished();
  void seal(const std::vector<std::size_t>& writers);
  template <class Call>
  auto sealed(const std::vector<std::size_t>& writers, Call&& call);

  std::mutex mutex_;
  std::optional<Reservation> reservation_;  // guarded by mutex_; empty when closed
  std::shared_ptr<SessionState> session_;
  std::vector<WriterSide> writers_;  // guarded by the interpreter's lock
};

void bind_load(nanobind::module_& module);
void bind_reservation(nanobind::module_& module);
void bind_pin(nanobind::module_& module);

using PyLoad = Kept<LoadState>;
using PyReservation = Kept<ReservationState>;

class PinState {
 public:
  PinState(Pin pin, std::shared_ptr<SessionState> session)
      : pin_(std::make_unique<Pin>(std::move(pin))), session_(std::move(session)) {}
  PinState(const PinState&) = delete;
  PinState& operator=(const PinState&) = delete;
  ~PinState();
  [[nodiscard]] std::size_t blocks();
  void close() noexcept;

 private:
  std::mutex mutex_;
  std::unique_ptr<Pin> pin_;  // guarded by mutex_; null when closed
  std::shared_ptr<SessionState> session_;
};
using PyPin = Kept<PinState>;

}  // namespace tiercel::python
