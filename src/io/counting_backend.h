// CountingBackend: counts what goes through to another backend. IoCounts is shared with whoever reads it, any thread.
#pragma once

#include "io/decorator.h"

#include <array>
#include <atomic>
#include <memory>
#include <vector>

namespace tiercel {

/// Each counter moves when an operation is reaped, but for `started`. Nothing is ordered by them.
struct IoCounts {
  struct Kind {
    std::atomic<std::uint64_t> started{0};
    std::atomic<std::uint64_t> ended{0};
    std::atomic<std::uint64_t> failed{0};  ///< of those ended
    std::atomic<std::uint64_t> bytes{0};   ///< moved
  };
  std::array<Kind, 3> kinds;  ///< by IoKind
  [[nodiscard]] const Kind& of(IoKind kind) const noexcept { return kinds[static_cast<std::size_t>(kind)]; }
};

class CountingBackend final : public IoDecorator {
 public:
  CountingBackend(std::unique_ptr<IoBackend> inner, std::shared_ptr<IoCounts> counts);

  [[nodiscard]] bool start(const IoOperation& operation) override;
  [[nodiscard]] std::size_t reap(std::span<IoReaped> reaped, std::uint64_t wait_ns) override;

 private:
  [[nodiscard]] IoCounts::Kind& of(IoKind kind) { return counts_->kinds[static_cast<std::size_t>(kind)]; }

  const std::shared_ptr<IoCounts> counts_;
  std::vector<IoKind> kinds_;  // by operation
};

}  // namespace tiercel
