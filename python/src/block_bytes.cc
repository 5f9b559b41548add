#include "block_bytes.h"

#include "left_alone.h"
#include "without_gil.h"

#include <utility>

namespace tiercel::python {
namespace {

/// What a memoryview is a view of. A copy pin that a forked child inherited is not its to end.
class BlockBytes {
 public:
  BlockBytes(std::shared_ptr<const BlockRef> block, CopyPin pin, std::span<std::byte> bytes,
             std::shared_ptr<WriterViews> views)
      : block_(std::move(block)), pin_(std::move(pin)), bytes_(bytes), views_(std::move(views)) {}
  BlockBytes(BlockBytes&&) noexcept = default;
  BlockBytes& operator=(BlockBytes&&) = delete;
  ~BlockBytes() {
    if (process_ == process_number()) return;
    leave_alone(std::move(block_));
    leave_alone(std::move(pin_));
  }

  int get(PyObject* self, Py_buffer* view, int flags) const {
    if (process_ != process_number() || (views_ && views_->sealed)) {
      PyErr_SetString(PyExc_BufferError, "the block is no longer open for writing here");
      view->obj = nullptr;
      return -1;
    }
    const bool read_only = block_ != nullptr;
    // PyBuffer_FillInfo wants a pointer that may be written through; with read_only it only says so.
    auto* const start = read_only ? const_cast<std::byte*>(block_->bytes().data()) : bytes_.data();
    const std::size_t size = read_only ? block_->bytes().size() : bytes_.size();
    const int answer = PyBuffer_FillInfo(view, self, start, static_cast<Py_ssize_t>(size), read_only ? 1 : 0, flags);
    if (answer == 0 && views_) ++views_->exported;
    return answer;
  }
  void release() const noexcept {
    if (views_) --views_->exported;
  }

 private:
  std::shared_ptr<const BlockRef> block_;  // of a load; else null
  CopyPin pin_;                            // of a writer or a part
  std::span<std::byte> bytes_;
  std::shared_ptr<WriterViews> views_;
  unsigned process_ = process_number();
};

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  return nb::inst_ptr<BlockBytes>(self)->get(self, view, flags);
}

void release_buffer(PyObject* self, Py_buffer* /*view*/) { nb::inst_ptr<BlockBytes>(self)->release(); }

PyType_Slot slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(&get_buffer)},
                       {Py_bf_releasebuffer, reinterpret_cast<void*>(&release_buffer)},
                       {0, nullptr}};

nb::object view(BlockBytes bytes) {
  const nb::object exporter = nb::cast(std::move(bytes));
  PyObject* const made = PyMemoryView_FromObject(exporter.ptr());
  if (made == nullptr) throw nb::python_error();
  return nb::steal(made);
}

}  // namespace

nb::object view_of(std::shared_ptr<const BlockRef> block) { return view({std::move(block), {}, {}, nullptr}); }

nb::object view_of_writer(CopyPin pin, std::span<std::byte> bytes, std::shared_ptr<WriterViews> views) {
  return view({nullptr, std::move(pin), bytes, std::move(views)});
}

nb::object view_of_part(BlockPart part) { return view({nullptr, part.begin_copy(), part.bytes(), nullptr}); }

void bind_block_bytes(nb::module_& module) {
  nb::class_<BlockBytes>(module, "_BlockBytes", nb::type_slots(slots), nb::is_final(),
                         "What a memoryview of a block is a view of.");
}

}  // namespace tiercel::python
