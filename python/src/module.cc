// The extension module tiercel._core: the public C++ API as Python sees it. docs/python.md says how it feels.
#include "bind.h"
#include "block_bytes.h"
#include "chain.h"
#include "errors.h"
#include "handles.h"
#include "owners.h"
#include "transfer.h"
#include "without_gil.h"

namespace tiercel::python {
namespace {

void bind_all(nb::module_& module) {
  module.doc() = "Tiercel: the KV cache of LLM inference beyond GPU memory.";
  module.attr("__version__") = TIERCEL_VERSION;
  bind_errors(module);
  bind_config(module);
  bind_model(module);
  bind_blocks(module);
  bind_stats(module);
  bind_block_bytes(module);
  bind_load(module);
  bind_pin(module);
  bind_reservation(module);
  bind_session(module);
  bind_transfer(module);
  bind_cache(module);
  count_forks();
  nb::module_::import_("atexit").attr("register")(nb::cpp_function(&close_all_caches));
  nb::set_leak_warnings(false);  // an interpreter may end with what it holds
}

}  // namespace
}  // namespace tiercel::python

NB_MODULE(_core, module) { tiercel::python::bind_all(module); }
