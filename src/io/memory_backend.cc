#include "io/memory_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace tiercel {
namespace {

std::uint64_t total_bytes(std::span<const struct iovec> buffers) {
  std::uint64_t total = 0;
  for (const struct iovec& buffer : buffers) total += buffer.iov_len;
  return total;
}

bool is_aligned(const IoOperation& operation, std::uint32_t alignment) {
  std::uint64_t bits = operation.offset;
  for (const struct iovec& buffer : operation.buffers) {
    bits |= buffer.iov_len | reinterpret_cast<std::uintptr_t>(buffer.iov_base);
  }
  return (bits & (alignment - 1U)) == 0;
}

tl::unexpected<Error> no_space(std::uint64_t bytes) {
  return fail(ErrorCode::kIo, fmt::format("the file cannot have {} bytes: the capacity in memory is used up", bytes),
              ENOSPC);
}

}  // namespace

MemoryFile::MemoryFile(std::shared_ptr<MemoryCapacity> capacity) : capacity_(std::move(capacity)) {}

MemoryFile::~MemoryFile() {
  const MutexLock lock(mutex_);
  capacity_->used_bytes.fetch_sub(bytes_, std::memory_order_relaxed);
}

/// Makes the file `bytes` long, or as long as the capacity allows; returns its length.
std::uint64_t MemoryFile::grow_to(std::uint64_t bytes) {
  if (bytes <= bytes_) return bytes_;
  const std::uint64_t total = capacity_->total_bytes.load(std::memory_order_relaxed);
  std::uint64_t used = capacity_->used_bytes.load(std::memory_order_relaxed);
  std::uint64_t added = 0;
  do {
    added = std::min(bytes - bytes_, total > used ? total - used : 0);
  } while (!capacity_->used_bytes.compare_exchange_weak(used, used + added, std::memory_order_relaxed));
  bytes_ += added;
  return bytes_;
}

std::int64_t MemoryFile::read(std::uint64_t offset, std::span<const struct iovec> buffers) {
  const MutexLock lock(mutex_);
  std::uint64_t moved = 0;
  for (const struct iovec& buffer : buffers) {
    auto* to = static_cast<std::byte*>(buffer.iov_base);
    for (std::uint64_t left = buffer.iov_len; left > 0;) {
      const std::uint64_t at = offset + moved;
      if (at >= bytes_) return static_cast<std::int64_t>(moved);
      const std::uint64_t part = std::min({left, kPageBytes - at % kPageBytes, bytes_ - at});
      const auto page = pages_.find(at / kPageBytes);
      if (page == pages_.end()) {
        std::memset(to, 0, part);
      } else {
        std::memcpy(to, page->second->data() + at % kPageBytes, part);
      }
      to += part;
      left -= part;
      moved += part;
    }
  }
  return static_cast<std::int64_t>(moved);
}

std::int64_t MemoryFile::write(std::uint64_t offset, std::span<const struct iovec> buffers) {
  const std::uint64_t bytes = total_bytes(buffers);
  const MutexLock lock(mutex_);
  const std::uint64_t before = bytes_;
  const std::uint64_t end = std::min(grow_to(offset + bytes), offset + bytes);
  if (end <= offset && bytes > 0) {
    capacity_->used_bytes.fetch_sub(bytes_ - before, std::memory_order_relaxed);
    bytes_ = before;
    return -ENOSPC;
  }
  std::uint64_t at = offset;
  for (const struct iovec& buffer : buffers) {
    const auto* from = static_cast<const std::byte*>(buffer.iov_base);
    for (std::uint64_t left = buffer.iov_len; left > 0 && at < end;) {
      const std::uint64_t part = std::min({left, kPageBytes - at % kPageBytes, end - at});
      std::unique_ptr<Page>& page = pages_[at / kPageBytes];
      if (!page) page = std::make_unique<Page>();
      std::memcpy(page->data() + at % kPageBytes, from, part);
      from += part;
      left -= part;
      at += part;
    }
  }
  return static_cast<std::int64_t>(at - offset);
}

std::uint64_t MemoryFile::size() {
  const MutexLock lock(mutex_);
  return bytes_;
}

std::int64_t MemoryFile::resize(std::uint64_t bytes) {
  const MutexLock lock(mutex_);
  if (bytes >= bytes_) {
    const std::uint64_t before = bytes_;
    if (grow_to(bytes) == bytes) return 0;
    capacity_->used_bytes.fetch_sub(bytes_ - before, std::memory_order_relaxed);
    bytes_ = before;
    return -ENOSPC;
  }
  capacity_->used_bytes.fetch_sub(bytes_ - bytes, std::memory_order_relaxed);
  bytes_ = bytes;
  // What a later growth shows again reads as zeros.
  std::erase_if(pages_, [&](const auto& entry) { return entry.first * kPageBytes >= bytes; });
  if (const auto last = pages_.find(bytes / kPageBytes); last != pages_.end()) {
    std::memset(last->second->data() + bytes % kPageBytes, 0, kPageBytes - bytes % kPageBytes);
  }
  return 0;
}

MemoryBackend::MemoryBackend(std::shared_ptr<MemoryFile> file, const MemoryBackendOptions& options)
    : file_(std::move(file)), options_(options), ended_(options.depth) {}

bool MemoryBackend::start(const IoOperation& operation) {
  if (in_flight_ == options_.depth) return false;
  ++in_flight_;
  ended_.push({.id = operation.id, .result = move(operation)});
  return true;
}

std::int64_t MemoryBackend::move(const IoOperation& operation) {
  if (operation.kind == IoKind::kSync) return 0;
  if (!is_aligned(operation, options_.alignment)) return -EINVAL;
  if (operation.kind == IoKind::kRead) return file_->read(operation.offset, operation.buffers);
  return options_.read_only ? -EBADF : file_->write(operation.offset, operation.buffers);
}

std::size_t MemoryBackend::reap(std::span<IoReaped> reaped, std::uint64_t wait_ns) {
  const std::size_t count = ended_.pop(reaped, wait_ns);
  in_flight_ -= static_cast<std::uint32_t>(count);
  return count;
}

Status MemoryBackend::register_memory(std::span<const struct iovec> /*memory*/) {
  return fail(ErrorCode::kUnsupported, "a file in memory has no use for registered buffers");
}

Result<std::uint64_t> MemoryBackend::size() { return file_->size(); }

Status MemoryBackend::allocate(std::uint64_t bytes) {
  if (options_.read_only) return fail(ErrorCode::kIo, "the file is open for reading only", EBADF);
  if (bytes > file_->size() && file_->resize(bytes) != 0) return no_space(bytes);
  return {};
}

Status MemoryBackend::truncate(std::uint64_t bytes) {
  if (options_.read_only) return fail(ErrorCode::kIo, "the file is open for reading only", EBADF);
  if (file_->resize(bytes) != 0) return no_space(bytes);
  return {};
}

}  // namespace tiercel
