// EngineTensor, Transfer and Copy.
#include "errors.h"
#include "handles.h"
#include "left_alone.h"
#include "seconds.h"
#include "token_ids.h"
#include "transfer.h"
#include "without_gil.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <bit>
#include <cmath>
#include <string>
#include <tuple>
#include <utility>

using namespace nanobind::literals;

namespace tiercel::python {

TransferState::~TransferState() {
  if (!session_->is_of_this_process()) leave_alone(std::move(transfer_));
}

std::shared_ptr<Transfer> TransferState::get() const {
  if (!session_->is_of_this_process())
    raise(ErrorCode::kClosed, "the transfer belongs to the process that this one was forked from");
  const std::lock_guard lock(mutex_);
  if (!transfer_) raise(ErrorCode::kClosed, "the transfer is closed");
  return transfer_;
}

void TransferState::close() {
  if (!session_->is_of_this_process()) return;
  std::shared_ptr<Transfer> transfer;
  {
    const std::lock_guard lock(mutex_);
    transfer.swap(transfer_);
  }
  if (transfer) transfer->close();
}

namespace {

using Axes = std::vector<std::tuple<Axis, std::uint64_t, std::int64_t>>;

EngineTensor make_tensor(std::string name, std::uintptr_t address, std::uint64_t storage_bytes, const Axes& axes,
                         StateKind kind, std::uint32_t first_layer, std::uint32_t first_head) {
  EngineTensor tensor{.name = std::move(name),
                      .base = std::bit_cast<std::byte*>(address),
                      .storage_bytes = storage_bytes,
                      .kind = kind,
                      .first_layer = first_layer,
                      .first_head = first_head};
  for (const auto& [axis, size, stride] : axes) {
    tensor.axes.push_back({.axis = axis, .size = size, .stride_bytes = stride});
  }
  return tensor;
}

struct OpenOptions {
  std::optional<int> device;
  RankPart part;
  double store_bytes_per_second;
  std::size_t max_copies;
  std::size_t threads;
  std::string library;
};

PyTransfer open_transfer(const PySession& session, const std::vector<EngineTensor>& tensors, OpenOptions options) {
  if (!std::isfinite(options.store_bytes_per_second) || options.store_bytes_per_second < 0 ||
      options.store_bytes_per_second > 1e15) {
    raise(ErrorCode::kInvalidArgument, "store_bytes_per_second: must be from 0 (no pace) to 1e15, not " +
                                           std::to_string(options.store_bytes_per_second));
  }
  const WithoutGil without_gil;
  return PyTransfer(std::make_shared<TransferState>(
      value_or_raise(
          Transfer::open(session->get(), tensors, options.part,
                         {.device = options.device.value_or(kHostMemory),
                          .store_bytes_per_second = static_cast<std::uint64_t>(options.store_bytes_per_second),
                          .max_copies = options.max_copies,
                          .threads = options.threads,
                          .library = std::move(options.library)})),
      session.shared()));
}

/// Page ids as Python gives them: ints, or a buffer of them. One below 0 becomes one that no tensor has.
class Pages {
 public:
  explicit Pages(nb::handle object) : ids_(object) {}
  [[nodiscard]] std::vector<std::uint32_t> list() const {
    const auto ids = ids_.ids();
    return {ids.begin(), ids.end()};
  }

 private:
  TokenIds ids_;
};

/// [first, end); none: all.
using LayerRange = std::optional<std::pair<std::uint32_t, std::uint32_t>>;

CopyOrder order_of(std::uintptr_t after_event, std::optional<double> begin_within_s, bool ahead = false) {
  CopyOrder order{.after_event = std::bit_cast<void*>(after_event), .ahead = ahead};
  if (begin_within_s) order.begin_within = to_duration(*begin_within_s, "begin_within_s");
  return order;
}

Copy load(const PyTransfer& transfer, const PyLoad& load, nb::handle pages, std::size_t first,
          std::uintptr_t after_event, std::optional<double> begin_within_s, bool ahead, const LayerRange& layers) {
  const Pages ids(pages);
  CopyOrder order = order_of(after_event, begin_within_s, ahead);
  if (layers) std::tie(order.first_layer, order.end_layer) = *layers;
  const WithoutGil without_gil;
  const auto to = transfer->get();
  const std::vector<std::uint32_t> list = ids.list();
  const LoadState::Blocks ready = load->wait();
  const std::size_t count = list.size() / to->pages_per_block();
  if (first > ready.size() || count > ready.size() - first) {
    raise(ErrorCode::kInvalidArgument, "pages: of " + std::to_string(count) + " blocks from block " +
                                           std::to_string(first) + " on, and the load has " +
                                           std::to_string(ready.size()));
  }
  std::vector<BlockRef> blocks;
  blocks.reserve(count);
  for (std::size_t i = first; i < first + count; ++i) blocks.emplace_back(ready[i]->begin_copy(), ready[i]->bytes());
  return value_or_raise(to->load(std::move(blocks), list, order));
}

Copy store_parts(const PyTransfer& transfer, std::uint64_t reservation_id, const std::vector<std::size_t>& blocks,
                 nb::handle pages, std::uintptr_t after_event, std::optional<double> begin_within_s) {
  const Pages ids(pages);
  const CopyOrder order = order_of(after_event, begin_within_s);
  const WithoutGil without_gil;
  const auto from = transfer->get();
  auto parts = value_or_raise(transfer->session().parts(reservation_id, blocks));
  return value_or_raise(from->store(std::move(parts), ids.list(), order));
}

Copy store_writers(const PyTransfer& transfer, const PyReservation& reservation,
                   const std::vector<std::size_t>& writers, nb::handle pages, std::uintptr_t after_event,
                   std::optional<double> begin_within_s) {
  const Pages ids(pages);
  const CopyOrder order = order_of(after_event, begin_within_s);
  const WithoutGil without_gil;
  const auto from = transfer->get();
  return reservation->store(
      [&](Reservation& open) { return value_or_raise(from->store(open, writers, ids.list(), order)); });
}

void bind_tensor(nb::module_& module) {
  nb::enum_<Axis>(module, "Axis", "What a step along an axis of an engine's tensor leads to.")
      .value("PAGE", Axis::kPage, "The engine's pages (its \"blocks\"); required.")
      .value("LAYER", Axis::kLayer, "Absent: the tensor holds one layer.")
      .value("KV", Axis::kKv, "Of size 2, K at 0 and V at 1; absent: the tensor holds one state kind.")
      .value("HEAD", Axis::kHead, "Absent: one head, or what is not split by head.")
      .value("TOKEN", Axis::kToken, "Tokens of a page; absent: a page of one token, or an opaque page.")
      .value("INNER", Axis::kInner, "Bytes of one head and token, or of an opaque page; required, stride 1.");
  nb::enum_<OpaqueRuns>(module, "OpaqueRuns",
                        "Who copies what cannot be split by head, when several ranks hold the same bytes of it.")
      .value("COPIED", OpaqueRuns::kCopied)
      .value("LEFT", OpaqueRuns::kLeft, "Another rank's task: it needs no tensor here.");
  nb::class_<EngineTensor>(module, "EngineTensor",
                           "How an engine's paged KV tensor lies in memory, by named axes with strides in bytes. It "
                           "holds no reference to the tensor: the engine keeps that.")
      .def(
          "__init__",
          [](EngineTensor* place, std::string name, std::uintptr_t address, std::uint64_t storage_bytes,
             const Axes& axes, StateKind kind, std::uint32_t first_layer, std::uint32_t first_head) {
            new (place)
                EngineTensor(make_tensor(std::move(name), address, storage_bytes, axes, kind, first_layer, first_head));
          },
          nb::kw_only(), "name"_a, "address"_a, "storage_bytes"_a, "axes"_a, "kind"_a = StateKind::kKeyValue,
          "first_layer"_a = 0, "first_head"_a = 0,
          "name: for messages. address: of the element with index 0 on every axis. storage_bytes: of the allocation "
          "from there on. axes: (axis, size, stride in bytes), in any order. kind: of a tensor without KV axis. "
          "first_layer, first_head: the model's numbers of what lies at index 0.")
      .def_ro("name", &EngineTensor::name)
      .def_ro("storage_bytes", &EngineTensor::storage_bytes)
      .def_ro("kind", &EngineTensor::kind)
      .def_ro("first_layer", &EngineTensor::first_layer)
      .def_ro("first_head", &EngineTensor::first_head);
}

void bind_copy(nb::module_& module) {
  nb::class_<Copy>(module, "Copy",
                   "A copy in flight. It holds what it needs until its last byte has moved, also when this is let go.")
      .def_prop_ro("done", &Copy::done, "It has ended, well or not, and holds no block any more.")
      .def(
          "wait",
          [](const Copy& copy, double timeout_s) {
            const auto at_most = to_duration(timeout_s, "timeout_s");
            const WithoutGil without_gil;
            return copy.wait(at_most);
          },
          "timeout_s"_a, "Waits at most so many seconds. True: it has ended.")
      .def_prop_ro(
          "error",
          [](const Copy& copy) -> nb::object {
            if (!copy.done()) return nb::none();
            const Status status = copy.status();
            return status ? nb::none() : exception_of(status.error());
          },
          nb::sig("def error(self) -> tiercel.errors.Error | None"),
          "After its end: why it failed; None: it did not. Nothing may be assumed about the target of a copy that "
          "failed, but that one that ended with TimeoutError never began.")
      .def_prop_ro("bytes", &Copy::bytes, "That it moves.");
}

void bind_transfer_calls(nb::class_<PyTransfer>& transfer) {
  transfer
      .def(
          "load", &load, "load"_a, "pages"_a, nb::kw_only(), "first"_a = 0, "after_event"_a = 0,
          "begin_within_s"_a = nb::none(), "ahead"_a = false, "layers"_a = nb::none(),
          nb::sig("def load(self, load: Load, pages: collections.abc.Iterable[int], *, first: int = 0, after_event: "
                  "int = 0, begin_within_s: float | None = None, ahead: bool = False, layers: tuple[int, int] | "
                  "None = None) -> Copy"),
          "Copies blocks of a load, from block `first` on, into pages: pages_per_block ids for each block, as ints or "
          "a buffer of 32-bit or 64-bit integers. A load that is not done is waited for, until its deadline at most."
          "\n\nafter_event: the handle of a CUDA event, recorded before, behind which the pages are touched. "
          "begin_within_s: a GPU copy that has not begun by then ends with TimeoutError. ahead: all of it is queued at "
          "once, so that a stream can wait for it (wait_in_stream). layers: these alone, from the first up to and "
          "without "
          "the second, of those that this rank holds; an engine whose layers wait one after another loads a few at a "
          "time.\n\nInvalidArgumentError: pages that do not fit, or layers that are not here. "
          "LimitError: max_copies are in flight. ClosedError; IoError: the device failed.")
      .def("store", &store_parts, "reservation_id"_a, "blocks"_a, "pages"_a, nb::kw_only(), "after_event"_a = 0,
           "begin_within_s"_a = nb::none(),
           nb::sig("def store(self, reservation_id: int, blocks: collections.abc.Sequence[int], pages: "
                   "collections.abc.Iterable[int], *, after_event: int = 0, begin_within_s: float | None = None) -> "
                   "Copy"),
           "Copies pages into this member's part of blocks (positions in the chain) of an open reservation of the "
           "scheduler member. After its end: Session.report(). Errors as for load() and Session.parts().")
      .def("store", &store_writers, "reservation"_a, "writers"_a, "pages"_a, nb::kw_only(), "after_event"_a = 0,
           "begin_within_s"_a = nb::none(),
           nb::sig("def store(self, reservation: Reservation, writers: collections.abc.Sequence[int], pages: "
                   "collections.abc.Iterable[int], *, after_event: int = 0, begin_within_s: float | None = None) -> "
                   "Copy"),
           "Copies pages into writers of a reservation. After its end: Reservation.commit(). Errors as for load().");
  transfer.def(
      "wait_in_stream",
      [](const PyTransfer& self, std::uintptr_t stream, const Copy& copy) {
        const WithoutGil without_gil;
        raise_unless(self->get()->wait_in_stream(std::bit_cast<void*>(stream), copy));
      },
      "stream"_a, "copy"_a,
      "Waits until all of the copy is queued; what is put into a CUDA stream (its handle) afterwards begins behind the "
      "copy's end. The copy must be of this transfer and submitted `ahead`; the stream must not be capturing a graph."
      "\n\nAfter an error the stream waits for nothing, and the copy may still run.");
}

}  // namespace

void bind_transfer(nb::module_& module) {
  module.def(
      "calibrate_gpu",
      [](int device, std::string library, std::string cache_folder) {
        const WithoutGil without_gil;
        return value_or_raise(
            calibrate_gpu({.device = device, .library = std::move(library), .cache_folder = std::move(cache_folder)}));
      },
      "device"_a = 0, nb::kw_only(), "library"_a = "", "cache_folder"_a = "",
      "Measures what each way of copying costs on a CUDA device (about 0.1 s), or finds it measured, so that a "
      "Transfer that is opened later need not. Call it before graphs are captured. Returns the table of "
      "Transfer.choice(). cache_folder: where it is kept for the next start; empty: $TIERCEL_CACHE_DIR, or tiercel in "
      "$XDG_CACHE_HOME or in ~/.cache.\n\nUnsupportedError: no such GPU, or no library for it.");
  bind_tensor(module);
  bind_copy(module);
  nb::class_<PyTransfer> transfer(
      module, "Transfer",
      "Moves KV between the paged tensors of an engine, on a GPU or in host memory, and the blocks of a session, on "
      "threads of its own. Safe from several threads; not for a forked child. The engine keeps its pages as they are "
      "until the copies that use them have ended.");
  transfer.def_static(
      "open",
      [](const PySession& session, const std::vector<EngineTensor>& tensors, std::optional<int> device,
         std::uint32_t first_layer, std::optional<std::uint32_t> end_layer, OpaqueRuns opaque,
         double store_bytes_per_second, std::size_t max_copies, std::size_t threads, std::string library) {
        return open_transfer(session, tensors,
                             {.device = device,
                              .part = {first_layer, end_layer.value_or(UINT32_MAX), opaque},
                              .store_bytes_per_second = store_bytes_per_second,
                              .max_copies = max_copies,
                              .threads = threads,
                              .library = std::move(library)});
      },
      "session"_a, "tensors"_a, nb::kw_only(), "device"_a = nb::none(), "first_layer"_a = 0, "end_layer"_a = nb::none(),
      "opaque"_a = OpaqueRuns::kCopied, "store_bytes_per_second"_a = 12e9, "max_copies"_a = 256, "threads"_a = 1,
      "library"_a = "",
      "tensors: what this process holds of the session's layout. device: the CUDA device that they are on; None: they "
      "lie in host memory. first_layer, end_layer: a pipeline rank's layers. store_bytes_per_second: pace of stores "
      "from a GPU; 0: none. threads: that copy in host memory. library: path of libtiercel_cuda.so; empty: this "
      "package's.\n\nInvalidArgumentError names tensor, axis or option. UnsupportedError: no such GPU, or no library "
      "for it.");
  bind_transfer_calls(transfer);
  transfer.def_prop_ro("pages_per_block", [](const PyTransfer& self) { return self->get()->pages_per_block(); })
      .def_prop_ro(
          "part_bytes", [](const PyTransfer& self) { return self->get()->part_bytes(); },
          "That this rank moves for a block.")
      .def(
          "choice",
          [](const PyTransfer& self) {
            const WithoutGil without_gil;
            return self->get()->choice();
          },
          "How GPU copies choose their way over the bus: a table of what each way costs here, measured or kept from "
          "before, and of how copies have corrected it. Empty for tensors in host memory.")
      .def_prop_ro(
          "registered_bytes", [](const PyTransfer& self) { return self->get()->registered_bytes(); },
          "Of the arena, with the GPU, so far; 0 for tensors in host memory.")
      .def(
          "pause_registration",
          [](const PyTransfer& self) {
            const WithoutGil without_gil;
            self->get()->pause_registration();
          },
          "Around what must not be held up, such as the capture of CUDA graphs; pauses nest.")
      .def(
          "resume_registration",
          [](const PyTransfer& self) {
            const WithoutGil without_gil;
            self->get()->resume_registration();
          },
          "Ends a pause.")
      .def(
          "check",
          [](const PyTransfer& self) {
            const WithoutGil without_gil;
            raise_unless(self->get()->health());
          },
          "Raises the error of a device that failed: nothing is copied any more.")
      .def(
          "describe", [](const PyTransfer& self) { return self->get()->describe(); },
          "What copies, in a few words for the log.")
      .def(
          "close",
          [](const PyTransfer& self) {
            const WithoutGil without_gil;
            self->close();
          },
          "Refuses further copies and waits for those in flight.")
      .def(
          "__enter__", [](nb::object self) { return self; }, nb::sig("def __enter__(self) -> Transfer"))
      .def(
          "__exit__",
          [](const PyTransfer& self, const nb::args&) {
            const WithoutGil without_gil;
            self->close();
          },
          nb::sig("def __exit__(self, *args: object) -> None"));
}

}  // namespace tiercel::python
