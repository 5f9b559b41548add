// Member: what one connection may do: its session of the core, its open loads, reservations and pins, and its grants.
//
// Turns requests into replies. Belongs to its connection's thread. handle() never waits: a load that is not final yet
// is answered by finish_loads(), a delete by whoever runs it (`slow`). An Error of handle() means that the message
// breaks the protocol: the connection is to be closed; what is wrong with a well-formed question is answered in a
// reply, with the sentence that the in-process session gives.
#pragma once

#include "base/budget.h"
#include "cache/local_load.h"
#include "cache/local_reservation.h"
#include "cache/local_session.h"
#include "service/server/chain_table.h"
#include "service/server/grants.h"
#include "service/wire/frame.h"
#include "service/wire/messages.h"

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tiercel::service {

struct MemberLimits {
  ChainLimits chains{};
  std::uint32_t loads = 64;           ///< in flight
  std::uint32_t reservations = 1024;  ///< open
  std::uint32_t pins = 1024;
  std::uint32_t deletes = 8;     ///< under way
  std::uint32_t tenants = 1024;  ///< whose namespaces are remembered; more are computed each time
  /// Of its open loads, reservations and pins together: a reservation counts all blocks up to its last one. About 100
  /// bytes each.
  std::uint64_t open_blocks = 1U << 20U;
};

/// What a member did, for whoever asks, from any thread. Relaxed: figures.
struct MemberFigures {
  std::atomic<std::uint64_t> stored_bytes{0};
  std::atomic<std::uint64_t> loaded_bytes{0};
  std::atomic<std::uint64_t> load_ns{0};  ///< from a load's request until its answer
  std::atomic<std::uint64_t> pool_used{0};
  std::atomic<std::uint64_t> pool_free{0};
  std::atomic<std::uint64_t> pool_total{0};
  std::atomic<double> prefill{0};  ///< bytes of KV a second; 0: not reported
};

/// Whose session it is.
struct SessionOwner {
  pid_t pid = 0;             ///< 0: not visible from here, as of a process of another container
  std::uint64_t member = 0;  ///< its connection, over reconnections and restarts
};
/// By which name people know the engine of a session: a session without an engine id is an engine of its process, and
/// where that is not visible, of its own.
[[nodiscard]] std::string engine_name(std::string_view engine_id, std::string_view model, const SessionOwner& owner);
/// What a member's word means beyond its connection.
struct MemberWord {
  bool claims = false;         ///< of an earlier run: its Hold claims slots, once
  std::function<void()> said;  ///< it has claimed all that it holds
};

class Member {
 public:
  /// Runs work that may wait, elsewhere; its answer reaches the member as done_slow(). False: no room, or stopping.
  using Slow = std::function<bool(std::uint64_t request, std::function<Result<Dropped>()> work)>;

  /// `open_blocks`: of all members together, over each one's own limit; it must outlive them.
  Member(std::shared_ptr<detail::CacheCore> core, const MemberLimits& limits, Budget& open_blocks,
         std::span<const std::byte> ring, Slow slow, MemberWord word = {});
  ~Member();

  /// Whose connection it is; before anything is handled.
  void set_owner(const SessionOwner& owner) noexcept { owner_ = owner; }

  [[nodiscard]] Status handle(const wire::Request& request, wire::OutBuffer& out);
  void done_slow(std::uint64_t request, const Result<Dropped>& dropped, wire::OutBuffer& out);
  /// Answers the loads that are final by now.
  void finish_loads(wire::OutBuffer& out);
  [[nodiscard]] bool has_loads() const noexcept { return !loads_.empty(); }
  /// How many hashes were looked at since the last call: what a request costs.
  [[nodiscard]] std::size_t take_work() noexcept { return std::exchange(work_, 0); }
  /// Of the loads in flight; UINT64_MAX if there is none.
  [[nodiscard]] std::uint64_t next_deadline_ns() const noexcept;

  /// Ends the session: reservations are aborted, pins and loads end. What was granted stays until grants() is cleared.
  void end() noexcept;
  [[nodiscard]] GrantTable& grants() noexcept { return grants_; }
  [[nodiscard]] const std::shared_ptr<MemberFigures>& figures() const noexcept { return figures_; }
  [[nodiscard]] const SessionOptions* options() const noexcept { return session_ ? &options_ : nullptr; }

 private:
  using Builder = flatbuffers::FlatBufferBuilder;
  struct OpenBlocks {  // of this member, and of all
    Budget::Units own;
    Budget::Units shared;
  };
  struct OpenLoad {
    std::unique_ptr<detail::LocalLoad> load;
    std::uint64_t deadline_ns = 0;
    std::uint64_t started_ns = 0;
    OpenBlocks blocks{};
    std::uint64_t asked = 0;  ///< id of the SoFar that waits; 0: none
    std::size_t given = 0;    ///< blocks that SoFar was answered with
  };
  struct OpenReservation {
    std::shared_ptr<detail::LocalReservation> reservation;
    OpenBlocks blocks{};
  };
  struct OpenPin {
    std::unique_ptr<detail::PinBackend> pin;
    OpenBlocks blocks{};
  };
  /// Empty: too many are open.
  [[nodiscard]] std::optional<OpenBlocks> take_blocks(std::size_t count) noexcept;

  [[nodiscard]] Status open(std::uint64_t id, const wire::Open& message, wire::OutBuffer& out);
  [[nodiscard]] Status match(std::uint64_t id, const wire::Match& message, wire::OutBuffer& out);
  [[nodiscard]] Status load(std::uint64_t id, const wire::Load& message, wire::OutBuffer& out);
  [[nodiscard]] Status reserve(std::uint64_t id, const wire::Reserve& message, wire::OutBuffer& out);
  [[nodiscard]] Status commit(std::uint64_t id, const wire::Commit& message, wire::OutBuffer& out);
  [[nodiscard]] Status abort(const wire::Abort& message);
  [[nodiscard]] Status parts(std::uint64_t id, const wire::Parts& message, wire::OutBuffer& out);
  [[nodiscard]] Status report(std::uint64_t id, const wire::Report& message, wire::OutBuffer& out);
  [[nodiscard]] Status pin(std::uint64_t id, const wire::Pin& message, wire::OutBuffer& out);
  [[nodiscard]] Status pinned(std::uint64_t id, const wire::PinnedBlocks& message, wire::OutBuffer& out);
  [[nodiscard]] Status drop(std::uint64_t id, const wire::DropChain& message, wire::OutBuffer& out);
  [[nodiscard]] Status drop(std::uint64_t id, const wire::DropSpace& message, wire::OutBuffer& out);
  [[nodiscard]] Status release(const wire::Release& message);
  [[nodiscard]] Status hold(const wire::Hold& message);
  [[nodiscard]] Status claim(std::uint64_t slot_bytes);
  [[nodiscard]] Status so_far(std::uint64_t id, std::uint64_t load, wire::OutBuffer& out);
  void answer_so_far(OpenLoad& open, bool final, wire::OutBuffer& out);
  void answer_load(std::uint64_t id, OpenLoad& open, wire::OutBuffer& out);
  /// Of the leading ones, as far as they can be granted.
  [[nodiscard]] std::vector<wire::Place> granted(std::span<const HeldBlock> blocks);
  void answer_drop(std::uint64_t id, std::function<Result<Dropped>()> work, wire::OutBuffer& out);

  [[nodiscard]] Result<std::span<const BlockHash>> hashes_of(const wire::Chain& chain);
  [[nodiscard]] Space space_of(const flatbuffers::String* tenant);
  template <class Body>
  void reply(std::uint64_t id, flatbuffers::Offset<Body> body, wire::OutBuffer& out);
  void reply_error(std::uint64_t id, const Error& error, wire::OutBuffer& out);
  void reply_loaded(std::uint64_t id, LoadOutcome outcome, std::span<const wire::Place> places, wire::OutBuffer& out);
  [[nodiscard]] wire::Place place_of(SlotId slot, std::uint32_t length) const noexcept;

  const std::shared_ptr<detail::CacheCore> core_;
  const MemberLimits limits_;
  const Slow slow_;
  SessionOwner owner_;
  MemberWord word_;
  ChainTable chains_;
  GrantTable grants_;
  const std::shared_ptr<MemberFigures> figures_ = std::make_shared<MemberFigures>();
  SessionOptions options_;
  std::shared_ptr<detail::LocalSession> session_;
  std::map<std::string, Space, std::less<>> spaces_;
  Budget own_blocks_;  // what is open has units of it: before the maps
  Budget& all_blocks_;
  std::map<std::uint64_t, OpenLoad> loads_;
  std::map<std::uint64_t, OpenReservation> reservations_;
  std::map<std::uint64_t, OpenPin> pins_;
  std::uint64_t next_pin_ = 1;
  std::uint32_t deletes_ = 0;
  std::size_t work_ = 0;
  std::unordered_map<SlotId, std::uint32_t> claimed_;  // by the Hold messages so far
  Builder builder_{1024};
};

}  // namespace tiercel::service
