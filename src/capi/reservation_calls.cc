// Reservations and their writers of c.h.
#include "base/try.h"
#include "capi/border.h"
#include "capi/handles.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

namespace tiercel::capi {
namespace {

/// The writer of block i while it can be written.
Result<Writer*> open_writer(tiercel_reservation* reservation, std::size_t i) {
  TIERCEL_TRY(require(reservation, "reservation"));
  TIERCEL_TRY(require_block(i, reservation->reservation.size()));
  Writer& writer = reservation->reservation.writer(i);
  if (!writer.bytes().empty()) return &writer;
  const Reserved outcome = reservation->reservation.outcome(i);
  if (outcome == Reserved::kYes) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("block {} was committed or aborted", i));
  }
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("block {} has no writer: its outcome is {}, not 0 (yes)", i, static_cast<int>(outcome)));
}

}  // namespace
}  // namespace tiercel::capi

using namespace tiercel;  // NOLINT(google-build-using-namespace): the functions below are C's, outside any namespace
using namespace tiercel::capi;  // NOLINT(google-build-using-namespace)

extern "C" {

tiercel_status tiercel_reserve(tiercel_session* session, const tiercel_chain* chain, size_t first, size_t count,
                               tiercel_reservation** reservation) {
  return guarded([&]() -> Status {
    TIERCEL_TRY(require(reservation, "reservation"));
    *reservation = nullptr;
    TIERCEL_TRY(require(session, "session"));
    TIERCEL_TRY(require(chain, "chain"));
    TIERCEL_TRY(require_blocks(first, chain->chain.size()));
    *reservation = new tiercel_reservation{session->session.reserve(chain->chain, first, count)};
    return {};
  });
}

size_t tiercel_reservation_size(const tiercel_reservation* reservation) {
  return reservation == nullptr ? 0 : reservation->reservation.size();
}

int32_t tiercel_reservation_outcome(const tiercel_reservation* reservation, size_t i) {
  if (i >= tiercel_reservation_size(reservation)) return -1;
  return static_cast<int32_t>(reservation->reservation.outcome(i));
}

tiercel_status tiercel_writer_bytes(tiercel_reservation* reservation, size_t i, void** bytes, size_t* size) {
  return guarded([&]() -> Status {
    TIERCEL_TRY(require(bytes, "bytes"));
    TIERCEL_TRY(require(size, "size"));
    TIERCEL_TRY_ASSIGN(Writer* const writer, open_writer(reservation, i));
    *bytes = writer->bytes().data();
    *size = writer->bytes().size();
    return {};
  });
}

tiercel_status tiercel_writer_commit(tiercel_reservation* reservation, size_t i, size_t size) {
  return guarded([&]() -> Status {
    TIERCEL_TRY_ASSIGN(Writer* const writer, open_writer(reservation, i));
    return writer->commit(size == 0 ? std::nullopt : std::optional(size));
  });
}

tiercel_status tiercel_reservation_commit(tiercel_reservation* reservation, const size_t* blocks, const size_t* sizes,
                                          size_t count, tiercel_status* statuses) {
  return guarded([&]() -> Status {
    TIERCEL_TRY(require(reservation, "reservation"));
    TIERCEL_TRY(require_array(blocks, count, "blocks"));
    std::vector<WriterCommit> writers(count);
    for (std::size_t i = 0; i < count; ++i) {
      TIERCEL_TRY(require_block(blocks[i], reservation->reservation.size()));
      writers[i].writer = blocks[i];
      if (sizes != nullptr && sizes[i] != 0) writers[i].size = sizes[i];
    }
    TIERCEL_TRY_ASSIGN(const Committed done, reservation->reservation.commit(writers));
    if (statuses != nullptr) {
      std::fill_n(statuses, count, TIERCEL_OK);
      for (const CommitFailure& failure : done.failures) {
        statuses[failure.place] = static_cast<tiercel_status>(failure.error.code);
      }
    }
    if (done.failures.empty()) return {};
    return tl::unexpected<Error>(done.failures.front().error);
  });
}

tiercel_status tiercel_writer_abort(tiercel_reservation* reservation, size_t i) {
  return guarded([&]() -> Status {
    TIERCEL_TRY_ASSIGN(Writer* const writer, open_writer(reservation, i));
    writer->abort();
    return {};
  });
}

void tiercel_reservation_free(tiercel_reservation* reservation) { delete reservation; }

}  // extern "C"
