// CopyDevice: what the feeder asks of a GPU: six queues, stages, tickets. CUDA behind it, or a device of a test.
//
// A queue runs what is put into it in order, beside the others; ticket and wait order one behind another. An operation
// that fails has perhaps been started all the same: after any error the feeder calls drain() and touches nothing more.
// gate(), owns(), wait_in_stream(), pin() and unpin() may be called beside the rest, which is the feeder's thread's
// alone.
#pragma once

#include "cuda/dma_walker.h"
#include "cuda/piece_table.h"
#include "cuda/stage_move.h"
#include "transfer/copy_plan.h"
#include "transfer/gpu_copy_engine.h"

#include <tiercel/result.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace tiercel::gpu {

/// The stages of a direction.
struct StageRing {
  std::uint64_t stage_bytes = 0;
  std::uint32_t count = 0;
};
[[nodiscard]] constexpr StageRing stages_of(CopyDirection direction, const GpuCopyOptions& options) noexcept {
  if (direction == CopyDirection::kStore) return {options.store_stage_bytes, options.store_stages};
  return {options.load_stage_bytes, options.load_stages};
}

/// Of a direction: the queue of its kernels and two of its DMA, so that one copy can be set up while another moves.
inline constexpr std::uint32_t kDmaQueues = 2;
inline constexpr std::uint32_t kQueues = 2 * (1 + kDmaQueues);

using Queue = std::uint32_t;
[[nodiscard]] constexpr Queue kernel_queue(CopyDirection direction) noexcept {
  return static_cast<Queue>(direction) * (1 + kDmaQueues);
}
[[nodiscard]] constexpr Queue dma_queue(CopyDirection direction, std::uint32_t number) noexcept {
  return kernel_queue(direction) + 1 + number;
}

/// A place in a queue.
using Ticket = std::uint32_t;

class CopyDevice {
 public:
  virtual ~CopyDevice() = default;

  /// Whether the address lies in the GPU's memory.
  [[nodiscard]] virtual bool owns(const void* address) const noexcept = 0;
  /// A ticket for what has been recorded into the caller's event so far.
  [[nodiscard]] virtual Result<Ticket> gate(CopyDirection direction, void* event) = 0;

  /// Once, at the start of each thread of the engine.
  [[nodiscard]] virtual Status begin_thread() = 0;
  /// Puts a table where kernels read it. kOutOfMemory: no room, try when tables were forgotten; kUnsupported: too
  /// large.
  [[nodiscard]] virtual Result<const PieceEntry*> upload(const PieceTable& table) = 0;
  /// Nothing in flight reads it.
  virtual void forget(const PieceEntry* pieces) noexcept = 0;
  /// The stages of a direction follow each other, where they can.
  [[nodiscard]] virtual std::byte* stage(CopyDirection direction, std::uint32_t number) noexcept = 0;

  /// kStore: pages into the stage; kLoad: the stage into pages. In the direction's kernel queue.
  [[nodiscard]] virtual Status run_stage(CopyDirection direction, const StageParams& params) = 0;
  /// kStore: device to host; kLoad: host to device.
  /// The copies of a chunk, in any order among themselves.
  [[nodiscard]] virtual Status copy(Queue queue, CopyDirection direction, std::span<const Dma> chunk) = 0;
  [[nodiscard]] virtual Result<Ticket> mark(Queue queue) = 0;
  [[nodiscard]] virtual Status wait(Queue queue, Ticket ticket) = 0;
  [[nodiscard]] virtual Result<bool> reached(Ticket ticket) = 0;
  /// The ticket is not asked for again; a wait that was queued keeps its meaning.
  virtual void give_back(Ticket ticket) noexcept = 0;
  /// Blocks until nothing of the queues can move any more, an error of the device included.
  virtual void drain() noexcept = 0;

  /// Makes a stream of somebody else wait for a ticket. From any thread, as gate().
  [[nodiscard]] virtual Status wait_in_stream(void* stream, Ticket ticket) = 0;

  /// Makes host memory reachable by DMA, and takes it back. From a thread that has called begin_thread().
  [[nodiscard]] virtual Status pin(std::byte* begin, std::uint64_t bytes) = 0;
  virtual void unpin(std::byte* begin) noexcept = 0;

  [[nodiscard]] virtual std::string describe() const = 0;
};

}  // namespace tiercel::gpu
