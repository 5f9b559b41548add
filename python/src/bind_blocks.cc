// Space, ExtraKey, BlockChain, hash_blocks: the names of token blocks.
#include "chain.h"
#include "errors.h"
#include "hash_bytes.h"
#include "token_ids.h"
#include "without_gil.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <tiercel/block.h>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

using namespace nanobind::literals;

namespace tiercel::python {
namespace {

constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();

/// One past the end of a chain is Python's IndexError, by which loops over it end.
void check_place(std::size_t place, std::size_t size) {
  if (place >= size) throw nb::index_error("block out of range");
}

Chain make_chain(const Space& space, nb::handle tokens, std::vector<ExtraKey> extra_keys) {
  if (space.block_tokens() == 0)
    raise(ErrorCode::kInvalidArgument, "space: belongs to no session; Session.space() gives one");
  const TokenIds ids(tokens);
  const WithoutGil without_gil;
  BlockChain chain(space, std::move(extra_keys));
  chain.append(ids.ids());
  return Chain(std::move(chain));
}

void bind_space(nb::module_& module) {
  nb::class_<Space>(module, "Space",
                    "A namespace: all that decides the bytes of a block besides its tokens. Session.space() gives it. "
                    "Blocks of two namespaces never meet.")
      .def_prop_ro(
          "fingerprint", [](const Space& space) { return to_bytes(space.fingerprint()); },
          "32 bytes that name the namespace.")
      .def_prop_ro(
          "family", [](const Space& space) { return to_bytes(space.family()); },
          "The fingerprint of the default tenant's namespace with the same model and layout.")
      .def_prop_ro("block_tokens", &Space::block_tokens, "Tokens in a block.")
      .def_prop_ro("tenant", &Space::tenant);

  nb::class_<ExtraKey>(
      module, "ExtraKey",
      "What decides a block's KV besides its tokens: the digest of a LoRA adapter's files or of an "
      "image. It enters the hash of block `first_block` and so, through the chain, of every later one.")
      .def(
          "__init__",
          [](ExtraKey* place, const nb::bytes& bytes, std::size_t first_block) {
            new (place) ExtraKey{.first_block = first_block, .bytes = std::string(bytes.c_str(), bytes.size())};
          },
          "bytes"_a, "first_block"_a = 0)
      .def_prop_ro("bytes", [](const ExtraKey& key) { return nb::bytes(key.bytes.data(), key.bytes.size()); })
      .def_ro("first_block", &ExtraKey::first_block);
}

}  // namespace

void bind_blocks(nb::module_& module) {
  bind_space(module);
  nb::class_<Chain>(module, "BlockChain",
                    "The hashes of the full token blocks of one sequence, first to last. Grows by append(); a tail "
                    "shorter than a block is kept until it fills. len() is the number of blocks, [i] a hash of 32 "
                    "bytes. Safe from several threads.")
      .def(
          "__init__",
          [](Chain* place, const Space& space, nb::handle tokens, std::vector<ExtraKey> extra_keys) {
            new (place) Chain(make_chain(space, tokens, std::move(extra_keys)));
          },
          "space"_a, "tokens"_a = nb::tuple(), "extra_keys"_a = std::vector<ExtraKey>{},
          nb::sig("def __init__(self, space: Space, tokens: collections.abc.Iterable[int] = (), extra_keys: "
                  "collections.abc.Sequence[ExtraKey] = ()) -> None"),
          "The chain of `tokens`, which start at position 0 of their sequence: an iterable of ints, or a buffer of one "
          "dimension with 32-bit or 64-bit integers (array.array, numpy; signed 32-bit ones are hashed where they lie)."
          "\n\nRaises InvalidArgumentError for a number that is no 32-bit token id.")
      .def(
          "append",
          [](Chain& chain, nb::handle tokens) {
            const TokenIds ids(tokens);
            const WithoutGil without_gil;
            chain.append(ids.ids());
          },
          "tokens"_a, nb::sig("def append(self, tokens: collections.abc.Iterable[int]) -> None"),
          "Adds tokens and hashes every block that became full; errors as for the constructor, which then added none.")
      .def_static(
          "from_hashes",
          [](const Space& space, const nb::bytes& hashes) {
            return Chain(BlockChain::of_hashes(space, to_hashes(hashes, "hashes")));
          },
          "space"_a, "hashes"_a,
          "The chain of blocks that another process of the same engine has hashed: hash_bytes() of its chain.\n\n"
          "InvalidArgumentError: the length is no multiple of 32.")
      .def(
          "hash_bytes",
          [](const Chain& chain, std::size_t first, std::optional<std::size_t> count) {
            return chain.read([&](const BlockChain& c) {
              const std::size_t begin = std::min(first, c.size());
              const auto part =
                  std::as_bytes(c.hashes().subspan(begin, std::min(count.value_or(kAll), c.size() - begin)));
              return nb::bytes(part.data(), part.size());
            });
          },
          "first"_a = 0, "count"_a = nb::none(),
          "The hashes of its blocks from `first` on, 32 bytes each, in one piece.")
      .def("__len__", [](const Chain& chain) { return chain.read([](const BlockChain& c) { return c.size(); }); })
      .def(
          "__getitem__",
          [](const Chain& chain, std::size_t block) {
            return to_bytes(chain.read([block](const BlockChain& c) {
              check_place(block, c.size());
              return c[block];
            }));
          },
          "block"_a)
      .def_prop_ro(
          "tokens", [](const Chain& chain) { return chain.read([](const BlockChain& c) { return c.tokens(); }); },
          "Tokens given so far, the unfinished tail included.")
      .def_prop_ro("space",
                   [](const Chain& chain) { return chain.read([](const BlockChain& c) { return c.space(); }); });

  module.def("hash_blocks", &make_chain, "space"_a, "tokens"_a, "extra_keys"_a = std::vector<ExtraKey>{},
             nb::sig("def hash_blocks(space: Space, tokens: collections.abc.Iterable[int], extra_keys: "
                     "collections.abc.Sequence[ExtraKey] = ()) -> BlockChain"),
             "The chain of `tokens`, as BlockChain(space, tokens, extra_keys).");
}

}  // namespace tiercel::python
