// Connection: one client's stream, on the thread of one reactor: bytes in, requests to its member, replies out.
//
// It is over when serve() or flush() answers an Error: then its owner takes the member's grants and destroys it.
#pragma once

#include "io/file_descriptor.h"
#include "memory/arena.h"
#include "service/server/member.h"
#include "service/server/reactor.h"
#include "service/wire/frame.h"
#include "service/wire/unix_socket.h"

#include <chrono>
#include <cstdint>
#include <memory>

namespace tiercel::service {

/// A process that is connected.
struct Caller {
  std::uint64_t member = 0;
  std::uint64_t token = 0;
  wire::Peer peer{};
  FileDescriptor pidfd;  ///< readable when the process is gone
  std::uint64_t since_ns = 0;
};

class Connection {
 public:
  Connection(FileDescriptor socket, Caller caller, std::shared_ptr<const Mapping> ring, std::unique_ptr<Member> member);

  /// Reads and handles what is there, at most some work a call. kClosed: the other end is gone. kInvalidArgument: it
  /// broke the protocol.
  [[nodiscard]] Status serve();
  /// serve() has left something behind that came already: others get their turn first.
  [[nodiscard]] bool has_more() const noexcept { return has_more_; }
  /// Sends what it can. kClosed as above. While a client leaves many replies unread, no request of its is handled.
  [[nodiscard]] Status flush();
  /// Too many replies are unread for more of them.
  [[nodiscard]] bool is_full() const noexcept;
  [[nodiscard]] bool wants_to_write() const noexcept { return !out_.empty(); }

  [[nodiscard]] Member& member() noexcept { return *member_; }
  [[nodiscard]] wire::OutBuffer& out() noexcept { return out_; }
  [[nodiscard]] const Caller& caller() const noexcept { return caller_; }
  /// For whoever goes on to watch the process.
  [[nodiscard]] Caller take_caller() noexcept { return std::move(caller_); }
  [[nodiscard]] int socket() const noexcept { return socket_.get(); }
  [[nodiscard]] std::uint64_t requests() const noexcept { return requests_; }

  bool watched_for_writing = false;  ///< its owner's note
  bool has_loads = false;            ///< its owner's note
  bool has_session = false;          ///< its owner's note

 private:
  const FileDescriptor socket_;
  Caller caller_;
  const std::shared_ptr<const Mapping> ring_;  // what the member reads from
  const std::unique_ptr<Member> member_;
  wire::FrameReader in_{wire::kMaxRequestBytes};
  wire::OutBuffer out_;
  bool has_more_ = false;
  std::uint64_t requests_ = 0;
};

}  // namespace tiercel::service
