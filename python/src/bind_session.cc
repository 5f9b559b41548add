// Match, Session and Client.
#include "bind.h"
#include "chain.h"
#include "handles.h"
#include "owners.h"
#include "seconds.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <limits>
#include <string>
#include <utility>

using namespace nanobind::literals;

namespace tiercel::python {
namespace {

constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();

void bind_match(nb::module_& module) {
  nb::enum_<TierId>(module, "TierId")
      .value("HOST", TierId::kHost)
      .value("DISK", TierId::kDisk)
      .value("REMOTE", TierId::kRemote);
  nb::class_<Match>(module, "Match",
                    "How many leading token blocks of a chain can be served, and from which tiers. Advisory: a load "
                    "checks again.")
      .def_prop_ro("blocks", &Match::blocks)
      .def("blocks_in", &Match::blocks_in, "tier"_a, "How many of them this tier holds.")
      .def(
          "tiers",
          [](const Match& match, std::size_t block) {
            if (block >= match.blocks()) throw nb::index_error("block out of range");
            std::vector<TierId> tiers;
            for (const TierId tier : {TierId::kHost, TierId::kDisk, TierId::kRemote})
              if (match.tiers(block).has(tier)) tiers.push_back(tier);
            return tiers;
          },
          "block"_a, "The tiers that hold this block.")
      .def_prop_ro(
          "predicted_load_s",
          [](const Match& match) -> std::optional<double> {
            const auto time = match.predicted_load_time();
            if (!time) return std::nullopt;
            return std::chrono::duration<double>(*time).count();
          },
          "Seconds, by measured loads of this cache from the same tiers; None before the first.");
  nb::class_<Dropped>(module, "Dropped", "What a delete did.")
      .def_ro("blocks", &Dropped::blocks)
      .def_ro("pending", &Dropped::pending, "Copies that are still being read or written and go when that ends.")
      .def_ro("bytes", &Dropped::bytes, "Of the slots that these blocks had, in all tiers.")
      .def_ro("unnamed_namespaces", &Dropped::unnamed_namespaces,
              "Namespaces on disk whose tenant nobody knows: the tenant's may be among them.");
  nb::class_<SessionGroup>(module, "SessionGroup",
                           "The members of one engine: its scheduler (member 0), which alone reserves, and its ranks, "
                           "which report their part.")
      .def(
          "__init__",
          [](SessionGroup* place, std::string engine_id, std::uint32_t members, std::uint32_t member) {
            new (place) SessionGroup{std::move(engine_id), members, member};
          },
          "engine_id"_a = "", "members"_a = 1, "member"_a = 0)
      .def_ro("engine_id", &SessionGroup::engine_id)
      .def_ro("members", &SessionGroup::members)
      .def_ro("member", &SessionGroup::member);
}

Match match(const PySession& session, const Chain& chain) {
  const WithoutGil without_gil;
  Session& open = session->get();
  return chain.read([&](const BlockChain& c) { return open.match(c); });
}

PyLoad load(const PySession& session, const Chain& chain, std::size_t blocks, double deadline_s,
            std::optional<std::uint64_t> prompt_tokens, std::uint64_t context_tokens, std::uint64_t waiting,
            double copy_bytes_per_s) {
  const auto deadline = to_duration(deadline_s, "deadline_s");
  const PrefillAhead ahead{.prompt_tokens = prompt_tokens.value_or(0),
                           .context_tokens = context_tokens,
                           .waiting = waiting,
                           .copy_bytes_per_second = copy_bytes_per_s};
  const WithoutGil without_gil;
  Session& open = session->get();
  return PyLoad(std::make_shared<LoadState>(chain.read([&](const BlockChain& c) {
    return prompt_tokens ? open.load(c, blocks, deadline, ahead) : open.load(c, blocks, deadline);
  }),
                                            session.shared()));
}

PyReservation reserve(const PySession& session, const Chain& chain, std::size_t first,
                      std::optional<std::size_t> count) {
  auto made = [&] {
    const WithoutGil without_gil;
    Session& open = session->get();
    return chain.read([&](const BlockChain& c) { return open.reserve(c, first, count.value_or(kAll)); });
  }();
  return PyReservation(std::make_shared<ReservationState>(std::move(made), session.shared()));
}

PyPin pin(const PySession& session, const Chain& chain, std::size_t blocks, double ttl_s) {
  const auto ttl = to_duration(ttl_s, "ttl_s");
  const WithoutGil without_gil;
  Session& open = session->get();
  return PyPin(std::make_shared<PinState>(
      value_or_raise(chain.read([&](const BlockChain& c) { return open.pin(c, blocks, ttl); })), session.shared()));
}

nb::list parts(const PySession& session, std::uint64_t reservation_id, const std::vector<std::size_t>& blocks) {
  auto all = [&] {
    const WithoutGil without_gil;
    return value_or_raise(session->get().parts(reservation_id, blocks));
  }();
  nb::list views;
  for (BlockPart& part : all) views.append(view_of_part(std::move(part)));
  return views;
}

void bind_calls(nb::class_<PySession>& session) {
  session
      .def("match", &match, "chain"_a, "The largest n such that the first n token blocks can be served. Pins nothing.")
      .def("load", &load, "chain"_a, "blocks"_a, "deadline_s"_a, nb::kw_only(), "prompt_tokens"_a = nb::none(),
           "context_tokens"_a = 0, "waiting"_a = 0, "copy_bytes_per_s"_a = 0.0,
           "Promotes, verifies and pins the first `blocks` token blocks, or as many as are ready after `deadline_s` "
           "seconds. Returns at once; Load.wait() waits.\n\n"
           "With `prompt_tokens`, of the whole prompt, no more blocks than are loaded sooner than this engine computes "
           "them, by the prefills that it has reported (LoadOutcome.SLOWER). `context_tokens`: leading ones whose KV "
           "the engine has itself; `waiting`: other requests that wait for the engine meanwhile; `copy_bytes_per_s`: "
           "from the arena to the engine's own memory, 0 if that is not known.")
      .def("reserve", &reserve, "chain"_a, "first"_a, "count"_a = nb::none(),
           "Writers for the blocks [first, len(chain)) that are not present, at most `count`. Never waits.")
      .def("pin", &pin, "chain"_a, "blocks"_a, "ttl_s"_a,
           "Pins the first `blocks` blocks, as many of them as are in the host tier, for at most `ttl_s` seconds.\n\n"
           "LimitError: the share of the arena that may be pinned is used up. InvalidArgumentError: a time over "
           "limits.pin_max_ttl.")
      .def(
          "drop",
          [](const PySession& self, const Chain& chain, std::size_t first) {
            const WithoutGil without_gil;
            Session& open = self->get();
            return value_or_raise(chain.read([&](const BlockChain& c) { return open.drop(c, first); }));
          },
          "chain"_a, "first"_a, "Deletes block `first` of the chain and everything that continues it, in every tier.")
      .def(
          "drop",
          [](const PySession& self, const Space& space) {
            const WithoutGil without_gil;
            return value_or_raise(self->get().drop(space));
          },
          "space"_a, "Deletes every block of a namespace.")
      .def("parts", &parts, "reservation_id"_a, "blocks"_a,
           nb::sig("def parts(self, reservation_id: int, blocks: collections.abc.Sequence[int]) -> list[memoryview]"),
           "For a member that is not the scheduler: writable views of these blocks (positions in the chain) of an open "
           "reservation, all or none. Release them when nothing is written any more.\n\nNotFoundError: the reservation "
           "has ended. InvalidArgumentError: a block without a writer there.")
      .def(
          "report",
          [](const PySession& self, std::uint64_t reservation_id, const std::vector<std::size_t>& blocks) {
            const WithoutGil without_gil;
            raise_unless(self->get().report(reservation_id, blocks));
          },
          "reservation_id"_a, "blocks"_a, "This member's part of these blocks is in place. Errors as for parts().")
      .def(
          "report_pool",
          [](const PySession& self, std::uint64_t used_bytes, std::uint64_t free_bytes, std::uint64_t total_bytes) {
            const WithoutGil without_gil;
            self->get().report_pool({used_bytes, free_bytes, total_bytes});
          },
          nb::kw_only(), "used_bytes"_a, "free_bytes"_a, "total_bytes"_a,
          "Tells the cache how full the engine's own KV pool is, for people to see.")
      .def(
          "report_prefill",
          [](const PySession& self, double bytes_per_second) {
            const WithoutGil without_gil;
            self->get().report_prefill(bytes_per_second);
          },
          "bytes_per_second"_a,
          "Tells the cache how many bytes of KV the engine's own prefill computes a second, as it was measured: what "
          "loads have saved is shown by it.")
      .def(
          "report_prefill_time",
          [](const PySession& self, std::uint64_t context_tokens, std::uint64_t tokens, double seconds) {
            const auto time = to_duration(seconds, "seconds");
            const WithoutGil without_gil;
            self->get().report_prefill(PrefillTime{.context_tokens = context_tokens, .tokens = tokens, .time = time});
          },
          "context_tokens"_a, "tokens"_a, "seconds"_a,
          "Tells this session how long the engine computed so many tokens of one prompt behind so many others whose KV "
          "was there: loads with `prompt_tokens` are planned by it.");
}

void bind_session_class(nb::module_& module) {
  nb::class_<PySession> session(
      module, "Session",
      "A connection to a cache, with one model and one layout (Cache.open_session, "
      "Client.open_session). Safe from several threads; keeps its Cache or Client. A chain of "
      "another model finds nothing.");
  bind_calls(session);
  session
      .def(
          "space",
          [](const PySession& self, std::string_view tenant) {
            const WithoutGil without_gil;
            return self->get().space(tenant);
          },
          "tenant"_a = "", "The namespace of a tenant (\"default\" if empty) with this session's model and layout.")
      .def_prop_ro(
          "block_bytes", [](const PySession& self) { return self->get().block_bytes(); },
          "Bytes of one block in this session's layout.")
      .def(
          "close",
          [](const PySession& self) {
            const WithoutGil without_gil;
            self->close();
          },
          "Aborts this session's reservations and ends its pins. Further calls raise ClosedError.")
      .def(
          "__enter__", [](nb::object self) { return self; }, nb::sig("def __enter__(self) -> Session"))
      .def(
          "__exit__",
          [](const PySession& self, const nb::args&) {
            const WithoutGil without_gil;
            self->close();
          },
          nb::sig("def __exit__(self, *args: object) -> None"));
}

PyClient connect(const std::string& socket, const nb::object& start, double call_deadline_s, double reconnect_pause_s) {
  using std::chrono::milliseconds;
  ClientOptions options{.socket = socket,
                        .call_deadline = to_duration<milliseconds>(call_deadline_s, "call_deadline_s"),
                        .reconnect_pause = to_duration<milliseconds>(reconnect_pause_s, "reconnect_pause_s")};
  if (nb::isinstance<StartOptions>(start)) {
    options.start = nb::cast<StartOptions>(start);
  } else if (nb::cast<bool>(start)) {
    options.start.emplace();
  }
  const WithoutGil without_gil;
  return PyClient(std::make_shared<ClientState>(value_or_raise(Client::connect(options))));
}

void bind_client(nb::module_& module) {
  nb::class_<StartOptions>(module, "StartOptions",
                           "How a private service is started: `tiercel serve --private [--config FILE] [ARGUMENTS]`.")
      .def(
          "__init__",
          [](StartOptions* place, std::string program, std::string config, std::vector<std::string> arguments,
             double deadline_s, std::uint32_t restarts_an_hour) {
            new (place) StartOptions{.program = std::move(program),
                                     .config = std::move(config),
                                     .arguments = std::move(arguments),
                                     .deadline = to_duration<std::chrono::milliseconds>(deadline_s, "deadline_s"),
                                     .restarts_an_hour = restarts_an_hour};
          },
          nb::kw_only(), "program"_a = "", "config"_a = "", "arguments"_a = std::vector<std::string>{},
          "deadline_s"_a = 30.0, "restarts_an_hour"_a = 6,
          "program: the program `tiercel`; empty: $TIERCEL_PROGRAM, else the one of this package. config: a file of "
          "settings. arguments: flags of `tiercel serve`; paths in them must be absolute. deadline_s: seconds for "
          "starting and connecting together, 0.1 to 300. restarts_an_hour: how often a service that was lost is "
          "started again without anybody calling, 0 to 60.")
      .def_ro("program", &StartOptions::program)
      .def_ro("config", &StartOptions::config)
      .def_ro("arguments", &StartOptions::arguments);
  nb::class_<PyClient>(
      module, "Client",
      "A cache that another process of this machine serves (`tiercel serve`), reached over its Unix "
      "socket. Sessions are as those of a Cache; blocks lie in the service's arena, which this process "
      "maps. A service that does not answer is a miss, not an error. Safe from several threads; not "
      "for a forked child.")
      .def_static("connect", &connect, "socket"_a = "", nb::kw_only(), "start"_a = false, "call_deadline_s"_a = 0.5,
                  "reconnect_pause_s"_a = 0.05,
                  nb::sig("def connect(socket: str = '', *, start: StartOptions | bool = False, "
                          "call_deadline_s: float = 0.5, reconnect_pause_s: float = 0.05) -> Client"),
                  "Connects to the service at `socket`; empty: default_socket_path(). start: True or StartOptions "
                  "starts a service of this user's own where none answers, at private_socket_path() if `socket` is "
                  "empty. call_deadline_s: how long a call waits for a service that does not answer, 0.001 to 60.\n\n"
                  "NotFoundError: no service is there. UnsupportedError: it speaks another version. LimitError: it has "
                  "too many clients.")
      .def(
          "open_session",
          [](const PyClient& client, const ModelIdentity& model, const Layout& layout, std::uint32_t block_tokens,
             const SessionGroup& group) { return open_session(client.shared(), {model, block_tokens, layout, group}); },
          "model"_a, "layout"_a, "block_tokens"_a = 64, "group"_a = SessionGroup{},
          nb::sig("def open_session(self, model: ModelIdentity, layout: Layout, block_tokens: int = 64, "
                  "group: SessionGroup = ...) -> Session"),
          "As Cache.open_session().")
      .def_prop_ro(
          "socket", [](const PyClient& client) { return client->get()->socket(); }, "The path that it connects to.")
      .def(
          "sync",
          [](const PyClient& client) {
            const WithoutGil without_gil;
            return client->get()->sync();
          },
          "Waits until the service has seen all that this client has given back so far. False: it did not answer.")
      .def(
          "close",
          [](const PyClient& client) {
            const WithoutGil without_gil;
            client->close();
          },
          "Closes its sessions and the connection. Further calls raise ClosedError.")
      .def(
          "__enter__", [](nb::object self) { return self; }, nb::sig("def __enter__(self) -> Client"))
      .def(
          "__exit__",
          [](const PyClient& client, const nb::args&) {
            const WithoutGil without_gil;
            client->close();
          },
          nb::sig("def __exit__(self, *args: object) -> None"));
  module.def("default_socket_path", &default_socket_path,
             "$TIERCEL_SOCKET, else $XDG_RUNTIME_DIR/tiercel/tiercel.sock, else /run/tiercel/tiercel.sock.");
  module.def("private_socket_path", &private_socket_path, "start"_a = StartOptions{},
             nb::sig("def private_socket_path(start: StartOptions = ...) -> str"),
             "Where a private service of this user is, one for each configuration.");
}

}  // namespace

void bind_session(nb::module_& module) {
  bind_match(module);
  bind_session_class(module);
  bind_client(module);
}

}  // namespace tiercel::python
