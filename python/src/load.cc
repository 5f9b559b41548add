// Load and Pin.
#include "handles.h"
#include "left_alone.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <utility>

using namespace nanobind::literals;

namespace tiercel::python {

LoadState::~LoadState() {
  if (session_->is_of_this_process()) return;
  leave_alone(std::move(load_));
  leave_alone(std::move(blocks_));
}

void LoadState::check_open() const {
  if (!session_->is_of_this_process())
    raise(ErrorCode::kClosed, "the load belongs to the process that this one was forked from");
  if (!load_) raise(ErrorCode::kClosed, "the load is closed");
}

LoadState::Blocks LoadState::wait() {
  const std::lock_guard lock(mutex_);
  check_open();
  if (outcome_) return blocks_;
  (void)load_->wait();
  outcome_ = load_->outcome();
  for (BlockRef& block : load_->take()) blocks_.push_back(std::make_shared<const BlockRef>(std::move(block)));
  return blocks_;
}

bool LoadState::done() {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) return false;  // another thread waits
  check_open();
  return outcome_ || load_->done();
}

std::optional<LoadOutcome> LoadState::outcome() {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) return std::nullopt;
  check_open();
  if (outcome_) return outcome_;
  if (!load_->done()) return std::nullopt;
  return load_->outcome();
}

void LoadState::close() noexcept {
  if (!session_->is_of_this_process()) return;
  const std::lock_guard lock(mutex_);
  load_.reset();
  blocks_.clear();
}

PinState::~PinState() {
  if (!session_->is_of_this_process()) leave_alone(std::move(pin_));
}

std::size_t PinState::blocks() {
  if (!session_->is_of_this_process()) return 0;
  const std::lock_guard lock(mutex_);
  return pin_ ? pin_->blocks() : 0;
}

void PinState::close() noexcept {
  if (!session_->is_of_this_process()) return;
  const std::lock_guard lock(mutex_);
  pin_.reset();
}

void bind_load(nb::module_& module) {
  nb::enum_<LoadOutcome>(module, "LoadOutcome", "Why a load gave fewer blocks than it was asked for.")
      .value("COMPLETE", LoadOutcome::kComplete, "Every block asked for.")
      .value("MISS", LoadOutcome::kMiss, "The next block is not in the cache (any more), or the mode allows no loads.")
      .value("DEADLINE", LoadOutcome::kDeadline, "The next block was not ready in time.")
      .value("CORRUPT", LoadOutcome::kCorrupt, "The next block failed its checksum and was dropped.")
      .value("BUSY", LoadOutcome::kBusy, "The arena or a queue has no room.")
      .value("CLOSED", LoadOutcome::kClosed)
      .value("SLOWER", LoadOutcome::kSlower, "The engine computes what is left sooner than it would be loaded.");

  nb::class_<PyLoad>(
      module, "Load",
      "A load in flight. Closing it, or letting it go, ends what it holds; what runs on completes behind "
      "it. Views that wait() has given stay valid.")
      .def(
          "wait",
          [](const PyLoad& load) {
            LoadState::Blocks blocks;
            {
              const WithoutGil without_gil;
              blocks = load->wait();
            }
            nb::list views;
            for (auto& block : blocks) views.append(view_of(std::move(block)));
            return views;
          },
          nb::sig("def wait(self) -> list[memoryview]"),
          "Waits until all blocks are ready or the load's deadline has passed. Returns the leading blocks that are "
          "ready, each a read-only memoryview of the bytes that were committed (format 'B', one dimension).\n\n"
          "A view keeps its block where it is, also when the load, the session and the cache are closed, until it is "
          "released: `del`, view.release() or a `with` block. A second call gives views of the same blocks.")
      .def_prop_ro(
          "done",
          [](const PyLoad& load) {
            const WithoutGil without_gil;
            return load->done();
          },
          "Without waiting: is the answer of wait() final?")
      .def_prop_ro(
          "ready",
          [](const PyLoad& load) -> std::optional<std::size_t> {
            const WithoutGil without_gil;
            if (!load->done()) return std::nullopt;
            return load->wait().size();
          },
          "How many leading blocks wait() gives, without making views of them; None while the answer is not final.")
      .def_prop_ro(
          "outcome",
          [](const PyLoad& load) {
            const WithoutGil without_gil;
            return load->outcome();
          },
          "Why the run ends where it does; None while the answer is not final.")
      .def(
          "close",
          [](const PyLoad& load) {
            const WithoutGil without_gil;
            load->close();
          },
          "Ends what the load holds. Waits for a wait() of another thread.")
      .def(
          "__enter__", [](nb::object self) { return self; }, nb::sig("def __enter__(self) -> Load"))
      .def(
          "__exit__",
          [](const PyLoad& load, const nb::args&) {
            const WithoutGil without_gil;
            load->close();
          },
          nb::sig("def __exit__(self, *args: object) -> None"));
}

void bind_pin(nb::module_& module) {
  nb::class_<PyPin>(module, "Pin", "A logical pin: forbids eviction until it is closed, let go, or its time is over.")
      .def_prop_ro(
          "blocks",
          [](const PyPin& pin) {
            const WithoutGil without_gil;
            return pin->blocks();
          },
          "How many leading blocks are pinned; 0 after its time and when it is closed.")
      .def(
          "close",
          [](const PyPin& pin) {
            const WithoutGil without_gil;
            pin->close();
          },
          "Ends the pin.")
      .def(
          "__enter__", [](nb::object self) { return self; }, nb::sig("def __enter__(self) -> Pin"))
      .def(
          "__exit__",
          [](const PyPin& pin, const nb::args&) {
            const WithoutGil without_gil;
            pin->close();
          },
          nb::sig("def __exit__(self, *args: object) -> None"));
}

}  // namespace tiercel::python
