#include "service/server/connection.h"

#include "base/try.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace tiercel::service {
namespace {

constexpr std::size_t kMostReads = 4;                        // a turn: other connections wait
constexpr std::size_t kMostUnread = std::size_t{16} << 20U;  // replies of a client that does not read

}  // namespace

Connection::Connection(FileDescriptor socket, Caller caller, std::shared_ptr<const Mapping> ring,
                       std::unique_ptr<Member> member)
    : socket_(std::move(socket)), caller_(std::move(caller)), ring_(std::move(ring)), member_(std::move(member)) {}

Status Connection::serve() {
  for (std::size_t reads = 0; reads < kMostReads; ++reads) {
    const auto room = in_.room();
    const ssize_t got = recv(socket_.get(), room.data(), room.size(), MSG_DONTWAIT);
    if (got == 0) return fail(ErrorCode::kClosed, "the client closed the connection");
    if (got < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) break;
      return fail(ErrorCode::kClosed, fmt::format("the connection broke: {}", strerror(errno)), errno);
    }
    in_.filled(static_cast<std::size_t>(got));
    for (;;) {
      TIERCEL_TRY_ASSIGN(const auto payload, in_.next());
      if (!payload) break;
      const wire::Request* request = wire::verified_request(*payload);
      if (request == nullptr) return fail(ErrorCode::kInvalidArgument, "a message that is no request of this protocol");
      ++requests_;
      TIERCEL_TRY(member_->handle(*request, out_));
      if (out_.pending().size() > kMostUnread) TIERCEL_TRY(flush());
    }
    if (static_cast<std::size_t>(got) < room.size()) break;  // that was all
  }
  return {};
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
    if (bytes.size() > kMostUnread) {
      return fail(ErrorCode::kLimit, fmt::format("the client leaves {} bytes of replies unread", bytes.size()));
    }
    break;
  }
  return {};
}

}  // namespace tiercel::service
