// Session: one process's connection to a cache, in process or by socket, and the handles that it gives.
//
// A session has one model and one layout. All calls are safe from several threads; a handle (Load, Reservation,
// Writer, BlockRef, Pin, CopyPin) belongs to one thread at a time. Handles may outlive their session and their cache:
// what they reach stays mapped and unused by others until they are gone; their calls then answer kClosed.
// No call waits longer than the deadline it is given; reserve, match and pin never wait.
#pragma once

#include <tiercel/block.h>
#include <tiercel/export.h>
#include <tiercel/layout.h>
#include <tiercel/result.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tiercel {

enum class TierId : std::uint8_t { kHost = 0, kDisk = 1, kRemote = 2 };
inline constexpr std::size_t kTierCount = 3;

/// A set of tiers, one bit each.
struct TierSet {
  std::uint8_t bits = 0;
  [[nodiscard]] bool has(TierId tier) const noexcept { return ((bits >> static_cast<unsigned>(tier)) & 1U) != 0; }
  friend bool operator==(TierSet, TierSet) = default;
};

/// What sessions may do with a cache. One mode holds for all of them and one for each engine; the stricter of the two
/// counts (Cache::set_mode). A change takes effect with the next call: handles that were given before stay as good as
/// they were, a load that is under way comes to its end, a writer can still be committed. Pins, deletes and what a
/// group's members report work in every mode.
enum class Mode : std::uint8_t {
  kOn = 0,
  kStoreOnly = 1,  ///< a match finds nothing, a load answers kMiss at once
  kLoadOnly = 2,   ///< reserve answers kBusy for every block, and gives no writer
  kOff = 3,        ///< both
};
inline constexpr std::size_t kModes = 4;

[[nodiscard]] constexpr bool allows_loads(Mode mode) noexcept { return (static_cast<unsigned>(mode) & 1U) == 0; }
[[nodiscard]] constexpr bool allows_stores(Mode mode) noexcept { return (static_cast<unsigned>(mode) & 2U) == 0; }
/// What both allow.
[[nodiscard]] constexpr Mode stricter(Mode a, Mode b) noexcept {
  return static_cast<Mode>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
/// "on", "store_only", "load_only", "off"; "unknown" for a value outside the table.
[[nodiscard]] TIERCEL_API std::string_view mode_name(Mode mode) noexcept;

/// How many leading token blocks of a chain can be served, and from which tiers. Advisory: a load checks again.
class TIERCEL_API Match {
 public:
  Match() = default;
  Match(std::vector<TierSet> tiers, std::optional<std::chrono::nanoseconds> predicted)
      : tiers_(std::move(tiers)), predicted_load_time_(predicted) {}

  [[nodiscard]] std::size_t blocks() const noexcept { return tiers_.size(); }
  /// The tiers that hold token block `block` (all its groups).
  [[nodiscard]] TierSet tiers(std::size_t block) const { return tiers_[block]; }
  [[nodiscard]] std::size_t blocks_in(TierId tier) const noexcept;
  /// From measured loads of this cache; empty before the first.
  [[nodiscard]] std::optional<std::chrono::nanoseconds> predicted_load_time() const noexcept {
    return predicted_load_time_;
  }

 private:
  std::vector<TierSet> tiers_;
  std::optional<std::chrono::nanoseconds> predicted_load_time_;
};

namespace detail {
/// Keeps an arena mapped and counts the copy pins of its slots. Implemented by whoever owns or maps the arena.
class TIERCEL_API SlotKeeper {
 public:
  virtual ~SlotKeeper() = default;
  /// Adds a copy pin to a slot that has one already. Safe from any thread.
  virtual void retain(std::uint32_t slot) noexcept = 0;
  /// Ends a copy pin. Safe from any thread.
  virtual void release(std::uint32_t slot) noexcept = 0;
};

class SessionAccess;  // src/cache/session_access.h
class LoadBackend;    // src/cache/session_backend.h: implemented in process and over the socket
class ReservationBackend;
class PinBackend;
class SessionBackend;
}  // namespace detail

/// Forbids the reuse of a slot while bytes move into or out of it. Ends by destruction alone: let it live exactly as
/// long as the copy, for example inside the copy's completion.
class TIERCEL_API CopyPin {
 public:
  CopyPin() = default;
  /// Takes over one copy pin that is counted already.
  CopyPin(std::shared_ptr<detail::SlotKeeper> keeper, std::uint32_t slot) noexcept
      : keeper_(std::move(keeper)), slot_(slot) {}
  CopyPin(CopyPin&& other) noexcept = default;
  CopyPin& operator=(CopyPin&& other) noexcept {
    if (this != &other) {
      end();
      keeper_ = std::move(other.keeper_);
      slot_ = other.slot_;
    }
    return *this;
  }
  ~CopyPin() { end(); }

  [[nodiscard]] explicit operator bool() const noexcept { return keeper_ != nullptr; }
  /// Another pin on the same slot.
  [[nodiscard]] CopyPin clone() const {
    if (keeper_) keeper_->retain(slot_);
    return {keeper_, slot_};
  }

 private:
  void end() noexcept {
    if (keeper_) std::exchange(keeper_, nullptr)->release(slot_);
  }
  std::shared_ptr<detail::SlotKeeper> keeper_;
  std::uint32_t slot_ = 0;
};

/// One loaded block: const bytes in the arena that stay what they are while this lives.
class TIERCEL_API BlockRef {
 public:
  BlockRef() = default;
  BlockRef(CopyPin pin, std::span<const std::byte> bytes) noexcept : pin_(std::move(pin)), bytes_(bytes) {}

  /// The block's bytes, as many as its writer committed.
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }
  /// For a copy that goes on after this reference is dropped.
  [[nodiscard]] CopyPin begin_copy() const { return pin_.clone(); }

 private:
  CopyPin pin_;
  std::span<const std::byte> bytes_;
};

/// Why a load gave fewer blocks than it was asked for.
enum class LoadOutcome : std::uint8_t {
  kComplete = 0,  ///< every block asked for
  kMiss = 1,      ///< the next block is not in the cache (any more), or the mode allows no loads
  kDeadline = 2,  ///< the next block was not ready in time
  kCorrupt = 3,   ///< the next block failed its checksum and was dropped
  kBusy = 4,      ///< the arena or a queue has no room
  kClosed = 5,
  kSlower = 6,  ///< the engine computes what is left sooner than it would be loaded (of a load that says what is ahead)
};
inline constexpr std::size_t kLoadOutcomes = 7;

/// What an engine would compute of the prompt that a load is for, so that no more is loaded than pays.
struct PrefillAhead {
  std::uint64_t prompt_tokens = 0;   ///< of the whole prompt, at least one of which is computed; 0: not known
  std::uint64_t context_tokens = 0;  ///< leading ones whose KV the engine has itself: loading them saves nothing
  std::uint64_t waiting = 0;         ///< other requests that wait for the engine while it computes
  /// From the arena to where the engine keeps its KV; what is not above 0 is not known, and counts nothing.
  double copy_bytes_per_second = 0;
};

/// One prefill, as an engine measured it: so many tokens of one prompt behind so many others whose KV was there.
struct PrefillTime {
  std::uint64_t context_tokens = 0;
  std::uint64_t tokens = 0;
  std::chrono::nanoseconds time{};
};

/// A load in flight. Dropping it drops what it pinned; what runs on completes behind it.
class TIERCEL_API Load {
 public:
  Load();
  explicit Load(std::unique_ptr<detail::LoadBackend> backend);
  Load(Load&&) noexcept;
  Load& operator=(Load&&) noexcept;
  ~Load();

  /// Blocks until all blocks are ready or the load's deadline has passed; then the leading blocks that are ready, for
  /// as long as this Load lives. A second call returns the same.
  [[nodiscard]] std::span<const BlockRef> wait();
  /// Without waiting: is the answer of wait() final?
  [[nodiscard]] bool done() const;
  /// Without waiting: the leading blocks that are ready by now, for as long as this Load lives. They grow in number
  /// until done(). Over the socket they come in parts, the first of which is asked for by the first call.
  [[nodiscard]] std::span<const BlockRef> so_far() const;
  /// After done(): why the run ends where it does.
  [[nodiscard]] LoadOutcome outcome() const;
  /// Takes the references out of the load, after wait().
  [[nodiscard]] std::vector<BlockRef> take();

 private:
  std::unique_ptr<detail::LoadBackend> backend_;
};

/// What reserve answers for a block.
enum class Reserved : std::uint8_t {
  kYes = 0,       ///< there is a writer
  kExists = 1,    ///< the block is in the cache
  kInFlight = 2,  ///< another reservation is filling it
  kBusy = 3,      ///< no room now: everything is pinned or in flight; or the mode allows no stores. Go on without it
  kNoParent = 4,  ///< the block before it is neither here nor being filled
  kClosed = 5,    ///< the session is closed, is not its group's scheduler member, or the chain is of another model
};

/// Exclusive access to the bytes of a block that is being filled.
class TIERCEL_API Writer {
 public:
  Writer() = default;
  Writer(const Writer&) = delete;  // a writer lives inside its reservation
  Writer& operator=(const Writer&) = delete;

  /// `layout`'s bytes of a block; empty if the outcome was not kYes.
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }
  /// For a copy into bytes() that may outlive this writer. If the writer is dropped while such a pin lives, its slot
  /// waits in quarantine until the pin is gone.
  [[nodiscard]] CopyPin begin_copy() const;
  /// Publishes the first `size` bytes (all if not given; opaque layouts may commit fewer). The writer then is empty.
  /// kDropped: deleted meanwhile. kNoParent: its parent was given up. kIncomplete: a member has not reported; the
  /// writer stays as it is. kInvalidArgument: empty writer, or a size that is 0 or too large.
  Status commit(std::optional<std::size_t> size = std::nullopt);
  /// Gives the block up. The destructor of its Reservation does the same.
  void abort() noexcept;

 private:
  friend class Reservation;
  void committed(const Status& status) noexcept;
  detail::ReservationBackend* backend_ = nullptr;
  std::size_t item_ = 0;
  std::span<std::byte> bytes_;
};

/// One writer of a commit of several.
struct WriterCommit {
  std::size_t writer = 0;                          ///< its number in the reservation
  std::optional<std::size_t> size = std::nullopt;  ///< as for Writer::commit
};

/// A writer that a commit of several did not publish, and why: as Writer::commit says it.
struct CommitFailure {
  std::size_t place = 0;   ///< in the list of the call
  std::size_t writer = 0;  ///< its number in the reservation
  Error error;
};

/// What a commit of several did.
struct Committed {
  std::size_t blocks = 0;                 ///< published
  std::vector<CommitFailure> failures{};  ///< in the order of the call; empty: all of them were published
};

/// Writers for the blocks [first, first + size()) of a chain. Dropped without commit: nothing happened.
class TIERCEL_API Reservation {
 public:
  Reservation();
  explicit Reservation(std::shared_ptr<detail::ReservationBackend> backend);
  Reservation(Reservation&&) noexcept;
  Reservation& operator=(Reservation&&) noexcept;
  ~Reservation();

  [[nodiscard]] std::size_t size() const noexcept { return writers_.size(); }
  [[nodiscard]] Reserved outcome(std::size_t i) const;
  [[nodiscard]] Writer& writer(std::size_t i) { return writers_[i]; }
  /// Commits several writers, in this order, each as Writer::commit does: the failure of one keeps none of the others
  /// back. Over the socket that is one round trip for up to 4,096 of them.
  /// kOutOfMemory: nothing was tried.
  Result<Committed> commit(std::span<const WriterCommit> writers);
  /// Commits every writer that is neither committed nor aborted, with all its bytes.
  Result<Committed> commit_all();
  /// What the other members of the session group name in `Session::report`.
  [[nodiscard]] std::uint64_t id() const noexcept;

 private:
  void drop() noexcept;
  std::shared_ptr<detail::ReservationBackend> backend_;
  std::vector<Writer> writers_;
};

/// Where a member that is not the scheduler writes its part of a block that the scheduler member has reserved. It keeps
/// the slot from being used for anything else, however the reservation ends: drop it when nothing is written any more.
class TIERCEL_API BlockPart {
 public:
  BlockPart() = default;
  BlockPart(CopyPin pin, std::span<std::byte> bytes) noexcept : pin_(std::move(pin)), bytes_(bytes) {}

  /// The whole block; which range of each run is this member's follows from the layout.
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }
  /// For a copy that goes on after this is dropped.
  [[nodiscard]] CopyPin begin_copy() const { return pin_.clone(); }

 private:
  CopyPin pin_;
  std::span<std::byte> bytes_;
};

/// A logical pin: forbids eviction until it is dropped or its time is over.
class TIERCEL_API Pin {
 public:
  Pin();
  explicit Pin(std::unique_ptr<detail::PinBackend> backend);
  Pin(Pin&&) noexcept;
  Pin& operator=(Pin&&) noexcept;
  ~Pin();
  /// How many leading blocks are pinned; 0 after its time.
  [[nodiscard]] std::size_t blocks() const;

 private:
  std::unique_ptr<detail::PinBackend> backend_;
};

/// An engine's own pages of KV, in GPU memory. `total` may exceed used + free where an engine keeps some aside.
struct KvPool {
  std::uint64_t used_bytes = 0;
  std::uint64_t free_bytes = 0;
  std::uint64_t total_bytes = 0;
  friend bool operator==(const KvPool&, const KvPool&) = default;
};

/// What a delete did. `pending` copies are still being read or written and go when that ends.
struct Dropped {
  std::uint64_t blocks = 0;
  std::uint64_t pending = 0;
  std::uint64_t bytes = 0;  ///< of the slots that these blocks had, in all tiers
  /// Of a delete of a tenant: namespaces on disk whose tenant nobody knows, because a version of Tiercel without
  /// tenants in its file wrote them and no session has opened them since. The tenant's may be among them.
  std::uint64_t unnamed_namespaces = 0;
};

/// The members of one engine: its scheduler and its ranks. Only the scheduler member (rank 0) reserves; the others
/// report their part, and a commit needs all of them.
struct SessionGroup {
  std::string engine_id;      ///< empty: a session of its own
  std::uint32_t members = 1;  ///< 1 to 64
  std::uint32_t member = 0;   ///< of this session; 0 is the scheduler member
};

struct SessionOptions {
  ModelIdentity model{};
  std::uint32_t block_tokens = 64;  ///< 1 to 65,536
  Layout layout{};
  SessionGroup group{};
};

class TIERCEL_API Session {
 public:
  explicit Session(std::shared_ptr<detail::SessionBackend> backend);
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  /// The namespace of `tenant` ("default" if empty) with this session's model and layout.
  [[nodiscard]] Space space(std::string_view tenant = {}) const;

  /// The largest n such that the first n token blocks can be served. Takes no lock, pins nothing.
  [[nodiscard]] Match match(const BlockChain& chain) const;

  /// Promotes, verifies and pins the first `blocks` token blocks, or as many as are ready after `deadline`.
  [[nodiscard]] Load load(const BlockChain& chain, std::size_t blocks, std::chrono::nanoseconds deadline);

  /// The same, of as many of them as are loaded sooner than this engine computes them, by what both were measured to
  /// take. What is left is kSlower; so is the rest of a load that falls behind while it runs. Before the engine has
  /// reported a prefill, all are loaded.
  [[nodiscard]] Load load(const BlockChain& chain, std::size_t blocks, std::chrono::nanoseconds deadline,
                          const PrefillAhead& ahead);

  /// Writers for the blocks [first, chain.size()) that are not present. Their parents are pinned until the
  /// reservation ends. `count` limits how many.
  [[nodiscard]] Reservation reserve(const BlockChain& chain, std::size_t first,
                                    std::size_t count = static_cast<std::size_t>(-1));

  /// For a member that is not the scheduler: where to write its part of these blocks (positions in the chain) of an
  /// open reservation, all or none. kNotFound: the reservation has ended. kInvalidArgument: a block without a writer
  /// there.
  [[nodiscard]] Result<std::vector<BlockPart>> parts(std::uint64_t reservation_id, std::span<const std::size_t> blocks);
  /// Its part of these blocks is in place. Errors as for `parts`.
  Status report(std::uint64_t reservation_id, std::span<const std::size_t> blocks);
  Status report(std::uint64_t reservation_id, std::size_t block) {
    return report(reservation_id, std::span(&block, 1));
  }

  /// Pins the first `blocks` blocks, as many of them as are in the host tier, for at most `ttl`. kLimit: the share of
  /// the arena that may be pinned is used up. kInvalidArgument: a ttl over limits.pin_max_ttl.
  [[nodiscard]] Result<Pin> pin(const BlockChain& chain, std::size_t blocks, std::chrono::nanoseconds ttl);

  /// Deletes block `first` of the chain and everything that continues it, in every tier.
  Result<Dropped> drop(const BlockChain& chain, std::size_t first);
  /// Deletes every block of a namespace.
  Result<Dropped> drop(const Space& space);

  /// Tells the cache how full the engine's own KV pool is, for people to see; a rank's own part of it. Waits for
  /// nothing.
  void report_pool(const KvPool& pool) noexcept;
  /// Tells the cache how fast the engine's own prefill is, as the engine measured it: bytes of KV that it computes a
  /// second; a rank's own part of them. What loads have saved is shown by it. What is not above 0 is not known. Waits
  /// for nothing. A service that was restarted is told this and the pool again.
  void report_prefill(double bytes_per_second) noexcept;
  /// Tells this session how long a prefill took: loads that say what is ahead are planned by it. Best of one prompt
  /// computed alone; not more often than prefills end. Over the socket it goes along with the next such load. What has
  /// no tokens or no time is ignored.
  void report_prefill(const PrefillTime& prefill) noexcept;

  /// Bytes of one block in this session's layout.
  [[nodiscard]] std::uint64_t block_bytes() const noexcept;

  /// Aborts this session's reservations and ends its pins. Further calls answer kClosed. Also by destruction.
  void close() noexcept;

 private:
  friend class detail::SessionAccess;
  std::shared_ptr<detail::SessionBackend> backend_;
};

}  // namespace tiercel
