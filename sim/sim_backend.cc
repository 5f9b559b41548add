#include "sim/sim_backend.h"

#include "base/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace tiercel::sim {
namespace {

/// The bytes of scattered buffers, piece by piece: [from, from + to.size()) of them.
void gather(const std::vector<struct iovec>& buffers, std::uint64_t from, std::span<std::byte> to) {
  std::uint64_t begin = 0;
  for (const struct iovec& buffer : buffers) {
    const std::uint64_t end = begin + buffer.iov_len;
    const std::uint64_t first = std::max(begin, from);
    const std::uint64_t last = std::min<std::uint64_t>(end, from + to.size());
    if (first < last) {
      std::memcpy(to.data() + (first - from), static_cast<const std::byte*>(buffer.iov_base) + (first - begin),
                  last - first);
    }
    begin = end;
  }
}

PageRef page_of(const std::vector<struct iovec>& buffers, std::uint64_t from) {
  auto page = std::make_shared<Page>();
  gather(buffers, from, *page);
  return page;
}

Status os_failure(const char* call, int number) {
  return fail(ErrorCode::kIo, fmt::format("{}: {}", call, std::strerror(number)), number);
}

}  // namespace

SimBackend::SimBackend(std::shared_ptr<SimDevice> device, std::shared_ptr<SimDisk> disk, std::shared_ptr<OpenFile> file,
                       const Options& options)
    : device_(std::move(device)),
      disk_(std::move(disk)),
      file_(std::move(file)),
      options_(options),
      mount_(disk_->mount()) {
  file_->backends.push_back(this);
}

SimBackend::~SimBackend() {
  TIERCEL_CHECK(in_flight_.empty() || device_->gone(), "a simulated file is closed with operations in flight");
  std::erase(file_->backends, this);
}

Fault SimBackend::outage() const noexcept {
  return is_cut_off() ? Fault::kDead : disk_->dice().outage(device_->clock().now_ns());
}

bool SimBackend::aligned(const IoOperation& operation) const noexcept {
  return operation.offset % kPageBytes == 0 && std::ranges::all_of(operation.buffers, [](const struct iovec& buffer) {
           return buffer.iov_len % kPageBytes == 0 &&
                  reinterpret_cast<std::uintptr_t>(buffer.iov_base) % kPageBytes == 0;
         });
}

bool SimBackend::start(const IoOperation& operation) {
  TIERCEL_CHECK(operation.id < options_.depth, "an operation's id is below depth()");
  TIERCEL_CHECK(std::ranges::none_of(in_flight_, [&](const Operation& o) { return o.id == operation.id; }),
                "an operation's id is free when it starts");
  Operation started{.id = operation.id,
                    .kind = operation.kind,
                    .offset = operation.offset,
                    .buffers = {operation.buffers.begin(), operation.buffers.end()},
                    .mark = file_->bytes.mark()};
  for (const struct iovec& buffer : started.buffers) started.bytes += buffer.iov_len;
  if (!device_->gone()) {
    started.fault = aligned(operation) ? device_->fault_of(*disk_, operation.kind) : Fault::kNone;
    started.due_ns = device_->due_ns(*disk_, started.fault);
    device_->trace().event("io: start kind {} at {} bytes {} id {}",
                           {static_cast<std::uint64_t>(operation.kind), operation.offset, started.bytes, operation.id});
  }
  in_flight_.push_back(std::move(started));
  device_->event();
  disk_->poke();
  return true;
}

std::uint64_t SimBackend::next_due_ns() const noexcept {
  std::uint64_t due = UINT64_MAX;
  for (const Operation& operation : in_flight_) due = std::min(due, operation.due_ns);
  return device_->gone() && !in_flight_.empty() ? 0 : due;
}

std::size_t SimBackend::reap(std::span<IoReaped> reaped, std::uint64_t wait_ns) {
  if (wait_ns > 0 && !device_->gone() && next_due_ns() > device_->clock().now_ns()) {
    device_->block(std::min(next_due_ns(), deadline_after(device_->clock().now_ns(), wait_ns)));
  }
  std::size_t count = 0;
  while (count < reaped.size()) {
    const std::uint64_t now = device_->gone() ? UINT64_MAX : device_->clock().now_ns();
    std::vector<std::size_t> due;
    for (std::size_t i = 0; i < in_flight_.size(); ++i) {
      if (in_flight_[i].due_ns <= now) due.push_back(i);
    }
    if (due.empty()) break;
    const std::size_t which = device_->gone() ? 0 : due[device_->random().below(due.size())];
    device_->event();  // a crash here finds the operation still in flight
    const bool gone = device_->gone();
    const Operation operation = std::move(in_flight_[which]);
    in_flight_.erase(in_flight_.begin() + static_cast<std::ptrdiff_t>(which));
    reaped[count++] = {.id = operation.id, .result = gone ? -EIO : end(operation)};
    if (!gone) {
      device_->trace().event("io: end id {} of kind {}: {} (bytes, or an error's two's complement)",
                             {operation.id, static_cast<std::uint64_t>(operation.kind),
                              static_cast<std::uint64_t>(reaped[count - 1].result)});
      if (device_->random().below(4) == 0) break;  // the rest is reaped by a later call
    }
  }
  if (count > 0) disk_->poke();
  return count;
}

void SimBackend::end_stalls() {
  for (Operation& operation : in_flight_) {
    if (operation.fault != Fault::kStall && operation.fault != Fault::kFrozen) continue;
    operation.fault = device_->random().below(2) == 0 ? Fault::kNone : Fault::kError;
    operation.due_ns = device_->due_ns(*disk_, operation.fault);
  }
}

void SimBackend::cut_off() {
  for (Operation& operation : in_flight_) {
    operation.fault = Fault::kDead;
    operation.due_ns = device_->due_ns(*disk_, operation.fault);
  }
}

void SimBackend::collect_writes(std::vector<VirtualFile::PageWrite>& writes) const {
  if (disk_->mount() != mount_) return;  // of a disk that was pulled out: decided then
  for (const Operation& operation : in_flight_) {
    if (operation.kind != IoKind::kWrite || operation.fault == Fault::kLostWrite) continue;
    if (operation.offset % kPageBytes != 0 || operation.bytes % kPageBytes != 0) continue;  // ends with EINVAL
    for (std::uint64_t at = 0; at < operation.bytes; at += kPageBytes) {
      writes.push_back({.page = (operation.offset + at) / kPageBytes, .image = page_of(operation.buffers, at)});
    }
  }
}

// ---- how operations end

std::int64_t SimBackend::end(const Operation& operation) {
  if (operation.offset % kPageBytes != 0 || operation.bytes % kPageBytes != 0) return -EINVAL;
  if (operation.fault == Fault::kDead || is_cut_off()) return -EIO;
  if (operation.fault == Fault::kAgain) return device_->random().below(2) == 0 ? -EINTR : -EAGAIN;
  switch (operation.kind) {
    case IoKind::kRead:
      return end_read(operation);
    case IoKind::kWrite:
      return end_write(operation);
    case IoKind::kSync:
      if (operation.fault == Fault::kError) return -EIO;
      file_->bytes.make_durable(operation.mark);
      return 0;
  }
  return -EINVAL;
}

/// Of a short transfer: whole sectors, at least one, not all.
std::uint64_t SimBackend::part_of(std::uint64_t bytes) {
  const std::uint64_t unit = device_->random().below(4) == 0 ? kSectorBytes : kPageBytes;
  if (bytes <= unit) return bytes;
  return (1 + device_->random().below((bytes - 1) / unit)) * unit;
}

std::int64_t SimBackend::end_read(const Operation& operation) {
  if (operation.fault == Fault::kError) return -EIO;
  const std::uint64_t size = file_->bytes.size();
  std::uint64_t bytes = operation.offset >= size ? 0 : std::min(operation.bytes, size - operation.offset);
  if (operation.fault == Fault::kShort && bytes > 0) bytes = part_of(bytes);
  if (operation.fault == Fault::kFlipRest && bytes > 0) {
    file_->bytes.flip_bit((operation.offset + device_->random().below(bytes)) / kPageBytes,
                          static_cast<std::uint32_t>(device_->random().below(kPageBytes * 8)));
  }
  std::uint64_t at = 0;
  for (const struct iovec& buffer : operation.buffers) {
    if (at >= bytes) break;
    const std::uint64_t part = std::min<std::uint64_t>(buffer.iov_len, bytes - at);
    file_->bytes.read(operation.offset + at, {static_cast<std::byte*>(buffer.iov_base), part});
    at += part;
  }
  if (operation.fault == Fault::kFlipRead && bytes > 0) {
    std::uint64_t victim = device_->random().below(bytes);
    for (const struct iovec& buffer : operation.buffers) {
      if (victim < buffer.iov_len) {
        static_cast<std::byte*>(buffer.iov_base)[victim] ^= static_cast<std::byte>(1U << device_->random().below(8));
        break;
      }
      victim -= buffer.iov_len;
    }
  }
  return static_cast<std::int64_t>(bytes);
}

/// Writes the first `bytes` bytes of an operation, which end at a sector, at `offset`.
void SimBackend::put(const Operation& operation, std::uint64_t offset, std::uint64_t bytes) {
  for (std::uint64_t at = 0; at < bytes; at += kPageBytes) {
    PageRef image = page_of(operation.buffers, at);
    const std::uint64_t page = (offset + at) / kPageBytes;
    if (bytes - at < kPageBytes) {  // the rest of the page stays
      auto mixed = std::make_shared<Page>(*image);
      const PageRef before = file_->bytes.page(page);
      for (std::uint64_t i = bytes - at; i < kPageBytes; ++i) (*mixed)[i] = before ? (*before)[i] : std::byte{0};
      image = mixed;
    }
    file_->bytes.write({.page = page, .image = image});
  }
}

/// Any part of the pages, and of one of them any sectors.
void SimBackend::put_torn(const Operation& operation) {
  const std::uint64_t pages = operation.bytes / kPageBytes;
  const std::uint64_t tear = device_->random().below(pages);
  for (std::uint64_t i = 0; i < pages; ++i) {
    const std::uint64_t page = operation.offset / kPageBytes + i;
    const PageRef image = page_of(operation.buffers, i * kPageBytes);
    if (i == tear && operation.fault == Fault::kTorn) {
      file_->bytes.write({.page = page, .image = torn(image, file_->bytes.page(page), device_->random())});
    } else if (device_->random().below(2) == 0) {
      file_->bytes.write({.page = page, .image = image});
    }
  }
}

std::int64_t SimBackend::end_write(const Operation& operation) {
  switch (operation.fault) {
    case Fault::kFull:
      return -ENOSPC;
    case Fault::kReadOnly:
      return -EROFS;
    case Fault::kError:
    case Fault::kTorn:
      put_torn(operation);
      return -EIO;
    case Fault::kLostWrite:
      break;
    case Fault::kMisdirected: {
      const std::uint64_t pages = file_->bytes.size() / kPageBytes;
      const std::uint64_t length = operation.bytes / kPageBytes;
      if (pages > length) put(operation, device_->random().below(pages - length) * kPageBytes, operation.bytes);
      break;
    }
    case Fault::kShort: {
      const std::uint64_t bytes = part_of(operation.bytes);
      put(operation, operation.offset, bytes);
      return static_cast<std::int64_t>(bytes);
    }
    default:
      put(operation, operation.offset, operation.bytes);
      if (operation.fault == Fault::kFlipRest) {
        file_->bytes.flip_bit((operation.offset + device_->random().below(operation.bytes)) / kPageBytes,
                              static_cast<std::uint32_t>(device_->random().below(kPageBytes * 8)));
      }
  }
  return static_cast<std::int64_t>(operation.bytes);
}

// ---- control calls

Result<std::uint64_t> SimBackend::size() {
  if (device_->gone() || outage() == Fault::kDead) return tl::unexpected(os_failure("fstat", EIO).error());
  return file_->bytes.size();
}

Status SimBackend::check_growth(std::uint64_t bytes) {
  device_->event();
  const Fault now = outage();
  if (device_->gone() || now == Fault::kDead) return os_failure("fallocate", EIO);
  if (options_.read_only || now == Fault::kReadOnly) return os_failure("fallocate", EROFS);
  const bool full = bytes > options_.growth_limit_bytes || now == Fault::kFull;
  if (bytes > file_->bytes.size() && full) return os_failure("fallocate", ENOSPC);
  return {};
}

Status SimBackend::allocate(std::uint64_t bytes) {
  if (const Status status = check_growth(bytes); !status) return status;
  if (bytes > file_->bytes.size()) file_->bytes.resize(bytes);
  return {};
}

Status SimBackend::truncate(std::uint64_t bytes) {
  if (const Status status = check_growth(bytes); !status) return status;
  file_->bytes.resize(bytes);
  return {};
}

}  // namespace tiercel::sim
