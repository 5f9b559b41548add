// Reservation and Writer.
#include "handles.h"
#include "left_alone.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <string>
#include <utility>

using namespace nanobind::literals;

namespace tiercel::python {
namespace {

/// A writer of a reservation, which it keeps.
struct PyWriter {
  PyReservation reservation;
  std::size_t number;
};

void check_number(const ReservationState& reservation, std::size_t writer) {
  if (writer >= reservation.size()) throw nb::index_error("writer out of range");
}

PyWriter writer_of(const PyReservation& reservation, std::size_t number) {
  check_number(*reservation.shared(), number);
  return {PyReservation(reservation.shared()), number};
}

/// The bytes of a Python object, readable in one piece.
class Source {
 public:
  explicit Source(nb::handle object) {
    if (PyObject_GetBuffer(object.ptr(), &buffer_, PyBUF_SIMPLE) != 0) throw nb::python_error();
  }
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  ~Source() { PyBuffer_Release(&buffer_); }
  [[nodiscard]] const void* data() const noexcept { return buffer_.buf; }
  [[nodiscard]] std::size_t size() const noexcept { return static_cast<std::size_t>(buffer_.len); }

 private:
  Py_buffer buffer_{};
};

/// Not one that its user has released.
bool is_usable(const nb::object& view) {
  if (!view.is_valid()) return false;
  PyObject* const size = PyObject_GetAttrString(view.ptr(), "nbytes");
  if (size == nullptr) PyErr_Clear();
  Py_XDECREF(size);
  return size != nullptr;
}

[[noreturn]] void raise_empty(std::size_t writer) {
  raise(ErrorCode::kInvalidArgument,
        "writer " + std::to_string(writer) + " is empty: its outcome was not YES, or it was committed or aborted");
}

}  // namespace

ReservationState::~ReservationState() {
  if (!session_->is_of_this_process()) leave_alone(std::move(reservation_));
}

Reservation& ReservationState::open_reservation() {
  if (!session_->is_of_this_process())
    raise(ErrorCode::kClosed, "the reservation belongs to the process that this one was forked from");
  if (!reservation_) raise(ErrorCode::kClosed, "the reservation is closed");
  return *reservation_;
}

Reserved ReservationState::outcome(std::size_t writer) {
  const WithoutGil without_gil;
  const std::lock_guard lock(mutex_);
  return open_reservation().outcome(writer);
}

std::uint64_t ReservationState::id() {
  const WithoutGil without_gil;
  const std::lock_guard lock(mutex_);
  return open_reservation().id();
}

nb::object ReservationState::bytes(std::size_t writer) {
  WriterSide& side = writers_[writer];
  if (side.views->sealed) raise_empty(writer);
  CopyPin pin;
  std::span<std::byte> span;
  {
    const WithoutGil without_gil;
    const std::lock_guard lock(mutex_);
    Writer& open = open_reservation().writer(writer);
    span = open.bytes();
    if (!span.empty()) pin = open.begin_copy();
  }
  // While the lock was away another thread may have committed.
  if (span.empty() || side.views->sealed) raise_empty(writer);
  if (!is_usable(side.view)) side.view = view_of_writer(std::move(pin), span, side.views);
  return side.view;
}

void ReservationState::write(std::size_t writer, nb::handle data, std::size_t offset) {
  const Source source(data);
  if (writers_[writer].views->sealed) raise_empty(writer);
  const WithoutGil without_gil;
  const std::lock_guard lock(mutex_);
  const std::span<std::byte> span = open_reservation().writer(writer).bytes();
  if (span.empty()) raise_empty(writer);
  if (offset > span.size() || source.size() > span.size() - offset) {
    raise(ErrorCode::kInvalidArgument, "data: " + std::to_string(source.size()) + " bytes from offset " +
                                           std::to_string(offset) + " on do not fit into a block of " +
                                           std::to_string(span.size()));
  }
  std::memcpy(span.data() + offset, source.data(), source.size());
}

std::vector<std::size_t> ReservationState::unfinished() {
  std::vector<std::size_t> numbers;
  const WithoutGil without_gil;
  const std::lock_guard lock(mutex_);
  Reservation& open = open_reservation();
  for (std::size_t i = 0; i < writers_.size(); ++i)
    if (!open.writer(i).bytes().empty()) numbers.push_back(i);
  return numbers;
}

void ReservationState::seal(const std::vector<std::size_t>& writers) {
  for (const std::size_t writer : writers) {
    WriterSide& side = writers_[writer];
    if (side.view.is_valid()) {
      side.view.attr("release")();  // BufferError where an array lies on it
      side.view.reset();
    }
    if (side.views->exported != 0) {
      PyErr_SetString(PyExc_BufferError, ("writer " + std::to_string(writer) +
                                          ": a view of its bytes is still held (a slice, an array); "
                                          "release it before commit")
                                             .c_str());
      throw nb::python_error();
    }
  }
  for (const std::size_t writer : writers) writers_[writer].views->sealed = true;
}

/// With mutex_ held and without the interpreter's lock.
template <class Call>
auto ReservationState::sealed(const std::vector<std::size_t>& writers, Call&& call) {
  seal(writers);
  std::vector<std::size_t> open_again;
  auto answer = [&] {
    const WithoutGil without_gil;
    const std::lock_guard lock(mutex_);
    auto said = call(open_reservation());
    for (const std::size_t writer : writers)
      if (!reservation_->writer(writer).bytes().empty()) open_again.push_back(writer);
    return said;
  }();
  for (const std::size_t writer : open_again) writers_[writer].views->sealed = false;
  return answer;
}

void ReservationState::commit(std::size_t writer, std::optional<std::size_t> size) {
  raise_unless(sealed({writer}, [&](Reservation& open) { return open.writer(writer).commit(size); }));
}

Committed ReservationState::commit(const std::vector<WriterCommit>& commits) {
  std::vector<std::size_t> numbers;
  for (const WriterCommit& one : commits) {
    check_number(*this, one.writer);
    numbers.push_back(one.writer);
  }
  return value_or_raise(sealed(numbers, [&](Reservation& open) { return open.commit(commits); }));
}

Committed ReservationState::commit_all() {
  return value_or_raise(sealed(unfinished(), [](Reservation& open) { return open.commit_all(); }));
}

void ReservationState::abort(std::size_t writer) {
  writers_[writer].views->sealed = true;
  writers_[writer].view.reset();
  const WithoutGil without_gil;
  const std::lock_guard lock(mutex_);
  open_reservation().writer(writer).abort();
}

void ReservationState::close() {
  if (!session_->is_of_this_process()) return;
  for (WriterSide& side : writers_) {
    side.views->sealed = true;
    side.view.reset();
  }
  const WithoutGil without_gil;
  const std::lock_guard lock(mutex_);
  reservation_.reset();
}

namespace {

Committed commit_some(const PyReservation& reservation, const std::vector<std::size_t>& writers,
                      const std::optional<std::vector<std::size_t>>& sizes) {
  if (sizes && sizes->size() != writers.size())
    raise(ErrorCode::kInvalidArgument, "sizes: has " + std::to_string(sizes->size()) + " numbers for " +
                                           std::to_string(writers.size()) + " writers");
  std::vector<WriterCommit> commits;
  for (std::size_t i = 0; i < writers.size(); ++i) {
    commits.push_back({.writer = writers[i]});
    if (sizes) commits.back().size = (*sizes)[i];
  }
  return reservation->commit(commits);
}

void bind_committed(nb::module_& module) {
  nb::class_<CommitFailure>(module, "CommitFailure", "A writer that a commit of several did not publish, and why.")
      .def_ro("place", &CommitFailure::place, "In the list of the call.")
      .def_ro("writer", &CommitFailure::writer, "Its number in the reservation.")
      .def_prop_ro(
          "error", [](const CommitFailure& failure) { return exception_of(failure.error); },
          nb::sig("def error(self) -> tiercel.errors.Error"), "The exception that Writer.commit() would have raised.");
  nb::class_<Committed>(module, "Committed", "What a commit of several did.")
      .def_ro("blocks", &Committed::blocks, "Published.")
      .def_ro("failures", &Committed::failures, "In the order of the call; empty: all of them were published.");
}

void bind_writer(nb::module_& module) {
  nb::class_<PyWriter>(module, "Writer", "Exclusive access to the bytes of a block that is being filled.")
      .def_ro("number", &PyWriter::number, "In its reservation.")
      .def_prop_ro("outcome", [](const PyWriter& writer) { return writer.reservation->outcome(writer.number); })
      .def_prop_ro(
          "bytes", [](const PyWriter& writer) { return writer.reservation->bytes(writer.number); },
          nb::sig("def bytes(self) -> memoryview"),
          "A writable memoryview of the block (format 'B', one dimension, Session.block_bytes long).\n\n"
          "commit() releases it. What was made of it (slices, arrays) has to be let go before: commit() "
          "raises BufferError otherwise. InvalidArgumentError: the writer is empty.")
      .def(
          "write",
          [](const PyWriter& writer, nb::handle data, std::size_t offset) {
            writer.reservation->write(writer.number, data, offset);
          },
          "data"_a, "offset"_a = 0, nb::sig("def write(self, data: typing_extensions.Buffer, offset: int = 0) -> None"),
          "Copies the bytes of a contiguous buffer into the block, without the interpreter's lock.")
      .def(
          "commit",
          [](const PyWriter& writer, std::optional<std::size_t> size) {
            writer.reservation->commit(writer.number, size);
          },
          "size"_a = nb::none(),
          "Publishes the first `size` bytes, all if None; opaque layouts may commit fewer. The writer then is empty."
          "\n\nDroppedError: deleted meanwhile. NoParentError: its parent was given up. IncompleteError: a member has "
          "not reported; the writer stays as it is. InvalidArgumentError: an empty writer, or a size that is 0 or too "
          "large. BufferError: somebody could still write into the block.")
      .def(
          "abort", [](const PyWriter& writer) { writer.reservation->abort(writer.number); },
          "Gives the block up. What is written into a view of its bytes afterwards is lost.");
}

}  // namespace

void bind_reservation(nb::module_& module) {
  nb::enum_<Reserved>(module, "Reserved", "What reserve() answers for a block.")
      .value("YES", Reserved::kYes, "There is a writer.")
      .value("EXISTS", Reserved::kExists, "The block is in the cache.")
      .value("IN_FLIGHT", Reserved::kInFlight, "Another reservation is filling it.")
      .value("BUSY", Reserved::kBusy, "No room now, or the mode allows no stores. Go on without it.")
      .value("NO_PARENT", Reserved::kNoParent, "The block before it is neither here nor being filled.")
      .value("CLOSED", Reserved::kClosed,
             "The session is closed, is not its group's scheduler member, or the chain is of another model.");
  bind_committed(module);
  bind_writer(module);
  nb::class_<PyReservation>(module, "Reservation",
                            "Writers for the blocks [first, first + len()) of a chain, as a sequence. Closed, or let "
                            "go, without commit: nothing happened.")
      .def("__len__", [](const PyReservation& reservation) { return reservation->size(); })
      .def("__getitem__", &writer_of, "writer"_a)
      .def(
          "outcome",
          [](const PyReservation& reservation, std::size_t writer) {
            check_number(*reservation.shared(), writer);
            return reservation->outcome(writer);
          },
          "writer"_a, "What was answered for this block.")
      .def("writer", &writer_of, "writer"_a, "As [writer].")
      .def_prop_ro(
          "id", [](const PyReservation& reservation) { return reservation->id(); },
          "What the other members of the session group name in Session.report().")
      .def("commit", &commit_some, "writers"_a, "sizes"_a = nb::none(),
           "Commits several writers, in this order, each as Writer.commit() does: the failure of one keeps none of the "
           "others back. `sizes`: one for each. BufferError: a view is still held; nothing was tried.")
      .def(
          "commit_all", [](const PyReservation& reservation) { return reservation->commit_all(); },
          "Commits every writer that is neither committed nor aborted, with all its bytes.")
      .def(
          "close", [](const PyReservation& reservation) { reservation->close(); }, "Gives up what was not committed.")
      .def(
          "__enter__", [](nb::object self) { return self; }, nb::sig("def __enter__(self) -> Reservation"))
      .def(
          "__exit__", [](const PyReservation& reservation, const nb::args&) { reservation->close(); },
          nb::sig("def __exit__(self, *args: object) -> None"));
}

}  // namespace tiercel::python
