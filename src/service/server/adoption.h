// Adoption: which arena this run of the service serves, and when its slots may be handed out.
//
// Before there is a cache, look_for_earlier_arena() says whether clients of an earlier run still map its arena. Then
// the cache is made without memory (Environment::arena_later), and this decides on the server's first thread:
//   kAwaited   nobody has offered the arena yet: callers who do not have it wait, or are sent away for now;
//   kRefused   it cannot be taken (other sizes, or a member list that is not understood): callers are told to let it
//              go, and when nobody has it any more there is new memory, so that there are never two arenas;
//   kWithheld  adopted: members are served, but there is no room until each member of the earlier run has come back and
//              said what it holds, or has let go, or is gone (survivors.h);
//   kServing   slots are handed out.
// Killed at any point it leaves a member list that names everybody who may still touch the arena. One thread at a time.
#pragma once

#include "cache/core.h"
#include "service/server/survivors.h"
#include "service/view.h"

#include <tiercel/config.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tiercel::service {

struct EarlierArena {
  std::unique_ptr<MemberList> list;   ///< null: it is not understood
  std::vector<ListedMember> members;  ///< that are on the list; some may be gone
  std::unique_ptr<LifeProbe> probe;   ///< of `list`
  std::string refusal;                ///< why it cannot be adopted; empty: it can
};

/// Of the arena that was served at this socket's path; empty: nobody has one any more. kIo: the list cannot be read.
[[nodiscard]] Result<std::optional<EarlierArena>> look_for_earlier_arena(const std::string& list_path,
                                                                         const HostConfig& host);

class Adoption {
 public:
  struct Options {
    std::string list_path;
    std::uint64_t settle_ns = 0;
  };
  Adoption(std::shared_ptr<detail::CacheCore> core, Options options, std::optional<EarlierArena> earlier);

  /// Of a core with an arena of its own, or if there is no earlier one: begins a list, and serves.
  Status start();
  [[nodiscard]] ArenaStage stage() const noexcept { return stage_; }
  [[nodiscard]] bool has_memory() const noexcept {
    return stage_ == ArenaStage::kWithheld || stage_ == ArenaStage::kServing;
  }
  /// A caller shows an arena while there is none. True: it is the earlier one, and adopted. False: the caller should
  /// let it go.
  bool offered(FileDescriptor memfd);
  /// Why a caller without the arena is sent away: one sentence.
  [[nodiscard]] Error reason() const;

  /// Since has_memory():
  [[nodiscard]] MemberList& list() noexcept { return *list_; }
  [[nodiscard]] Survivors& survivors() noexcept { return survivors_; }
  /// Looks who is gone, and goes on with what that allows. `now_ns` does not go back. Answers when to call again.
  std::uint64_t step(std::uint64_t now_ns);
  [[nodiscard]] ArenaReport report() const;

 private:
  Status begin_list();
  void begin_anew();
  [[nodiscard]] bool nobody_has_it(std::uint64_t now_ns);
  [[nodiscard]] std::string holders() const;

  const std::shared_ptr<detail::CacheCore> core_;
  const Options options_;
  ArenaStage stage_ = ArenaStage::kServing;
  std::string refusal_;
  std::unique_ptr<MemberList> list_;
  Survivors survivors_;
  std::uint64_t began_ns_ = 0;
  std::uint64_t nobody_since_ns_ = 0;  // no listed member has it; 0: some have
  std::uint64_t log_ns_ = 0;           // who is waited for is said again then
};

}  // namespace tiercel::service
