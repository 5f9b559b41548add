// RemoteLoad: a load whose answer the service sends when it is final. One thread at a time. Dropped before its answer:
// the service is told, and what it grants nevertheless is given back.
//
// Who asks for what is ready so far has a second question on its way from then on: each part that comes is followed by
// the next question, and the load's own answer, which comes behind the last part, has the rest.
#pragma once

#include "cache/session_backend.h"
#include "service/client/line.h"

#include <memory>
#include <vector>

namespace tiercel::service {

class RemoteLoad final : public detail::LoadBackend {
 public:
  /// There is no service to ask.
  explicit RemoteLoad(LoadOutcome outcome) : finished_(true), outcome_(outcome) {}
  RemoteLoad(std::shared_ptr<Line> line, Line::Use use, Link::TicketPtr ticket, std::size_t blocks,
             std::uint64_t deadline_ns);
  ~RemoteLoad() override;

  [[nodiscard]] std::span<const BlockRef> wait() override;
  [[nodiscard]] bool done() override;
  [[nodiscard]] std::span<const BlockRef> so_far() override;
  [[nodiscard]] LoadOutcome outcome() const override { return outcome_; }
  [[nodiscard]] std::vector<BlockRef> take() override;

 private:
  void finish(const wire::Reply& reply);
  void ask_for_part();
  void take_part() noexcept;
  [[nodiscard]] bool take_places(const wire::Loaded& loaded);
  void give_up() noexcept;

  std::shared_ptr<Line> line_;
  Line::Use use_;
  Link::TicketPtr ticket_;
  Link::TicketPtr part_;  // the question for what is ready so far; null: none is on its way
  std::size_t blocks_ = 0;
  std::uint64_t until_ns_ = 0;  // the load's deadline, and the time that its answer may take after it
  bool finished_ = false;
  LoadOutcome outcome_ = LoadOutcome::kMiss;
  std::vector<BlockRef> refs_;
};

}  // namespace tiercel::service
