// Line: one session's way to the service over time: its link, and after that breaks, the next one.
//
// A call takes a Use: the link and the holdings that belong together. The client's thread (client_core.h) flushes what
// is given back, connects again, and lets late replies in. It waits for no line's answer: while a service lets one line
// wait, the others connect. Lives as long as its session or anything that it holds. Safe from several threads.
#pragma once

#include "base/mutex.h"
#include "base/random.h"
#include "service/client/handshake.h"
#include "service/client/holdings.h"
#include "service/client/link.h"

#include <tiercel/client.h>

#include <cstdint>
#include <memory>
#include <optional>

namespace tiercel::service {

class Line final : public std::enable_shared_from_this<Line> {
 public:
  /// What both kinds of owner do: the client's core.
  class Home {
   public:
    virtual ~Home() = default;
    /// Connects, and where the options say so starts a service before. `lost`: one that was there is gone. `refusal` as
    /// of Link::open.
    [[nodiscard]] virtual Result<std::shared_ptr<Link>> open_link(const Link::Greeting& greeting,
                                                                  std::uint64_t deadline_ns, bool lost,
                                                                  Link::Refusal* refusal) = 0;
    /// Begins to connect to the service that is there, without waiting for it.
    [[nodiscard]] virtual Result<Handshake> greet(const Link::Greeting& greeting) = 0;
    /// A handshake has failed so. Is nobody there, and may open_link() start a service then?
    [[nodiscard]] virtual bool may_start_after(const Error& error) const noexcept = 0;
    /// The mapping of this service's arena, shared by all sessions; the same after a restart that has adopted it.
    [[nodiscard]] virtual Result<std::shared_ptr<const Mapping>> map(Link& link) = 0;
    /// The one that is mapped now, if any: to be offered to a service that was restarted.
    [[nodiscard]] virtual std::shared_ptr<const Mapping> arena() = 0;
    virtual void wake() noexcept = 0;
    [[nodiscard]] virtual const ClientOptions& options() const noexcept = 0;
  };

  Line(std::shared_ptr<Home> home, const SessionOptions& options, std::uint64_t seed);

  ~Line();

  /// Connects and opens the session, for the first time. The error is the service's.
  [[nodiscard]] Status open();
  [[nodiscard]] std::uint64_t block_bytes() const noexcept { return block_bytes_; }

  struct Use {
    std::shared_ptr<Link> link;
    std::shared_ptr<Holdings> holdings;
    std::uint64_t epoch = 0;  ///< of the holdings, for what this link grants
  };
  /// Empty: there is no service now, or the session is closed.
  [[nodiscard]] std::optional<Use> use();
  /// The time that a call may take from now on.
  [[nodiscard]] std::uint64_t deadline_ns() const noexcept;

  /// A request and its reply. What the reply grants must be taken by the caller; a reply that comes too late is undone.
  template <class Write>
  [[nodiscard]] Result<Link::TicketPtr> ask(const Use& use, Write&& write) {
    const std::uint64_t deadline = deadline_ns();
    give_back(use);
    auto ticket = use.link->start(std::forward<Write>(write), deadline);
    if (!ticket) return tl::unexpected<Error>(std::move(ticket).error());
    auto reply = use.link->wait(*ticket, deadline, undo_late);
    if (!reply) return tl::unexpected<Error>(std::move(reply).error());
    return *ticket;
  }
  /// Queues what was given back; it goes with the next request or flush.
  static void give_back(const Use& use);
  /// Undoes what a reply that nobody takes has granted.
  static void undo_late(Link& link, const wire::Reply& reply);

  /// What the engine says of itself: sent soon, and again on each link that comes after.
  void report_pool(const KvPool& pool);
  void report_prefill(double bytes_per_second);

  void close() noexcept;
  [[nodiscard]] bool closed() const;
  /// What was posted is sent soon, by the client's thread.
  void nudge() noexcept { home_->wake(); }
  /// Waits until the service has seen what was given back. True also where there is no service that could.
  [[nodiscard]] bool sync();

  // Of the client's thread.
  /// Sends what is to be sent, lets late replies in, connects again when it is time. Answers when to come again at the
  /// latest (UINT64_MAX: when woken or when the link breaks).
  [[nodiscard]] std::uint64_t maintain(std::uint64_t now_ns);
  /// Nothing of it is needed any more.
  [[nodiscard]] bool idle();
  struct Watch {
    int socket = -1;
    bool replies = false;  ///< somebody must read what comes
    bool unsent = false;   ///< and write on when there is room
  };
  [[nodiscard]] std::optional<Watch> watch();
  /// The other end of this socket is gone.
  void lost(int socket);

 private:
  /// From the Hello until the session is open on the new link.
  struct Attempt {
    std::shared_ptr<Holdings> earlier;  ///< what is still held of the link before
    std::uint64_t earlier_arena = 0;
    std::uint64_t deadline_ns = 0;
    std::optional<Handshake> handshake;  ///< of the client's thread: until there is a link
    std::shared_ptr<Link> link;
    std::shared_ptr<Holdings> holdings;  ///< with the link
    std::uint64_t epoch = 0;
    Link::Refusal refusal{};
    bool closed = false;      ///< the session was when the Welcome came: nothing is to be opened
    Link::TicketPtr opening;  ///< of the session
  };
  struct Shown {
    Link::Greeting greeting;
    std::shared_ptr<const Mapping> arena;  ///< keeps the greeting's descriptor
  };
  // line_connecting.cc
  [[nodiscard]] Attempt look_back() const;
  [[nodiscard]] Shown show(const Attempt& attempt) const;
  [[nodiscard]] Result<std::shared_ptr<Link>> open_link(Attempt& attempt, bool lost);
  void note_refusal(const Attempt& attempt);
  /// Tells the service what is still held; whatever else it had granted ends.
  static void post_hold(Link& link, std::span<const wire::Grants> grants, std::uint64_t slot_bytes);
  [[nodiscard]] Status welcomed(Attempt& attempt);
  [[nodiscard]] Result<std::shared_ptr<Holdings>> make_holdings(Link& link);
  [[nodiscard]] Status check_opened(const wire::Reply& reply);
  void publish(Attempt& attempt);
  void post_report(Link& link) const;
  void send_report();
  [[nodiscard]] Result<bool> advance(std::uint64_t now_ns);
  [[nodiscard]] Status advance_handshake();

  const std::shared_ptr<Home> home_;
  const SessionOptions options_;
  std::uint64_t block_bytes_ = 0;              // set by open()
  std::atomic<std::uint64_t> slot_bytes_ = 0;  // set by open(); relaxed: it does not change afterwards

  mutable Mutex mutex_;  // a leaf
  std::shared_ptr<Link> link_ TIERCEL_GUARDED_BY(mutex_);
  std::shared_ptr<Holdings> holdings_ TIERCEL_GUARDED_BY(mutex_);  // while the session is open
  std::weak_ptr<Holdings> held_ TIERCEL_GUARDED_BY(mutex_);        // the same, as long as a handle lives
  std::uint64_t arena_ TIERCEL_GUARDED_BY(mutex_) = 0;             // of held_: Welcome::arena
  std::uint64_t epoch_ TIERCEL_GUARDED_BY(mutex_) = 0;             // of link_
  bool closed_ TIERCEL_GUARDED_BY(mutex_) = false;
  mutable Mutex report_mutex_;  // a leaf, also below a link's
  KvPool pool_ TIERCEL_GUARDED_BY(report_mutex_);
  double prefill_ TIERCEL_GUARDED_BY(report_mutex_) = 0;
  // Of the client's thread:
  Random random_;
  std::optional<Attempt> attempt_;
  std::uint64_t retry_ns_ = 0;
  std::uint32_t failures_ = 0;
};

}  // namespace tiercel::service
