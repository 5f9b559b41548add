// What stands behind the public handles: one interface a handle, implemented in process (local_*.h) and, over the
// socket, by the service's client. The contract suite of Session runs on every implementation.
#pragma once

#include "base/mapping.h"
#include "cache/chain_ref.h"

#include <tiercel/session.h>

namespace tiercel::detail {

class LoadBackend {
 public:
  virtual ~LoadBackend() = default;
  [[nodiscard]] virtual std::span<const BlockRef> wait() = 0;
  /// True: the answer of wait() and outcome() is final from here on.
  [[nodiscard]] virtual bool done() = 0;
  [[nodiscard]] virtual std::span<const BlockRef> so_far() { return done() ? wait() : std::span<const BlockRef>(); }
  [[nodiscard]] virtual LoadOutcome outcome() const = 0;
  [[nodiscard]] virtual std::vector<BlockRef> take() = 0;
};

/// Items are numbered 0 to size() - 1. Calls for one item come from one thread at a time; revocation (the session's
/// end) may come from another.
class ReservationBackend {
 public:
  virtual ~ReservationBackend() = default;
  [[nodiscard]] virtual std::size_t size() const noexcept = 0;
  [[nodiscard]] virtual Reserved outcome(std::size_t item) const = 0;
  [[nodiscard]] virtual std::span<std::byte> bytes(std::size_t item) const = 0;
  [[nodiscard]] virtual CopyPin begin_copy(std::size_t item) const = 0;
  [[nodiscard]] virtual Status commit(std::size_t item, std::optional<std::size_t> size) = 0;
  /// Several, in order: one status for each. One by one, where an implementation has no shorter way.
  virtual void commit_several(std::span<const WriterCommit> items, std::span<Status> statuses);
  virtual void abort(std::size_t item) noexcept = 0;
  /// The writers are gone: what is not committed is given up and nobody writes into it any more.
  virtual void finish() noexcept = 0;
  [[nodiscard]] virtual std::uint64_t id() const noexcept = 0;
};

class PinBackend {
 public:
  virtual ~PinBackend() = default;
  [[nodiscard]] virtual std::size_t blocks() const = 0;
};

class SessionBackend {
 public:
  virtual ~SessionBackend() = default;
  [[nodiscard]] virtual Space space(std::string_view tenant) const = 0;
  [[nodiscard]] virtual Match match(const ChainRef& chain) const = 0;
  struct LoadCall {
    ChainRef chain;
    std::size_t blocks = 0;
    std::chrono::nanoseconds deadline{};
    const PrefillAhead* ahead = nullptr;  ///< null: it is not said
  };
  [[nodiscard]] virtual std::unique_ptr<LoadBackend> load(const LoadCall& call) = 0;
  [[nodiscard]] virtual std::shared_ptr<ReservationBackend> reserve(const ChainRef& chain, std::size_t first,
                                                                    std::size_t count) = 0;
  [[nodiscard]] virtual Result<std::vector<BlockPart>> parts(std::uint64_t reservation_id,
                                                             std::span<const std::size_t> blocks) = 0;
  [[nodiscard]] virtual Status report(std::uint64_t reservation_id, std::span<const std::size_t> blocks) = 0;
  [[nodiscard]] virtual Result<std::unique_ptr<PinBackend>> pin(const ChainRef& chain, std::size_t blocks,
                                                                std::chrono::nanoseconds ttl) = 0;
  [[nodiscard]] virtual Result<Dropped> drop(const ChainRef& chain, std::size_t first) = 0;
  [[nodiscard]] virtual Result<Dropped> drop(const Space& space) = 0;
  virtual void report_pool(const KvPool& pool) = 0;
  virtual void report_prefill(double bytes_per_second) = 0;
  virtual void report_prefill(const PrefillTime& prefill) = 0;
  [[nodiscard]] virtual std::uint64_t block_bytes() const noexcept = 0;
  [[nodiscard]] virtual const SessionOptions& options() const noexcept = 0;
  /// That its blocks lie in, as this process maps it now; null while there is none.
  [[nodiscard]] virtual std::shared_ptr<const Mapping> arena() const = 0;
  virtual void close() noexcept = 0;
};

}  // namespace tiercel::detail
