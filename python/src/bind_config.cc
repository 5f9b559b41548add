// Config: settings from TOML, a file or keywords. tiercel/_toml.py writes keywords as TOML, so that the one table of
// settings checks all three.
#include "bind.h"
#include "errors.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>
#include <tiercel/config.h>

#include <string>
#include <string_view>

using namespace nanobind::literals;

namespace tiercel::python {
namespace {

void bind_tiers(nb::module_& module) {
  nb::class_<HostConfig>(module, "HostConfig", "Tier G2, the host arena.")
      .def_ro("capacity", &HostConfig::capacity, "Bytes; 0: a quarter of what is free under the cgroup's limit.")
      .def_ro("prefault", &HostConfig::prefault)
      .def_ro("extent_bytes", &HostConfig::extent_bytes)
      .def_ro("min_slot_bytes", &HostConfig::min_slot_bytes, "The smallest place of a block.");
  nb::class_<DiskConfig>(module, "DiskConfig", "Tier G3, local disk.")
      .def_ro("directories", &DiskConfig::directories)
      .def_ro("capacity", &DiskConfig::capacity, "Bytes in total over all directories.")
      .def_ro("direct", &DiskConfig::direct)
      .def_ro("depth", &DiskConfig::depth, "Operations in flight, a directory.");
  nb::class_<IndexConfig>(module, "IndexConfig")
      .def_ro("blocks", &IndexConfig::blocks, "Entries; 0: (host + disk capacity) / host.min_slot_bytes.");
  nb::class_<LimitsConfig>(module, "LimitsConfig", "Bounds.")
      .def_ro("sessions", &LimitsConfig::sessions)
      .def_ro("namespaces", &LimitsConfig::namespaces)
      .def_ro("tenants", &LimitsConfig::tenants)
      .def_ro("pinned_percent", &LimitsConfig::pinned_percent, "Of the arena, by logical pins.");
  nb::class_<WorkersConfig>(module, "WorkersConfig")
      .def_ro("threads", &WorkersConfig::threads, "Of the cache's executor; 0: min(4, processors).");
}

Config with_toml(const nb::str& text, std::string_view origin, const Config& base) {
  return value_or_raise(parse_toml(text.c_str(), origin, base));
}

}  // namespace

Config make_config(const Config& base, const nb::kwargs& sections) {
  if (sections.empty()) return base;
  const nb::object write = nb::module_::import_("tiercel._toml").attr("write");
  return with_toml(nb::str(write(nb::dict(sections))), "keywords", base);
}

void bind_config(nb::module_& module) {
  bind_tiers(module);
  nb::class_<Config>(module, "Config",
                     "All settings of a cache; docs/configuration.md says what each means. What can be read here is a "
                     "part of them.")
      .def(
          "__init__",
          [](Config* place, const nb::str& toml, const nb::kwargs& sections) {
            new (place) Config(make_config(with_toml(toml, "<text>", {}), sections));
          },
          "toml"_a = "", "sections"_a,
          nb::sig("def __init__(self, toml: str = '', **sections: collections.abc.Mapping[str, object]) -> None"),
          "From TOML text, and from keywords over it: Config(host={\"capacity\": \"8GiB\"}, disk={...}). Values are "
          "those of a file; a number is bytes where bytes are meant, a datetime.timedelta a time, a pathlib.Path a "
          "path.\n\nUnknownKeyError, InvalidArgumentError: the sentence names the key, the value and what would be "
          "valid.")
      .def_static(
          "from_file",
          [](const std::string& path, const nb::kwargs& sections) {
            return make_config(value_or_raise(load_config_file(path)), sections);
          },
          "path"_a, "sections"_a,
          nb::sig("def from_file(path: str, **sections: collections.abc.Mapping[str, object]) -> Config"),
          "From a TOML file, and from keywords over it.")
      .def_ro("host", &Config::host)
      .def_ro("disk", &Config::disk)
      .def_ro("index", &Config::index)
      .def_ro("limits", &Config::limits)
      .def_ro("workers", &Config::workers);
  module.def(
      "parse_bytes", [](std::string_view text) { return value_or_raise(parse_bytes(text)); }, "text"_a,
      "\"256KiB\", \"1.5GiB\", \"10GB\", \"4096\" -> bytes.");
  module.def("format_bytes", &format_bytes, "bytes"_a, "The shortest exact form: 268435456 -> \"256MiB\".");
}

}  // namespace tiercel::python
