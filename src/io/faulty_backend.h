// FaultyBackend: lets chosen operations of another backend fail, fall short, lose or change bytes, by a plan.
//
// Operations are numbered from 0 in the order in which they are started, over all backends that share the plan. The
// plan is shared with the test and safe from any thread; the backend is used as any other.
#pragma once

#include "base/mutex.h"
#include "io/decorator.h"

#include <array>
#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

namespace tiercel {

struct IoFault {
  enum class Kind : std::uint8_t {
    kFail,       ///< answered with -error, nothing is moved
    kFailAfter,  ///< moved, then answered with -error
    kShort,      ///< only the first `bytes` are moved; 0: of a read "the file ends"
    kLose,       ///< a write that is answered as done and never made; a read that leaves the buffers as they were
    kCorrupt,    ///< bit 0 of the byte at `bytes` of the operation is flipped on its way
  };
  Kind kind = Kind::kFail;
  int error = 0;
  std::uint64_t bytes = 0;
};

class FaultPlan {
 public:
  /// For the operation with this number.
  void add(std::uint64_t number, const IoFault& fault);
  /// For every operation of a kind from now on, until nullopt; one with a fault of its own has that.
  void set_for_all(IoKind kind, const std::optional<IoFault>& fault);
  /// How many have been started.
  [[nodiscard]] std::uint64_t started() const;

 private:
  friend class FaultyBackend;
  [[nodiscard]] std::optional<IoFault> next(IoKind kind);

  mutable Mutex mutex_;
  std::map<std::uint64_t, IoFault> by_number_ TIERCEL_GUARDED_BY(mutex_);
  std::array<std::optional<IoFault>, 3> by_kind_ TIERCEL_GUARDED_BY(mutex_);
  std::uint64_t started_ TIERCEL_GUARDED_BY(mutex_) = 0;
};

class FaultyBackend final : public IoDecorator {
 public:
  FaultyBackend(std::unique_ptr<IoBackend> inner, std::shared_ptr<FaultPlan> plan);

  [[nodiscard]] bool start(const IoOperation& operation) override;
  [[nodiscard]] std::size_t reap(std::span<IoReaped> reaped, std::uint64_t wait_ns) override;

 private:
  struct Operation {
    std::optional<IoFault> fault;
    bool refused = false;  // the inner backend had no room: the next start is the same operation again
    IoKind kind = IoKind::kRead;
    std::span<const struct iovec> asked;  // the caller's buffers
    std::vector<struct iovec> passed;     // what the inner backend got instead
    std::vector<std::byte> copy;          // of what is written with a flipped bit
  };

  [[nodiscard]] bool start_changed(const IoOperation& operation, Operation& slot);
  [[nodiscard]] std::int64_t result_of(const Operation& operation, std::int64_t result) const;

  const std::shared_ptr<FaultPlan> plan_;
  std::vector<Operation> operations_;
  std::deque<IoReaped> answered_;  // without the inner backend
};

}  // namespace tiercel
