// The parts of the module tiercel._core, each bound by a file of its own.
#pragma once

#include <nanobind/nanobind.h>
#include <tiercel/config.h>

namespace tiercel::python {

namespace nb = nanobind;

void bind_config(nb::module_& module);
void bind_model(nb::module_& module);
void bind_stats(nb::module_& module);
void bind_session(nb::module_& module);  // Match, Session, Client
void bind_cache(nb::module_& module);    // Cache

/// `base` with what the keywords say.
[[nodiscard]] Config make_config(const Config& base, const nb::kwargs& sections);

}  // namespace tiercel::python
