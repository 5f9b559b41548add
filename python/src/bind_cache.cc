// Cache.
#include "bind.h"
#include "owners.h"
#include "seconds.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <optional>
#include <utility>

using namespace nanobind::literals;

namespace tiercel::python {
namespace {

void bind_reports(nb::module_& module) {
  nb::enum_<Mode>(module, "Mode", "What sessions may do with a cache.")
      .value("ON", Mode::kOn)
      .value("STORE_ONLY", Mode::kStoreOnly, "A match finds nothing, a load answers MISS at once.")
      .value("LOAD_ONLY", Mode::kLoadOnly, "reserve() answers BUSY for every block.")
      .value("OFF", Mode::kOff, "Both.");
  nb::enum_<DiskDirectoryState>(module, "DiskDirectoryState")
      .value("STARTING", DiskDirectoryState::kStarting, "Not opened yet, or being indexed: what was found is served.")
      .value("ON", DiskDirectoryState::kOn)
      .value("READ_ONLY", DiskDirectoryState::kReadOnly, "Writes fail.")
      .value("OFF", DiskDirectoryState::kOff, "Reads fail or stall.")
      .value("REFUSED", DiskDirectoryState::kRefused, "The file is not ours to use.")
      .value("CLOSED", DiskDirectoryState::kClosed);
  nb::class_<DiskReport>(module, "DiskReport", "One directory of the disk tier.")
      .def_ro("directory", &DiskReport::directory)
      .def_ro("state", &DiskReport::state)
      .def_ro("cause", &DiskReport::cause, "Of a state that is not ON; empty if there is none.")
      .def_ro("indexed", &DiskReport::indexed, "All that was in the file at the start is known.")
      .def_ro("found_blocks", &DiskReport::found_blocks, "At the start.")
      .def_ro("found_bytes", &DiskReport::found_bytes);
}

void bind_operating(nb::class_<PyCache>& cache) {
  cache
      .def_prop_rw(
          "mode", [](const PyCache& self) { return self->get()->mode(); },
          [](const PyCache& self, Mode mode) { self->get()->set_mode(mode); },
          "What all sessions may do from their next call on.")
      .def(
          "disks",
          [](const PyCache& self) {
            const WithoutGil without_gil;
            return self->get()->disks();
          },
          "The directories of the disk tier, in the order of disk.directories. They open in the background.")
      .def(
          "wait_for_disks",
          [](const PyCache& self, double deadline_s) {
            const auto deadline = to_duration(deadline_s, "deadline_s");
            const WithoutGil without_gil;
            return self->get()->wait_for_disks(deadline);
          },
          "deadline_s"_a,
          "Waits until every directory is indexed or known not to come for now, or the deadline. True: so it is.")
      .def(
          "drop_tenant",
          [](const PyCache& self, std::string_view name) {
            const WithoutGil without_gil;
            return value_or_raise(self->get()->drop_tenant(name));
          },
          "name"_a, "Deletes every block of a tenant, of whatever model, in every tier.")
      .def(
          "stats",
          [](const PyCache& self) {
            const WithoutGil without_gil;
            return self->get()->stats();
          },
          "A snapshot of every counter and gauge.");
}

}  // namespace

void bind_cache(nb::module_& module) {
  bind_reports(module);
  nb::class_<PyCache> cache(module, "Cache",
                            "The whole of Tiercel in this process: arena, index, tiers and a few threads. Safe from "
                            "several threads; not for a forked child. Closed by a `with` block, by close(), with its "
                            "last session, or when the interpreter ends.");
  cache.def_static(
      "open",
      [](const std::optional<Config>& config, const nb::kwargs& sections) {
        const Config whole = make_config(config.value_or(Config{}), sections);
        const WithoutGil without_gil;
        return keep(value_or_raise(Cache::open(whole)));
      },
      "config"_a = nb::none(), "sections"_a,
      nb::sig("def open(config: Config | None = None, **sections: collections.abc.Mapping[str, object]) -> Cache"),
      "Opens a cache: Cache.open(host={\"capacity\": \"8GiB\"}), or with a Config, and keywords over it. Errors name "
      "the key, the value and what would be valid; nothing half-starts.");
  bind_operating(cache);
  cache
      .def(
          "open_session",
          [](const PyCache& self, const ModelIdentity& model, const Layout& layout, std::uint32_t block_tokens,
             const SessionGroup& group) { return open_session(self.shared(), {model, block_tokens, layout, group}); },
          "model"_a, "layout"_a, "block_tokens"_a = 64, "group"_a = SessionGroup{},
          nb::sig("def open_session(self, model: ModelIdentity, layout: Layout, block_tokens: int = 64, "
                  "group: SessionGroup = ...) -> Session"),
          "Opens a session. block_tokens: 1 to 65,536.\n\nInvalidArgumentError: a layout without bytes, or a block "
          "larger than a quarter of an extent. UnsupportedError: several groups, or a group other than full attention. "
          "LimitError: limits.sessions.")
      .def(
          "close",
          [](const PyCache& self, double deadline_s) {
            const auto deadline = to_duration(deadline_s, "deadline_s");
            const WithoutGil without_gil;
            raise_unless(self->close(deadline));
          },
          "deadline_s"_a = 5.0,
          "Ends all sessions and waits at most `deadline_s` seconds for copies in flight and for blocks that wait to "
          "be written. A second call does nothing.\n\nTimeoutError: something was still running, for example a view "
          "of a block that is still held; its memory stays mapped until it ends, and all else is closed in order.")
      .def_prop_ro("closed", [](const PyCache& self) { return self->is_closed(); })
      .def(
          "__enter__", [](nb::object self) { return self; }, nb::sig("def __enter__(self) -> Cache"))
      .def(
          "__exit__",
          [](const PyCache& self, const nb::args&) {
            const WithoutGil without_gil;
            self->farewell();
          },
          nb::sig("def __exit__(self, *args: object) -> None"),
          "Closes as close() does, with two seconds for blocks on their way to disk and none for views of blocks "
          "that are still held.");
}

}  // namespace tiercel::python
