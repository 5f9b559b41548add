#include "service/client/handshake.h"

#include "base/try.h"
#include "service/wire/unix_socket.h"

#include <optional>
#include <span>
#include <utility>

namespace tiercel::service {
namespace {

constexpr std::uint32_t kMostChains = 4096;
constexpr std::uint64_t kLeastSlot = 4096;  // bytes

}  // namespace

Result<Handshake> Handshake::begin(const std::string& path, const Link::Greeting& greeting) {
  TIERCEL_TRY_ASSIGN(FileDescriptor socket, wire::connect_to(path));
  TIERCEL_TRY_ASSIGN(const FileDescriptor pidfd, wire::own_pidfd());
  const int shown[] = {pidfd.get(), greeting.arena};
  // Where that fails, the service may have refused already: why is there to be read.
  Status sent = wire::send_with_descriptors(socket.get(), std::as_bytes(std::span(&greeting.hello, 1)),
                                            std::span(shown).first(greeting.arena >= 0 ? 2 : 1));
  return Handshake(std::move(socket), std::move(sent));
}

Result<std::shared_ptr<Link>> Handshake::advance() {
  while (got_ < sizeof(welcome_)) {
    const auto room = std::as_writable_bytes(std::span(&welcome_, 1)).subspan(got_);
    TIERCEL_TRY_ASSIGN(auto received, wire::receive_with_descriptors(socket_.get(), room));
    if (!received) return nullptr;
    if (received->bytes == 0) {
      TIERCEL_TRY(sent_);
      return fail(ErrorCode::kClosed, "the service went away");
    }
    got_ += received->bytes;
    for (FileDescriptor& fd : received->descriptors) given_.push_back(std::move(fd));
  }
  return welcomed();
}

Result<std::shared_ptr<Link>> Handshake::welcomed() {
  if (welcome_.magic == wire::kMagic && welcome_.refused != 0) {
    refusal_ = {.let_go = welcome_.let_go != 0, .for_now = welcome_.for_now != 0};
  }
  TIERCEL_TRY(wire::check_welcome(welcome_));
  const bool sound = given_.size() == 3 && welcome_.version >= wire::kOldestVersion &&
                     welcome_.version <= wire::kVersion && welcome_.kept_chains >= 1 &&
                     welcome_.kept_chains <= kMostChains && welcome_.max_payload >= wire::kMaxRequestBytes &&
                     welcome_.slots <= welcome_.arena_bytes / kLeastSlot;
  if (!sound) return fail(ErrorCode::kUnsupported, "the service's welcome is not sound");
  TIERCEL_TRY_ASSIGN(auto ring, Mapping::of_memfd(given_[1].release(), welcome_.ring_bytes));
  return std::shared_ptr<Link>(
      new Link(std::move(socket_), welcome_, std::move(ring), std::move(given_[0]), std::move(given_[2])));
}

}  // namespace tiercel::service
