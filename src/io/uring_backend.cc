#include "io/uring_backend.h"

#include "base/check.h"
#include "io/completion_queue.h"

#include <fmt/format.h>
#include <liburing.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
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

/// Without interrupts of the running thread for each completion where the kernel knows how (5.19).
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

UringBackend::UringBackend(SystemFile file, UringPointer ring, std::uint32_t depth)
    : file_(std::move(file)), depth_(depth), wake_fd_(eventfd(0, EFD_CLOEXEC)), ring_(std::move(ring)) {
  TIERCEL_CHECK(wake_fd_, "no descriptor is left for an eventfd");
  const int fd = file_.fd();
  file_registered_ = io_uring_register_files(&ring_->ring, &fd, 1) == 0;
  arm_wake();
}

UringBackend::~UringBackend() { TIERCEL_CHECK(in_flight_ == 0, "a ring is destroyed while operations are in flight"); }

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
  if (file_registered_) io_uring_sqe_set_flags(entry, IOSQE_FIXED_FILE);
  io_uring_sqe_set_data64(entry, operation.id);
  ++in_flight_;
  return true;
}

/// The registered piece that holds all of an operation's only buffer, or -1.
int UringBackend::registered_index(std::span<const struct iovec> buffers) const noexcept {
  if (buffers.size() != 1) return -1;
  const struct iovec& buffer = buffers.front();
  const auto* begin = static_cast<const std::byte*>(buffer.iov_base);
  for (std::size_t i = 0; i < registered_.size(); ++i) {
    if (begin >= registered_[i].begin && begin < registered_[i].end) {
      return buffer.iov_len <= static_cast<std::size_t>(registered_[i].end - begin) ? static_cast<int>(i) : -1;
    }
  }
  return -1;
}

std::size_t UringBackend::reap(std::span<IoReaped> reaped, std::uint64_t wait_ns) {
  std::size_t count = drain(reaped);
  if (count > 0 || wait_ns == 0) {
    woken_.store(false, std::memory_order_relaxed);
    if (io_uring_sq_ready(&ring_->ring) > 0) {
      (void)io_uring_submit(&ring_->ring);  // what it does not take now stays and is offered again
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
  struct io_uring_cqe* entry = nullptr;
  if (wait_ns == 0) {
    (void)io_uring_submit(&ring_->ring);
    return;
  }
  struct __kernel_timespec timeout{};
  timeout.tv_sec = static_cast<std::int64_t>(wait_ns / 1'000'000'000U);
  timeout.tv_nsec = static_cast<long long>(wait_ns % 1'000'000'000U);
  // ETIME, EINTR and EAGAIN all mean: nothing yet. What was not submitted stays and is offered again.
  (void)io_uring_submit_and_wait_timeout(&ring_->ring, &entry, 1, &timeout, nullptr);
}

std::size_t UringBackend::drain(std::span<IoReaped> reaped) {
  std::size_t count = 0;
  struct io_uring_cqe* entry = nullptr;
  while (count < reaped.size() && io_uring_peek_cqe(&ring_->ring, &entry) == 0) {
    if (entry->user_data == kWakeData) {
      wake_armed_ = false;
    } else {
      reaped[count++] = {.id = static_cast<std::uint32_t>(entry->user_data), .result = entry->res};
    }
    io_uring_cqe_seen(&ring_->ring, entry);
  }
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
  TIERCEL_CHECK(registered_.empty() && in_flight_ == 0, "memory is registered once, before the first operation");
  std::vector<struct iovec> pieces;
  for (const struct iovec& region : memory) {
    for (std::size_t offset = 0; offset < region.iov_len; offset += kOneTransfer) {
      pieces.push_back({.iov_base = static_cast<std::byte*>(region.iov_base) + offset,
                        .iov_len = std::min<std::size_t>(kOneTransfer, region.iov_len - offset)});
    }
  }
  const int error = io_uring_register_buffers(&ring_->ring, pieces.data(), static_cast<unsigned>(pieces.size()));
  if (error != 0) {
    return fail(ErrorCode::kUnsupported,
                fmt::format("io_uring takes no registered buffers: {}{}", std::system_category().message(-error),
                            error == -ENOMEM ? " (the memlock limit: ulimit -l)" : ""),
                -error);
  }
  for (const struct iovec& piece : pieces) {
    const auto* begin = static_cast<const std::byte*>(piece.iov_base);
    registered_.push_back({.begin = begin, .end = begin + piece.iov_len});
  }
  return {};
}

}  // namespace tiercel
