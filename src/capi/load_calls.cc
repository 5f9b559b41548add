// Matches, loads, pins and deletes of c.h.
#include "base/try.h"
#include "capi/border.h"
#include "capi/handles.h"

#include <fmt/format.h>

using namespace tiercel;  // NOLINT(google-build-using-namespace): the functions below are C's, outside any namespace
using namespace tiercel::capi;  // NOLINT(google-build-using-namespace)

extern "C" {

tiercel_status tiercel_match(const tiercel_session* session, const tiercel_chain* chain, size_t* blocks) {
  return guarded([&]() -> Status {
    TIERCEL_TRY(require(session, "session"));
    TIERCEL_TRY(require(chain, "chain"));
    TIERCEL_TRY(require(blocks, "blocks"));
    *blocks = session->session.match(chain->chain).blocks();
    return {};
  });
}

tiercel_status tiercel_load_start(tiercel_session* session, const tiercel_chain* chain, size_t blocks,
                                  uint64_t deadline_ns, tiercel_load** load) {
  return guarded([&]() -> Status {
    TIERCEL_TRY(require(load, "load"));
    *load = nullptr;
    TIERCEL_TRY(require(session, "session"));
    TIERCEL_TRY(require(chain, "chain"));
    TIERCEL_TRY(require_blocks(blocks, chain->chain.size()));
    *load = new tiercel_load{.load = session->session.load(chain->chain, blocks, nanoseconds(deadline_ns))};
    return {};
  });
}

tiercel_status tiercel_load_wait(tiercel_load* load, size_t* ready, int32_t* outcome) {
  return guarded([&]() -> Status {
    TIERCEL_TRY(require(load, "load"));
    TIERCEL_TRY(require(ready, "ready"));
    TIERCEL_TRY(require(outcome, "outcome"));
    load->ready = load->load.wait();
    load->waited = true;
    *ready = load->ready.size();
    *outcome = static_cast<int32_t>(load->load.outcome());
    return {};
  });
}

tiercel_status tiercel_load_bytes(const tiercel_load* load, size_t block, const void** bytes, size_t* size) {
  return guarded([&]() -> Status {
    TIERCEL_TRY(require(load, "load"));
    TIERCEL_TRY(require(bytes, "bytes"));
    TIERCEL_TRY(require(size, "size"));
    if (!load->waited) return fail(ErrorCode::kInvalidArgument, "the load has not been waited for (tiercel_load_wait)");
    TIERCEL_TRY(require_block(block, load->ready.size()));
    const auto loaded = load->ready[block].bytes();
    *bytes = loaded.data();
    *size = loaded.size();
    return {};
  });
}

void tiercel_load_free(tiercel_load* load) { delete load; }

tiercel_status tiercel_pin_blocks(tiercel_session* session, const tiercel_chain* chain, size_t blocks, uint64_t ttl_ns,
                                  tiercel_pin** pin) {
  return guarded([&]() -> Status {
    TIERCEL_TRY(require(pin, "pin"));
    *pin = nullptr;
    TIERCEL_TRY(require(session, "session"));
    TIERCEL_TRY(require(chain, "chain"));
    TIERCEL_TRY(require_blocks(blocks, chain->chain.size()));
    TIERCEL_TRY_ASSIGN(Pin pinned, session->session.pin(chain->chain, blocks, nanoseconds(ttl_ns)));
    *pin = new tiercel_pin{std::move(pinned)};
    return {};
  });
}

size_t tiercel_pin_count(const tiercel_pin* pin) { return pin == nullptr ? 0 : pin->pin.blocks(); }

void tiercel_pin_free(tiercel_pin* pin) { delete pin; }

tiercel_status tiercel_drop(tiercel_session* session, const tiercel_chain* chain, size_t first, uint64_t* blocks,
                            uint64_t* pending) {
  return guarded([&]() -> Status {
    TIERCEL_TRY(require(session, "session"));
    TIERCEL_TRY(require(chain, "chain"));
    TIERCEL_TRY(require_block(first, chain->chain.size()));
    TIERCEL_TRY_ASSIGN(const Dropped dropped, session->session.drop(chain->chain, first));
    if (blocks != nullptr) *blocks = dropped.blocks;
    if (pending != nullptr) *pending = dropped.pending;
    return {};
  });
}

}  // extern "C"
