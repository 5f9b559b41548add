#include "io/uring_backend.h"

#include "base/check.h"
#include "base/log.h"
#include "io/completion_queue.h"

#include <fmt/format.h>
#include <liburing.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

namespace tiercel {

class Uring {
 public:
  struct io_uring ring{};
};

namespace {

constexpr std::uint64_t kWakeData = UINT64_MAX;
constexpr std::uint64_t kOneTransfer = std::uint64_t{1} << 30U;  // a longer buffer is moved in several

tl::unexpected<Error> refuse(const std::string& what, int error) {
  std::string hint;
  if (error == EPERM || error == EACCES) {
    hint = " (forbidden by the sysctl kernel.io_uring_disabled or by the container's seccomp profile)";
  }
  return fail(ErrorCode::kUnsupported, fmt::format("{}: {}{}", what, std::system_category().message(error), hint),
              error);
}

/// Without interrupts of the running thread for each completion where the kernel knows how (5.19). Leaving them until
/// the thread asks (DEFER_TASKRUN, 6.1) took as many system calls and would bind the ring to one thread.
int open_ring(std::uint32_t entries, struct io_uring& ring) {
  struct io_uring_params params{};
  params.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
  const int result = io_uring_queue_init_params(entries, &ring, &params);
  return result == -EINVAL ? io_uring_queue_init(entries, &ring, 0) : result;
}

Status check_operations(struct io_uring& ring) {
  if ((ring.features & IORING_FEAT_EXT_ARG) == 0 || (ring.features & IORING_FEAT_SUBMIT_STABLE) == 0) {
    return fail(ErrorCode::kUnsupported, "the kernel's io_uring is too old (5.11 is needed)");
  }
  const std::unique_ptr<struct io_uring_probe, decltype(&io_uring_free_probe)> probe(io_uring_get_probe_ring(&ring),
                                                                                     &io_uring_free_probe);
  for (const int operation : {IORING_OP_READ, IORING_OP_WRITE, IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_READ_FIXED,
                              IORING_OP_WRITE_FIXED, IORING_OP_FSYNC}) {
    if (!probe || io_uring_opcode_supported(probe.get(), operation) == 0) {
      return fail(ErrorCode::kUnsupported, fmt::format("the kernel's io_uring lacks operation {}", operation));
    }
  }
  return {};
}

/// A copy by the CPU would otherwise run inside of the submission, one after another; from so many bytes on it is worth
/// a thread of the kernel.
constexpr std::uint64_t kApartBytes = 64U << 10U;

std::uint64_t bytes_of(const IoOperation& operation) {
  std::uint64_t bytes = 0;
  for (const struct iovec& buffer : operation.buffers) bytes += buffer.iov_len;
  return bytes;
}

unsigned one_transfer(const struct iovec& buffer) {
  return static_cast<unsigned>(std::min<std::uint64_t>(buffer.iov_len, kOneTransfer));
}

void prepare_read(struct io_uring_sqe& entry, int fd, const IoOperation& operation, int registered) {
  const std::span<const struct iovec> buffers = operation.buffers;
  if (buffers.size() != 1) {
    io_uring_prep_readv(&entry, fd, buffers.data(), static_cast<unsigned>(buffers.size()), operation.offset);
  } else if (registered >= 0) {
    io_uring_prep_read_fixed(&entry, fd, buffers[0].iov_base, one_transfer(buffers[0]), operation.offset, registered);
  } else {
    io_uring_prep_read(&entry, fd, buffers[0].iov_base, one_transfer(buffers[0]), operation.offset);
  }
}

void prepare_write(struct io_uring_sqe& entry, int fd, const IoOperation& operation, int registered) {
  const std::span<const struct iovec> buffers = operation.buffers;
  if (buffers.size() != 1) {
    io_uring_prep_writev(&entry, fd, buffers.data(), static_cast<unsigned>(buffers.size()), operation.offset);
  } else if (registered >= 0) {
    io_uring_prep_write_fixed(&entry, fd, buffers[0].iov_base, one_transfer(buffers[0]), operation.offset, registered);
  } else {
    io_uring_prep_write(&entry, fd, buffers[0].iov_base, one_transfer(buffers[0]), operation.offset);
  }
}

}  // namespace

void UringDeleter::operator()(Uring* ring) const noexcept {
  io_uring_queue_exit(&ring->ring);
  delete ring;
}

Result<UringPointer> make_uring(std::uint32_t depth) {
  auto made = std::make_unique<Uring>();
  if (const int error = open_ring(depth + 1, made->ring); error != 0) return refuse("io_uring_setup", -error);
  UringPointer ring(made.release());
  if (const Status usable = check_operations(ring->ring); !usable) return tl::unexpected<Error>(usable.error());
  io_uring_prep_nop(io_uring_get_sqe(&ring->ring));
  if (const int count = io_uring_submit_and_wait(&ring->ring, 1); count != 1) return refuse("io_uring_enter", -count);
  struct io_uring_cqe* entry = nullptr;
  if (const int error = io_uring_peek_cqe(&ring->ring, &entry); error != 0) return refuse("io_uring", -error);
  io_uring_cqe_seen(&ring->ring, entry);
  return ring;
}

UringBackend::UringBackend(SystemFile file, UringPointer ring, std::uint32_t depth, int held)
    : file_(std::move(file)), depth_(depth), wake_fd_(eventfd(0, EFD_CLOEXEC)), ring_(std::move(ring)) {
  TIERCEL_CHECK(wake_fd_, "no descriptor is left for an eventfd");
  const int files[] = {file_.fd(), held};
  file_registered_ = io_uring_register_files(&ring_->ring, files, held < 0 ? 1 : 2) == 0;
  if (!file_registered_ && held >= 0) {
    log_line(LogLevel::kWarn, "io_uring_held",
             file_.path() + ": after a kill nobody will see when the last operation has ended");
  }
  arm_wake();
}

UringBackend::~UringBackend() {
  TIERCEL_CHECK(in_flight_ == 0, "a ring is destroyed while operations are in flight");
  // The end of the ring would do it too, but later: the pages count against the limit until then.
  if (has_table_) (void)io_uring_unregister_buffers(&ring_->ring);
  if (file_registered_) (void)io_uring_unregister_files(&ring_->ring);  // as do locks on them
}

bool UringBackend::start(const IoOperation& operation) {
  if (in_flight_ == depth_) return false;
  struct io_uring_sqe* entry = io_uring_get_sqe(&ring_->ring);
  if (entry == nullptr) return false;
  const int fd = file_registered_ ? 0 : file_.fd();
  switch (operation.kind) {
    case IoKind::kRead:
      prepare_read(*entry, fd, operation, registered_index(operation.buffers));
      break;
    case IoKind::kWrite:
      prepare_write(*entry, fd, operation, registered_index(operation.buffers));
      break;
    case IoKind::kSync:
      io_uring_prep_fsync(entry, fd, IORING_FSYNC_DATASYNC);
      break;
  }
  unsigned flags = file_registered_ ? IOSQE_FIXED_FILE : 0U;
  if (operation.kind == IoKind::kRead && file_.is_copied() && bytes_of(operation) >= kApartBytes) flags |= IOSQE_ASYNC;
  io_uring_sqe_set_flags(entry, flags);
  io_uring_sqe_set_data64(entry, operation.id);
  ++in_flight_;
  return true;
}

/// The registered region that holds all of an operation's only buffer, or -1.
int UringBackend::registered_index(std::span<const struct iovec> buffers) const noexcept {
  if (buffers.size() != 1) return -1;
  const auto* begin = static_cast<const std::byte*>(buffers.front().iov_base);
  const auto after = std::ranges::upper_bound(registered_, begin, {}, &Registered::begin);
  if (after == registered_.begin()) return -1;
  const Registered& region = *std::prev(after);
  const bool inside = begin < region.end && buffers.front().iov_len <= static_cast<std::size_t>(region.end - begin);
  return inside ? region.index : -1;
}

std::size_t UringBackend::reap(std::span<IoReaped> reaped, std::uint64_t wait_ns) {
  std::size_t count = drain(reaped);
  if (count > 0 || wait_ns == 0) {
    woken_.store(false, std::memory_order_relaxed);
    const bool kernel_waits = (std::atomic_ref(*ring_->ring.sq.kflags).load(std::memory_order_relaxed) &
                               (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
    if (kernel_waits || io_uring_sq_ready(&ring_->ring) > 0) {
      // What it does not take now stays and is offered again.
      (void)io_uring_submit_and_get_events(&ring_->ring);
      count += drain(reaped.subspan(count));
    }
    return count;
  }
  sleeping_.store(true, std::memory_order_seq_cst);
  const bool woken = woken_.exchange(false, std::memory_order_seq_cst);
  submit_and_wait(woken ? 0 : std::min(wait_ns, CompletionQueue::kLongestWaitNs));
  sleeping_.store(false, std::memory_order_relaxed);
  woken_.store(false, std::memory_order_relaxed);
  return drain(reaped);
}

void UringBackend::submit_and_wait(std::uint64_t wait_ns) {
  if (wait_ns == 0) {
    (void)io_uring_submit_and_get_events(&ring_->ring);
    return;
  }
  struct io_uring_cqe* entry = nullptr;
  struct __kernel_timespec timeout{};
  timeout.tv_sec = static_cast<std::int64_t>(wait_ns / 1'000'000'000U);
  timeout.tv_nsec = static_cast<long long>(wait_ns % 1'000'000'000U);
  // ETIME, EINTR and EAGAIN all mean: nothing yet. What was not submitted stays and is offered again.
  (void)io_uring_submit_and_wait_timeout(&ring_->ring, &entry, 1, &timeout, nullptr);
}

/// What lies in the ring, without a system call.
std::size_t UringBackend::drain(std::span<IoReaped> reaped) {
  std::size_t count = 0;
  unsigned seen = 0;
  unsigned head = 0;
  struct io_uring_cqe* entry = nullptr;
  io_uring_for_each_cqe(&ring_->ring, head, entry) {
    if (entry->user_data == kWakeData) {
      wake_armed_ = false;
    } else if (count == reaped.size()) {
      break;
    } else {
      reaped[count++] = {.id = static_cast<std::uint32_t>(entry->user_data), .result = entry->res};
    }
    ++seen;
  }
  io_uring_cq_advance(&ring_->ring, seen);
  in_flight_ -= static_cast<std::uint32_t>(count);
  if (!wake_armed_) arm_wake();
  return count;
}

void UringBackend::arm_wake() {
  struct io_uring_sqe* entry = io_uring_get_sqe(&ring_->ring);
  if (entry == nullptr) return;  // the next drain tries again
  io_uring_prep_read(entry, wake_fd_.get(), &wake_value_, sizeof(wake_value_), 0);
  io_uring_sqe_set_data64(entry, kWakeData);
  wake_armed_ = true;
}

void UringBackend::wake() noexcept {
  woken_.store(true, std::memory_order_seq_cst);
  if (!sleeping_.load(std::memory_order_seq_cst)) return;
  const std::uint64_t one = 1;
  (void)!write(wake_fd_.get(), &one, sizeof(one));
}

Status UringBackend::register_memory(std::span<const struct iovec> memory) {
  for (const struct iovec& region : memory) {
    for (std::size_t offset = 0; offset < region.iov_len; offset += kOneTransfer) {
      const Status registered =
          register_region({.iov_base = static_cast<std::byte*>(region.iov_base) + offset,
                           .iov_len = std::min<std::size_t>(kOneTransfer, region.iov_len - offset)});
      if (!registered) return registered;
    }
  }
  return {};
}

/// The table is made of empty places, which are filled one after the other: the kernel leaves what is in flight alone.
Status UringBackend::register_region(const struct iovec& region) {
  if (registered_.size() == kMostRegions) {
    return fail(ErrorCode::kLimit,
                fmt::format("{} regions of memory are registered, which is the limit", kMostRegions));
  }
  int result = 0;
  if (registered_.empty() && !has_table_) {
    const std::vector<struct iovec> empty(kMostRegions);  // from 5.13 on
    result = io_uring_register_buffers(&ring_->ring, empty.data(), kMostRegions);
    has_table_ = result == 0;
  }
  const auto index = static_cast<int>(registered_.size());
  if (result == 0) {
    result = io_uring_register_buffers_update_tag(&ring_->ring, static_cast<unsigned>(index), &region, nullptr, 1);
  }
  if (result < 0) {
    return fail(ErrorCode::kUnsupported,
                fmt::format("io_uring takes no registered buffers: {}{}", std::system_category().message(-result),
                            result == -ENOMEM ? " (the memlock limit: ulimit -l)" : ""),
                -result);
  }
  const auto* begin = static_cast<const std::byte*>(region.iov_base);
  const auto place = std::ranges::upper_bound(registered_, begin, {}, &Registered::begin);
  registered_.insert(place, {.begin = begin, .end = begin + region.iov_len, .index = index});
  return {};
}

}  // namespace tiercel
