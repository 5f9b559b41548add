// IoQueue: transfers that wait for their turn, most urgent first, neighbours in the file as one operation.
//
// Pure and deterministic: time comes as an argument, nothing is read or written. Reads are queued with their deadline,
// writes with none (then the oldest goes first). take() begins with the most urgent and adds what touches it in the
// file, up to a number of bytes and segments; what is due soon goes alone, so that company never delays it. One thread
// at a time. O(log n) a transfer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

namespace tiercel::disk {

struct QueuedIo {
  std::uint32_t id = 0;
  std::uint64_t offset = 0;  ///< in the file
  std::uint64_t bytes = 0;   ///< whole pages
  std::uint64_t deadline_ns = UINT64_MAX;
};

/// Transfers that lie one after the other in the file.
struct IoBatch {
  static constexpr std::size_t kMaxParts = 16;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::array<std::uint32_t, kMaxParts> ids{};  ///< in the file's order
  std::size_t count = 0;
};

class IoQueue {
 public:
  /// A transfer whose deadline is nearer than `alone_ns` is not merged.
  explicit IoQueue(std::uint64_t alone_ns = 0) : alone_ns_(alone_ns) {}

  void add(const QueuedIo& io);
  /// The next operation, of at most `max_bytes` (a single transfer may be larger). Empty: nothing waits.
  [[nodiscard]] std::optional<IoBatch> take(std::uint64_t max_bytes, std::uint64_t now_ns);
  /// Takes out what has reached its deadline, in the order of the deadlines.
  [[nodiscard]] std::vector<std::uint32_t> take_expired(std::uint64_t now_ns);
  /// Takes out everything, most urgent first.
  [[nodiscard]] std::vector<std::uint32_t> take_all();

  [[nodiscard]] bool empty() const noexcept { return by_urgency_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return by_urgency_.size(); }
  /// UINT64_MAX: none.
  [[nodiscard]] std::uint64_t next_deadline() const noexcept {
    return by_urgency_.empty() ? UINT64_MAX : std::get<0>(*by_urgency_.begin());
  }

 private:
  using Place = std::pair<std::uint64_t, std::uint64_t>;  // offset, sequence
  using Places = std::map<Place, QueuedIo>;
  using Urgency = std::tuple<std::uint64_t, std::uint64_t, std::uint64_t>;  // deadline, sequence, offset

  QueuedIo extract(Places::iterator place);

  std::uint64_t alone_ns_;
  std::uint64_t sequence_ = 0;
  Places by_offset_;
  std::set<Urgency> by_urgency_;
};

}  // namespace tiercel::disk
