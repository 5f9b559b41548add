#include "service/server/connection.h"

#include "base/try.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace tiercel::service {
namespace {

// A turn: then the thread's other connections get theirs.
constexpr std::size_t kMostRequests = 256;
constexpr std::size_t kMostWork = 32'768;                   // hashes: about half a millisecond
constexpr std::size_t kMostUnread = std::size_t{8} << 20U;  // replies that a client leaves unread

}  // namespace

Connection::Connection(FileDescriptor socket, Caller caller, std::shared_ptr<const Mapping> ring,
                       std::unique_ptr<Member> member)
    : socket_(std::move(socket)), caller_(std::move(caller)), ring_(std::move(ring)), member_(std::move(member)) {}

bool Connection::is_full() const noexcept { return out_.pending().size() > kMostUnread; }

Status Connection::serve() {
  has_more_ = false;
  std::size_t requests = 0;
  std::size_t work = 0;
  bool emptied = false;  // the socket had less than there was room for: what has come since wakes the thread again
  for (;;) {
    for (;;) {
      if (is_full()) TIERCEL_TRY(flush());
      has_more_ = requests >= kMostRequests || work >= kMostWork || is_full();
      if (has_more_) return {};
      TIERCEL_TRY_ASSIGN(const auto payload, in_.next());
      if (!payload) break;
      const wire::Request* request = wire::verified_request(*payload);
      if (request == nullptr) return fail(ErrorCode::kInvalidArgument, "a message that is no request of this protocol");
      ++requests_;
      ++requests;
      TIERCEL_TRY(member_->handle(*request, out_));
      work += member_->take_work();
    }
    if (emptied) return {};
    const auto room = in_.room();
    const ssize_t got = recv(socket_.get(), room.data(), room.size(), MSG_DONTWAIT);
    if (got == 0) return fail(ErrorCode::kClosed, "the client closed the connection");
    if (got < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return {};
      return fail(ErrorCode::kClosed, fmt::format("the connection broke: {}", strerror(errno)), errno);
    }
    in_.filled(static_cast<std::size_t>(got));
    emptied = static_cast<std::size_t>(got) < room.size();
  }
}

Status Connection::flush() {
  while (!out_.empty()) {
    const auto bytes = out_.pending();
    const ssize_t sent = send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      out_.sent(static_cast<std::size_t>(sent));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) {
      return fail(ErrorCode::kClosed, fmt::format("the connection broke: {}", strerror(errno)), errno);
    }
    break;
  }
  return {};
}

}  // namespace tiercel::service
