#include "service/server/survivors.h"

#include "base/clock.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace tiercel::service {

Survivors::Survivors(std::span<const ListedMember> members, std::unique_ptr<LifeProbe> probe, std::uint64_t settle_ns)
    : probe_(std::move(probe)), settle_ns_(settle_ns) {
  for (const ListedMember& member : members) members_.emplace(member.member, One{.listed = member});
}

std::vector<ListedMember> Survivors::waiting() const {
  std::vector<ListedMember> waiting;
  for (const auto& [_, one] : members_) waiting.push_back(one.listed);
  return waiting;
}

bool Survivors::knows(std::uint64_t member, std::uint64_t token) const {
  const auto found = members_.find(member);
  return found != members_.end() && found->second.listed.token == token && !found->second.connected;
}

bool Survivors::is_here(std::uint64_t member) const {
  const auto found = members_.find(member);
  return found != members_.end() && found->second.connected;
}

void Survivors::came(std::uint64_t member) {
  if (const auto found = members_.find(member); found != members_.end()) found->second.connected = true;
}

void Survivors::left(std::uint64_t member) {
  if (const auto found = members_.find(member); found != members_.end()) found->second.connected = false;
}

void Survivors::said(std::uint64_t member) { members_.erase(member); }

std::vector<std::uint64_t> Survivors::look(std::uint64_t now_ns) {
  std::vector<std::uint64_t> gone;
  for (auto& [member, one] : members_) {
    if (one.connected) continue;  // its connection sees that too, and then it has left
    if (one.gone_ns == 0 && probe_->is_gone(one.listed)) one.gone_ns = std::max<std::uint64_t>(now_ns, 1);
    if (one.gone_ns != 0 && deadline_after(one.gone_ns, settle_ns_) <= now_ns) gone.push_back(member);
  }
  for (const std::uint64_t member : gone) members_.erase(member);
  return gone;
}

// ---- the system's word

ProcessProbe::ProcessProbe(const MemberList& list, std::span<const ListedMember> members) : list_(list) {
  const std::uint64_t here = own_pid_namespace();
  for (const ListedMember& member : members) {
    if (member.pid <= 0 || here == 0 || member.pid_namespace != here) continue;
    Known known{.pidfd = FileDescriptor(static_cast<int>(::syscall(SYS_pidfd_open, member.pid, 0))), .gone = false};
    if (!known.pidfd) {
      if (errno != ESRCH) continue;
      known.gone = true;
    } else if (member.start_time == 0) {
      continue;  // nobody knows whether it is the same process
    } else {
      // Read after the pidfd was opened: if it agrees, the pidfd is that process's.
      const std::uint64_t started = start_time_of(member.pid);
      pollfd one{.fd = known.pidfd.get(), .events = POLLIN, .revents = 0};
      const bool ended = ::poll(&one, 1, 0) == 1;
      if (started == 0 && !ended) continue;
      known.gone = ended || started != member.start_time;
    }
    processes_.emplace(member.member, std::move(known));
  }
}

bool ProcessProbe::is_gone(const ListedMember& member) {
  if (const auto found = processes_.find(member.member); found != processes_.end()) {
    if (found->second.gone) return true;
    pollfd one{.fd = found->second.pidfd.get(), .events = POLLIN, .revents = 0};
    if (::poll(&one, 1, 0) == 1) return true;
  }
  return !list_.lives(member.member);
}

}  // namespace tiercel::service
