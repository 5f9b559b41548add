// Link: one connection to the service, from its handshake until it breaks.
//
// Requests of several threads share the stream. Whoever waits for a reply reads it, for the others too (one at a time);
// no thread stands between, so a call costs one round trip. A reply that comes after its caller has gone is handled by
// what the caller left behind (`late`). Safe from several threads; no call waits longer than its deadline.
#pragma once

#include "base/clock.h"
#include "base/mapping.h"
#include "base/mutex.h"
#include "io/file_descriptor.h"
#include "service/client/chain_book.h"
#include "service/client/reply_pace.h"
#include "service/wire/frame.h"
#include "service/wire/handshake.h"
#include "service/wire/messages.h"

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace tiercel::service {

class Handshake;
using Builder = flatbuffers::FlatBufferBuilder;

/// What the writer of a request may use, while the stream is his.
class LinkWriter {
 public:
  virtual ~LinkWriter() = default;
  [[nodiscard]] virtual Builder& builder() noexcept = 0;
  /// For a request about a chain. Sends what the service does not know ahead of it where that is much.
  [[nodiscard]] virtual flatbuffers::Offset<wire::Chain> chain(std::string_view tenant,
                                                               std::span<const BlockHash> hashes) = 0;
};

class Link final : private LinkWriter {
 public:
  using Late = std::function<void(Link& link, const wire::Reply& reply)>;

  /// A request whose reply is on its way.
  class Ticket {
   public:
    [[nodiscard]] std::uint64_t id() const noexcept { return id_; }

   private:
    friend class Link;
    std::uint64_t id_ = 0;
    bool done_ = false;    // guarded by the link's mutex until it is true
    bool broken_ = false;  // done, and no reply came
    bool overdue_ = false;
    Late late_;
    std::vector<std::uint64_t> payload_;
    const wire::Reply* reply_ = nullptr;
  };
  using TicketPtr = std::shared_ptr<Ticket>;

  /// What a caller shows.
  struct Greeting {
    wire::Hello hello{};
    int arena = -1;  ///< memfd of the arena that it has from an earlier connection
  };
  /// What a service says with a refusal.
  struct Refusal {
    bool let_go = false;   ///< it will not use the arena that was shown
    bool for_now = false;  ///< it may have another answer soon
  };
  /// Connects and greets until the deadline (handshake.h). Errors as Client::connect; `refusal` may be null.
  [[nodiscard]] static Result<std::shared_ptr<Link>> open(const std::string& path, const Greeting& greeting,
                                                          std::uint64_t deadline_ns, Refusal* refusal = nullptr);
  /// The same for who has nothing better to do: where the service refuses for now, asks again until the deadline.
  [[nodiscard]] static Result<std::shared_ptr<Link>> open_patiently(const std::string& path, const Greeting& greeting,
                                                                    std::uint64_t deadline_ns,
                                                                    Refusal* refusal = nullptr);
  ~Link() override;

  /// Sends a request; `write` makes its body. kClosed: the link is broken; kTimeout: the service has not answered an
  /// earlier one in time, or takes nothing.
  template <class Write>
  [[nodiscard]] Result<TicketPtr> start(Write&& write, std::uint64_t deadline_ns) {
    return start_with([&](LinkWriter& writer) { return as_body(writer, write(writer)); }, deadline_ns);
  }
  /// The reply, valid as long as the ticket. kTimeout: it has not come; `late` will handle it when it does.
  [[nodiscard]] Result<const wire::Reply*> wait(const TicketPtr& ticket, std::uint64_t deadline_ns, Late late);
  /// Of a ticket that wait() has answered.
  [[nodiscard]] static const wire::Reply& reply(const TicketPtr& ticket) noexcept { return *ticket->reply_; }
  /// Is the reply here? Reads what there is, without waiting.
  [[nodiscard]] bool poll(const TicketPtr& ticket);
  /// Nobody waits for this any more.
  void abandon(const TicketPtr& ticket, Late late);

  /// Queues a message without a reply; it goes with the next request, or with flush().
  template <class Write>
  void post(Write&& write) {
    post_with([&](LinkWriter& writer) { return as_body(writer, write(writer)); });
  }
  void flush();
  /// Handles replies that are here and that nobody waits for.
  void drain();

  void fail() noexcept;
  [[nodiscard]] bool broken() const noexcept { return broken_.load(std::memory_order_acquire); }
  /// Requests whose callers have given up waiting.
  [[nodiscard]] bool has_orphans() const;
  /// The socket has not taken all of what was written.
  [[nodiscard]] bool has_unsent() const;
  [[nodiscard]] int socket() const noexcept { return socket_.get(); }
  [[nodiscard]] const wire::Welcome& welcome() const noexcept { return welcome_; }
  /// The arena's memfd, once: it keeps the memory, so whoever does not map it drops it.
  [[nodiscard]] FileDescriptor take_arena() noexcept { return std::exchange(arena_, {}); }
  /// The member's life descriptor, once.
  [[nodiscard]] FileDescriptor take_life() noexcept { return std::exchange(life_, {}); }

 private:
  friend class Handshake;
  struct Body {
    wire::RequestBody type = wire::RequestBody::NONE;
    flatbuffers::Offset<void> offset;
  };
  template <class T>
  [[nodiscard]] static Body as_body(LinkWriter&, flatbuffers::Offset<T> offset) {
    return {.type = wire::RequestBodyTraits<T>::enum_value, .offset = offset.Union()};
  }
  using Write = std::function<Body(LinkWriter&)>;

  Link(FileDescriptor socket, const wire::Welcome& welcome, Mapping ring, FileDescriptor arena, FileDescriptor life);
  [[nodiscard]] Result<TicketPtr> start_with(const Write& write, std::uint64_t deadline_ns);
  void post_with(const Write& write);
  [[nodiscard]] Builder& builder() noexcept override { return builder_; }
  [[nodiscard]] flatbuffers::Offset<wire::Chain> chain(std::string_view tenant,
                                                       std::span<const BlockHash> hashes) override
      TIERCEL_NO_THREAD_SAFETY_ANALYSIS;  // under out_mutex_, which its caller's caller holds
  void keep(std::uint32_t handle, std::size_t known, std::span<const BlockHash> hashes) TIERCEL_REQUIRES(out_mutex_);
  [[nodiscard]] bool keep_in_ring(std::uint32_t handle, std::size_t known, std::span<const BlockHash> hashes)
      TIERCEL_REQUIRES(out_mutex_);
  void add_frame(Builder& builder, std::uint64_t id, const Body& body) TIERCEL_REQUIRES(out_mutex_);
  [[nodiscard]] Status send_some() TIERCEL_REQUIRES(out_mutex_);
  [[nodiscard]] Status send_out(std::uint64_t deadline_ns);
  [[nodiscard]] bool read_some(std::uint64_t deadline_ns) noexcept;
  [[nodiscard]] bool read_or_throw(std::uint64_t deadline_ns);
  void dispatch(std::span<const std::byte> payload);

  const FileDescriptor socket_;
  const pid_t process_ = ::getpid();  // a forked child leaves the stream alone
  const wire::Welcome welcome_;
  FileDescriptor arena_;
  FileDescriptor life_;
  const Mapping ring_;
  std::atomic<bool> broken_{false};  // fail() (release) pairs with broken() (acquire)
  std::atomic<std::uint64_t> next_id_{1};
  std::atomic<std::uint64_t> ring_user_{0};  // the request that the ring's content belongs to; dispatch() clears it

  mutable Mutex out_mutex_;  // taken before mutex_
  wire::OutBuffer out_ TIERCEL_GUARDED_BY(out_mutex_);
  ChainBook book_ TIERCEL_GUARDED_BY(out_mutex_);
  Builder builder_{1024};       // under out_mutex_, which its user holds
  Builder keep_builder_{1024};  // of messages within a message

  mutable Mutex mutex_;
  std::condition_variable changed_;
  bool reading_ TIERCEL_GUARDED_BY(mutex_) = false;
  std::uint64_t waiting_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint64_t overdue_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::unordered_map<std::uint64_t, TicketPtr> tickets_ TIERCEL_GUARDED_BY(mutex_);
  wire::FrameReader in_{wire::kMaxReplyBytes};  // of whoever reads, as the next one
  ReplyPace pace_;
};

}  // namespace tiercel::service
