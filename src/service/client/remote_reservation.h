// RemoteReservation: the writers of one reserve at the service. Calls for one item come from one thread at a time.
#pragma once

#include "base/mutex.h"
#include "cache/session_backend.h"
#include "service/client/line.h"

#include <memory>
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
  void abort(std::size_t item) noexcept override;
  void finish() noexcept override;
  [[nodiscard]] std::uint64_t id() const noexcept override { return id_; }

 private:
  struct Item {
    std::span<std::byte> bytes;
    std::uint32_t slot = 0;
    bool open = false;  ///< one handle of the slot is this writer's
  };
  [[nodiscard]] Status commit_at_service(std::size_t item, std::size_t length, bool release);
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
