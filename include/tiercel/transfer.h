// Transfer: moves KV between the paged tensors of an engine, on a GPU or in host memory, and the blocks of a session.
//
// One for each process and device that holds tensors: a rank of an engine, or the whole of it. It gets the blocks from
// its session's calls (a load's references, a reservation's writers, a member's parts), and page ids from the engine:
// page i of a block holds its tokens [i, i + 1) * page_tokens. Nothing waits but `Copy::wait`, close() and destruction.
// A copy holds what it needs until its last byte has moved, however its handles are dropped; the pages are the caller's
// to keep until then. What is submitted once either completes or fails as a whole: after an error nothing may be
// assumed about its target, and the blocks are given up by not committing them.
//
// For tensors on a GPU, libtiercel_cuda.so is loaded, and the session's arena is registered with the GPU in the
// background; copies are right before it has been, but slow. The arena stays mapped as long as the Transfer lives.
// Safe from several threads; not for a forked child.
#pragma once

#include <tiercel/export.h>
#include <tiercel/result.h>
#include <tiercel/session.h>
#include <tiercel/tensor.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tiercel {

namespace detail {
class CopyState;
class TransferCore;
}  // namespace detail

/// TransferOptions::device of tensors that lie in host memory.
inline constexpr int kHostMemory = -1;

struct TransferOptions {
  int device = kHostMemory;                               ///< the CUDA device that the tensors are on
  std::uint64_t store_bytes_per_second = 12'000'000'000;  ///< pace of stores from a GPU; 0: none
  std::size_t max_copies = 256;                           ///< in flight; more are kLimit
  std::size_t threads = 1;                                ///< that copy between tensors in host memory and the arena
  std::string library{};  ///< path of libtiercel_cuda.so; empty: beside this library, then where the system looks
  /// Measures at the first start on a GPU what each way of copying costs (about 0.1 s). Open the transfer before
  /// the GPU has work and before graphs are captured.
  bool calibrate = true;
  /// Where that is kept for the next start. Empty: $TIERCEL_CACHE_DIR, or tiercel in $XDG_CACHE_HOME or in ~/.cache.
  std::string cache_folder{};
};

/// When a copy may begin.
struct CopyOrder {
  /// A cudaEvent_t of the engine, recorded before the call: pages are touched after it only. It may be recorded again
  /// once the call has returned. Not for tensors in host memory.
  void* after_event = nullptr;
  /// A copy that has not begun by then ends with kTimeout and has touched nothing. GPU copies alone.
  std::chrono::nanoseconds begin_within = std::chrono::nanoseconds::max();
  /// A load of which all is queued at once, so that a stream can wait for its end (Transfer::wait_in_stream). Not for
  /// tensors in host memory.
  bool ahead = false;
  // Of a load: these layers alone, [first_layer, end_layer), of those that this rank holds. An engine whose layers wait
  // one after another loads a few layers at a time, in order, and each waits for its own copy (wait_in_stream).
  std::uint32_t first_layer = 0;
  std::uint32_t end_layer = UINT32_MAX;
};

/// A copy in flight: a handle to it, cheap to copy. Safe from several threads.
class TIERCEL_API Copy {
 public:
  explicit Copy(std::shared_ptr<detail::CopyState> state) : state_(std::move(state)) {}

  /// It has ended, well or not, and holds nothing any more.
  [[nodiscard]] bool done() const;
  /// True: it has ended.
  bool wait(std::chrono::nanoseconds at_most) const;
  /// After its end: how. kTimeout: it never began (CopyOrder::begin_within); kIo: the device failed. kIncomplete while
  /// it runs.
  [[nodiscard]] Status status() const;
  [[nodiscard]] std::uint64_t bytes() const noexcept;
  /// After its end: the blocks that were copied, all or none, but for Transfer::stream().
  [[nodiscard]] std::size_t blocks() const noexcept;

 private:
  friend class Transfer;
  std::shared_ptr<detail::CopyState> state_;
};

class TIERCEL_API Transfer {
 public:
  /// `tensors` and `part`: what this process holds of the session's layout. kInvalidArgument names tensor, axis or
  /// option; kUnsupported: no GPU of this number, or no library for it.
  [[nodiscard]] static Result<Transfer> open(const Session& session, std::span<const EngineTensor> tensors,
                                             const RankPart& part = {}, const TransferOptions& options = {});
  Transfer(Transfer&&) noexcept;
  Transfer& operator=(Transfer&&) noexcept;
  ~Transfer();  ///< waits for what was submitted

  // pages_per_block() ids for each block, in the order of the blocks. kInvalidArgument: another number of them, a page
  // that the tensors do not have, a block of another size, an event for tensors in host memory, layers that this rank
  // does not hold; kLimit: max_copies are in flight; kClosed; or the error of a device that failed before.

  /// Blocks into pages. No page twice.
  [[nodiscard]] Result<Copy> load(std::vector<BlockRef> blocks, std::span<const std::uint32_t> pages,
                                  const CopyOrder& order = {});
  /// The blocks of a load into pages as they come, those from disk beside the reading of the next ones; as many of them
  /// as there are pages for. Takes the load over. The copy ends when the load has and what it gave is in its pages:
  /// Copy::blocks() says how many that is. No page twice, and none that something in a stream still uses.
  /// kInvalidArgument: a number of pages that is no multiple of pages_per_block(), a page that the tensors do not have.
  [[nodiscard]] Result<Copy> stream(Load load, std::span<const std::uint32_t> pages);

  /// Pages into a member's parts of blocks (Session::parts), which are reported after the copy's end.
  [[nodiscard]] Result<Copy> store(std::vector<BlockPart> blocks, std::span<const std::uint32_t> pages,
                                   const CopyOrder& order = {});
  /// Pages into writers of a reservation, which are committed after the copy's end. kInvalidArgument: an empty writer.
  [[nodiscard]] Result<Copy> store(Reservation& reservation, std::span<const std::size_t> writers,
                                   std::span<const std::uint32_t> pages, const CopyOrder& order = {});

  /// Waits until all of the copy is queued (some milliseconds a GB, while it moves); what is put into `stream`
  /// afterwards, a cudaStream_t of the tensors' GPU that captures no graph, begins behind the copy's end: for a step
  /// that needs the pages of a load. kInvalidArgument: the copy is not of this transfer or was not submitted `ahead`.
  /// kTimeout, kIo and the copy's own error: the stream waits for nothing, and the copy has not ended or failed.
  [[nodiscard]] Status wait_in_stream(void* stream, const Copy& copy);

  [[nodiscard]] std::size_t pages_per_block() const noexcept;
  /// That this rank moves for a block.
  [[nodiscard]] std::uint64_t part_bytes() const noexcept;
  /// Of the arena, with the GPU, so far; 0 for tensors in host memory.
  [[nodiscard]] std::uint64_t registered_bytes() const noexcept;
  /// Around what must not be held up, such as the capture of CUDA graphs; pauses nest.
  void pause_registration();
  void resume_registration();
  /// The error of a device, from which on nothing is copied any more.
  [[nodiscard]] Status health() const;
  /// "NVIDIA H200, device 0, 64 MiB in 10 stages", for the log.
  [[nodiscard]] std::string describe() const;
  /// How GPU copies choose between DMA from and to the pages (merged) and through a stage, on several lines: what each
  /// costs here as it was measured when the transfer was opened, or kept from before by GPU and driver, and by what
  /// copies have corrected that. Empty for tensors in host memory.
  [[nodiscard]] std::string choice() const;

  /// Refuses further copies and waits for those in flight; a load that is still coming (stream()) ends with kClosed.
  /// Idempotent.
  void close() noexcept;

 private:
  explicit Transfer(std::unique_ptr<detail::TransferCore> core);
  std::unique_ptr<detail::TransferCore> core_;
};

/// Measures what each way of copying costs on a CUDA device, or finds it measured, so that a Transfer that is opened
/// later need not: for engines that open theirs while they serve. The table of Transfer::choice(). Call it before
/// graphs are captured. Options: device, library, cache_folder. Errors as for Transfer::open.
[[nodiscard]] TIERCEL_API Result<std::string> calibrate_gpu(const TransferOptions& options);

}  // namespace tiercel
