// Survivors: the members of an earlier run for whom this one waits before it hands out a slot of the arena that it has
// adopted: each must come back and say what it still holds, or let go, or be gone.
//
// A bookkeeper without time, IO and threads of its own. One thread at a time.
#pragma once

#include "service/server/member_list.h"

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

namespace tiercel::service {

/// Is it proved that a member's process can touch the arena no more, but for what its devices may still be doing?
class LifeProbe {
 public:
  virtual ~LifeProbe() = default;
  [[nodiscard]] virtual bool is_gone(const ListedMember& member) = 0;
};

class Survivors {
 public:
  Survivors() = default;
  Survivors(std::span<const ListedMember> members, std::unique_ptr<LifeProbe> probe, std::uint64_t settle_ns);

  [[nodiscard]] bool empty() const noexcept { return members_.empty(); }
  [[nodiscard]] std::vector<ListedMember> waiting() const;
  /// Is it one of them, and not connected yet?
  [[nodiscard]] bool knows(std::uint64_t member, std::uint64_t token) const;
  /// Is it one of them, and connected?
  [[nodiscard]] bool is_here(std::uint64_t member) const;

  /// It is connected, and will say what it holds / its connection ended before it did.
  void came(std::uint64_t member);
  void left(std::uint64_t member);
  /// It has said what it holds: no survivor any more, but a member like others.
  void said(std::uint64_t member);
  /// Answers who is gone, and has been for the settle time.
  std::vector<std::uint64_t> look(std::uint64_t now_ns);

 private:
  struct One {
    ListedMember listed;
    bool connected = false;
    std::uint64_t gone_ns = 0;  ///< when that was seen first; 0: it lives
  };
  std::map<std::uint64_t, One> members_;
  std::unique_ptr<LifeProbe> probe_;
  std::uint64_t settle_ns_ = 0;
};

/// The system's word: the pidfd of a process that can be seen from here, and the life descriptor of any. Opens the
/// pidfds at once, so that a number that is used again misleads nobody.
class ProcessProbe final : public LifeProbe {
 public:
  /// `list` must outlive it.
  ProcessProbe(const MemberList& list, std::span<const ListedMember> members);
  [[nodiscard]] bool is_gone(const ListedMember& member) override;

 private:
  struct Known {
    FileDescriptor pidfd;
    bool gone = false;
  };
  const MemberList& list_;
  std::map<std::uint64_t, Known> processes_;  // of those that can be seen
};

}  // namespace tiercel::service
