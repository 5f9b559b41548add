// RemoteSession: the Session of a cache that another process serves. Same answers, same errors, as
// cache/local_session.h; where the service does not answer, what a cache without the block says. Safe from several
// threads.
#pragma once

#include "cache/session_backend.h"
#include "service/client/line.h"
#include "service/client/prefill_reports.h"

#include <memory>

namespace tiercel::service {

class RemoteSession final : public detail::SessionBackend {
 public:
  RemoteSession(std::shared_ptr<Line> line, const SessionOptions& options);
  ~RemoteSession() override { close(); }

  [[nodiscard]] Space space(std::string_view tenant) const override;
  [[nodiscard]] Match match(const detail::ChainRef& chain) const override;
  [[nodiscard]] std::unique_ptr<detail::LoadBackend> load(const LoadCall& call) override;
  [[nodiscard]] std::shared_ptr<detail::ReservationBackend> reserve(const detail::ChainRef& chain, std::size_t first,
                                                                    std::size_t count) override;
  [[nodiscard]] Result<std::vector<BlockPart>> parts(std::uint64_t reservation_id,
                                                     std::span<const std::size_t> blocks) override;
  [[nodiscard]] Status report(std::uint64_t reservation_id, std::span<const std::size_t> blocks) override;
  [[nodiscard]] Result<std::unique_ptr<detail::PinBackend>> pin(const detail::ChainRef& chain, std::size_t blocks,
                                                                std::chrono::nanoseconds ttl) override;
  [[nodiscard]] Result<Dropped> drop(const detail::ChainRef& chain, std::size_t first) override;
  [[nodiscard]] Result<Dropped> drop(const Space& space) override;
  void report_pool(const KvPool& pool) override { line_->report_pool(pool); }
  void report_prefill(double bytes_per_second) override { line_->report_prefill(bytes_per_second); }
  void report_prefill(const PrefillTime& prefill) override { prefills_.add(prefill); }
  [[nodiscard]] std::uint64_t block_bytes() const noexcept override { return line_->block_bytes(); }
  [[nodiscard]] const SessionOptions& options() const noexcept override { return options_; }
  [[nodiscard]] std::shared_ptr<const Mapping> arena() const override;
  void close() noexcept override { line_->close(); }

 private:
  [[nodiscard]] Status check(const Space& space) const;
  /// The line's use, or why there is none.
  [[nodiscard]] Result<Line::Use> use() const;

  const std::shared_ptr<Line> line_;
  const SessionOptions options_;
  const BlockHash family_;
  PrefillReports prefills_;
};

}  // namespace tiercel::service
