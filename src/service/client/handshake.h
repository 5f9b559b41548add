// Handshake: a client's half of a handshake, from its connection until the service's Welcome is here.
//
// Waits for nothing: whoever drives it calls advance() when socket() is readable, so that one thread can have many on
// their way. What is wrong is an Error as of Client::connect. One thread at a time.
#pragma once

#include "io/file_descriptor.h"
#include "service/client/link.h"
#include "service/wire/handshake.h"

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace tiercel::service {

class Handshake {
 public:
  /// Connects, and says who calls.
  [[nodiscard]] static Result<Handshake> begin(const std::string& path, const Link::Greeting& greeting);

  /// Reads what there is. The link, once the Welcome is here; null until then.
  [[nodiscard]] Result<std::shared_ptr<Link>> advance();
  [[nodiscard]] int socket() const noexcept { return socket_.get(); }
  /// After advance() has failed.
  [[nodiscard]] const Link::Refusal& refusal() const noexcept { return refusal_; }

 private:
  Handshake(FileDescriptor socket, Status sent) : socket_(std::move(socket)), sent_(std::move(sent)) {}
  [[nodiscard]] Result<std::shared_ptr<Link>> welcomed();

  FileDescriptor socket_;
  Status sent_;
  wire::Welcome welcome_;
  std::size_t got_ = 0;  // bytes of it
  std::vector<FileDescriptor> given_;
  Link::Refusal refusal_;
};

}  // namespace tiercel::service
