// What people see of the socket server: its members and figures.
#include "base/mutex.h"
#include "service/server/socket_server.h"

#include <utility>

namespace tiercel::service {

void SocketServer::note_connected(Connection& connection) {
  const SessionOptions* options = connection.member().options();
  connection.has_session = options != nullptr;
  Note note{.report = {.member = connection.caller().member, .pid = connection.caller().peer.pid},
            .figures = connection.member().figures(),
            .since_ns = connection.caller().since_ns};
  if (options != nullptr) {
    note.report.model = options->model.name;
    note.report.engine_id = options->group.engine_id;
    note.report.rank = options->group.member;
    note.report.members = options->group.members;
  }
  const MutexLock lock(mutex_);
  reports_.insert_or_assign(note.report.member, std::move(note));
}

void SocketServer::note_departed(std::uint64_t member, const Departed& departed) {
  const MutexLock lock(mutex_);
  Note& note = reports_[member];
  note.report = {
      .member = member, .pid = departed.caller.peer.pid, .departed_slots = departed.grants.slots(), .departed = true};
  note.since_ns = departed.caller.since_ns;
}

ArenaReport SocketServer::arena() const {
  const MutexLock lock(mutex_);
  return arena_report_;
}

SocketStats SocketServer::stats() const {
  SocketStats stats{.connections = connected_.load(std::memory_order_relaxed),
                    .accepted = accepted_.load(std::memory_order_relaxed),
                    .refused = refused_.load(std::memory_order_relaxed),
                    .protocol_errors = protocol_errors_.load(std::memory_order_relaxed),
                    .taken_up = taken_up_.load(std::memory_order_relaxed)};
  const MutexLock lock(mutex_);
  for (const auto& [_, note] : reports_) {
    stats.departed_members += note.report.departed ? 1 : 0;
    stats.departed_slots += note.report.departed_slots;
  }
  return stats;
}

std::vector<MemberReport> SocketServer::members() const {
  std::vector<MemberReport> members;
  const std::uint64_t now = core_->clock().now_ns();
  const MutexLock lock(mutex_);
  for (const auto& [_, note] : reports_) {
    MemberReport report = note.report;
    report.connected_ns = now - note.since_ns;
    if (note.figures) {
      report.stored_bytes = note.figures->stored_bytes.load(std::memory_order_relaxed);
      report.loaded_bytes = note.figures->loaded_bytes.load(std::memory_order_relaxed);
      report.load_ns = note.figures->load_ns.load(std::memory_order_relaxed);
      report.pool = {.used_bytes = note.figures->pool_used.load(std::memory_order_relaxed),
                     .free_bytes = note.figures->pool_free.load(std::memory_order_relaxed),
                     .total_bytes = note.figures->pool_total.load(std::memory_order_relaxed)};
      report.prefill_bytes_per_second = note.figures->prefill.load(std::memory_order_relaxed);
    }
    members.push_back(std::move(report));
  }
  return members;
}

}  // namespace tiercel::service
