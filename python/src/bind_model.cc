// Layout, ModelIdentity and what they are made of.
#include "bind.h"
#include "errors.h"
#include "hash_bytes.h"
#include "without_gil.h"

#include <nanobind/operators.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <tiercel/layout.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

using namespace nanobind::literals;

namespace tiercel::python {
namespace {

void bind_runs(nb::module_& module) {
  nb::enum_<GroupKind>(module, "GroupKind", "One kind of layer state in a model.")
      .value("FULL_ATTENTION", GroupKind::kFullAttention, "Needs every block before a position.")
      .value("SLIDING_WINDOW", GroupKind::kSlidingWindow, "Needs the blocks of the last window_tokens tokens.")
      .value("RECURRENT", GroupKind::kRecurrent, "Needs the state at exactly one position.");
  nb::enum_<StateKind>(module, "StateKind", "What a run holds.")
      .value("KEY", StateKind::kKey)
      .value("VALUE", StateKind::kValue)
      .value("KEY_VALUE", StateKind::kKeyValue, "K and V of a head side by side.")
      .value("LATENT", StateKind::kLatent, "The compressed latent of MLA.")
      .value("SCALES", StateKind::kScales, "Quantisation scales.")
      .value("RECURRENT", StateKind::kRecurrent, "A state-space or linear-attention state.")
      .value("BLOB", StateKind::kBlob, "An engine's own serialised state.");
  nb::class_<Run>(module, "Run",
                  "One run of a block: split by head (`heads` > 0: heads * block_tokens * bytes_per_head_token bytes) "
                  "or opaque (`heads` == 0: opaque_bytes).")
      .def(
          "__init__",
          [](Run* place, std::uint32_t layer, StateKind kind, std::uint32_t heads, std::uint32_t bytes_per_head_token,
             std::uint64_t opaque_bytes) { new (place) Run{layer, kind, heads, bytes_per_head_token, opaque_bytes}; },
          nb::kw_only(), "layer"_a = 0, "kind"_a = StateKind::kKeyValue, "heads"_a = 0, "bytes_per_head_token"_a = 0,
          "opaque_bytes"_a = 0)
      .def_ro("layer", &Run::layer)
      .def_ro("kind", &Run::kind)
      .def_ro("heads", &Run::heads)
      .def_ro("bytes_per_head_token", &Run::bytes_per_head_token)
      .def_ro("opaque_bytes", &Run::opaque_bytes)
      .def(nb::self == nb::self, nb::sig("def __eq__(self, other: object) -> bool"));
}

void bind_layout(nb::module_& module) {
  nb::class_<Group>(module, "Group", "One kind of layer state, and its runs.")
      .def(
          "__init__",
          [](Group* place, std::vector<Run> runs, GroupKind kind, std::uint32_t window_tokens) {
            new (place) Group{.kind = kind, .window_tokens = window_tokens, .runs = std::move(runs)};
          },
          "runs"_a, nb::kw_only(), "kind"_a = GroupKind::kFullAttention, "window_tokens"_a = 0)
      .def_ro("kind", &Group::kind)
      .def_ro("window_tokens", &Group::window_tokens, "Of a sliding window; else 0.")
      .def_ro("runs", &Group::runs)
      .def(nb::self == nb::self, nb::sig("def __eq__(self, other: object) -> bool"));
  nb::class_<Layout>(module, "Layout", "The run tables of a model's groups, the same for all blocks of a session.")
      .def(
          "__init__", [](Layout* place, std::vector<Group> groups) { new (place) Layout{.groups = std::move(groups)}; },
          "groups"_a)
      .def_static("blob", &Layout::blob, "bytes"_a,
                  "One full-attention group whose block is one opaque blob of at most `bytes` bytes.")
      .def_ro("groups", &Layout::groups)
      .def(nb::self == nb::self, nb::sig("def __eq__(self, other: object) -> bool"));
}

ModelIdentity make_identity(std::string name, std::string kv_dtype, const std::vector<nb::bytes>& weights,
                            const nb::bytes& config_digest, std::uint64_t weights_epoch,
                            const std::map<std::string, std::string>& properties) {
  ModelIdentity model{.name = std::move(name), .weights_epoch = weights_epoch, .kv_dtype = std::move(kv_dtype)};
  if (config_digest.size() != 0) model.config_digest = to_hash(config_digest, "config_digest");
  for (const nb::bytes& digest : weights) model.weights.push_back(to_hash(digest, "weights"));
  model.properties.assign(properties.begin(), properties.end());
  return model;
}

}  // namespace

void bind_model(nb::module_& module) {
  bind_runs(module);
  bind_layout(module);
  nb::class_<ModelIdentity>(module, "ModelIdentity",
                            "All that decides the bytes of a block besides tokens, extra keys, tenant and layout. "
                            "Sessions with another value of any field but `name` share nothing.")
      .def(
          "__init__",
          [](ModelIdentity* place, std::string name, std::string kv_dtype, const std::vector<nb::bytes>& weights,
             const nb::bytes& config_digest, std::uint64_t weights_epoch,
             const std::map<std::string, std::string>& properties) {
            new (place) ModelIdentity(
                make_identity(std::move(name), std::move(kv_dtype), weights, config_digest, weights_epoch, properties));
          },
          nb::kw_only(), "name"_a = "", "kv_dtype"_a = "", "weights"_a = std::vector<nb::bytes>{},
          "config_digest"_a = nb::bytes(""), "weights_epoch"_a = 0,
          "properties"_a = std::map<std::string, std::string>{},
          "weights: the SHA-256 (32 bytes) of every weight file in full, in the order of the files (file_digest). "
          "config_digest: of the model's configuration; empty: none. weights_epoch: another one when weights are "
          "replaced in place. properties: whatever else changes the bytes.")
      .def_ro("name", &ModelIdentity::name, "For people; shared blocks do not depend on it.")
      .def_ro("kv_dtype", &ModelIdentity::kv_dtype)
      .def_ro("weights_epoch", &ModelIdentity::weights_epoch);
  module.def(
      "file_digest",
      [](const std::string& path, const std::string& cache_directory) {
        Result<BlockHash> digest = [&] {
          const WithoutGil without_gil;
          return file_digest(path, cache_directory);
        }();
        return to_bytes(value_or_raise(std::move(digest)));
      },
      "path"_a, "cache_directory"_a = "",
      "SHA-256 (32 bytes) of a file's bytes in full, read without the interpreter's lock. The result is kept "
      "under `cache_directory` (not kept if empty), so that a second start does not read the file again.");
}

}  // namespace tiercel::python
