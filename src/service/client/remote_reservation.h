// RemoteReservation: the writers of one reserve at the service. Calls for one item come from one thread at a time.
#pragma once

#include "base/mutex.h"
#include "cache/session_backend.h"
#include "service/client/line.h"

#include <memory>
#include <span>
#include <vector>

namespace tiercel::service {

class RemoteReservation final : public detail::ReservationBackend {
 public:
  /// Refused, or nobody was there to ask.
  RemoteReservation(std::size_t count, Reserved outcome) : outcomes_(count, outcome), items_(count) {}
  /// Every outcome is kBusy until accept().
  RemoteReservation(std::shared_ptr<Line> line, Line::Use use, std::size_t count, std::uint64_t block_bytes);
  ~RemoteReservation() override { finish(); }
  /// The service's answer. Once.
  void accept(const wire::Reply& reply) noexcept;

  [[nodiscard]] std::size_t size() const noexcept override { return outcomes_.size(); }
  [[nodiscard]] Reserved outcome(std::size_t item) const override { return outcomes_[item]; }
  [[nodiscard]] std::span<std::byte> bytes(std::size_t item) const override;
  [[nodiscard]] CopyPin begin_copy(std::size_t item) const override;
  [[nodiscard]] Status commit(std::size_t item, std::optional<std::size_t> size) override;
  /// One message and one reply for up to wire::kMaxBatch items.
  void commit_several(std::span<const WriterCommit> items, std::span<Status> statuses) override;
  void abort(std::size_t item) noexcept override;
  void finish() noexcept override;
  [[nodiscard]] std::uint64_t id() const noexcept override { return id_; }

 private:
  struct Item {
    std::span<std::byte> bytes;
    std::uint32_t slot = 0;
    bool open = false;  ///< one handle of the slot is this writer's
  };
  /// An item of a commit that is under way.
  struct Sent {
    std::size_t place = 0;  ///< among the statuses
    std::size_t item = 0;
    std::size_t length = 0;
    bool release = false;  ///< our handle and its grant are handed back; they come again if the service takes them not
    bool settled = false;  ///< so that memory that runs out later does not end it twice
  };
  void commit_batch(std::span<const WriterCommit> items, std::span<Status> statuses);
  void commit_at_service(std::span<Sent> sent, std::span<Status> statuses);
  void settle(Sent& sent, const wire::Committed& committed, unsigned at, unsigned& error, Status& status);
  void gone(Sent& sent) noexcept;
  void keep(Sent& sent) noexcept;
  void let_go(Item& item) noexcept;

  const std::shared_ptr<Line> line_;
  const Line::Use use_;
  std::uint64_t id_ = 0;  // 0: the service has no such reservation
  const std::uint64_t block_bytes_ = 0;
  std::vector<Reserved> outcomes_;
  std::vector<Item> items_;
  bool finished_ = false;
};

}  // namespace tiercel::service
