#include "tier/disk/superblock_io.h"

#include <algorithm>
#include <deque>
#include <new>

namespace tiercel::disk {
namespace {

constexpr std::uint32_t kPagesPerWrite = 256;
constexpr std::size_t kWrites = 4;

}  // namespace

std::shared_ptr<std::byte[]> page_buffer(std::uint64_t bytes) {
  constexpr std::align_val_t kAlignment{kPageBytes};
  auto* memory = static_cast<std::byte*>(::operator new[](bytes, kAlignment));
  return {memory, [](std::byte* at) { ::operator delete[](at, kAlignment); }};
}

Steps<Status> write_superblock(IoPort& port, SuperblockUpdate update) {
  const auto buffer = page_buffer(kPageBytes);
  encode(update.superblock, PageSpan(buffer.get(), kPageBytes));
  const Pending write = port.write(update.offset(), {.data = buffer.get(), .bytes = kPageBytes}, buffer);
  const Status written = co_await port.wait(write);
  TIERCEL_CO_TRY(written);
  const Pending sync = port.sync();
  const Status synced = co_await port.wait(sync);
  co_return synced;
}

Steps<Status> write_both_superblocks(IoPort& port, SuperblockUpdate first, SuperblockUpdate* last) {
  Steps<Status> write_first = write_superblock(port, first);
  const Status first_written = co_await write_first;
  TIERCEL_CO_TRY(first_written);
  SuperblockUpdate second = first;
  ++second.superblock.sequence;
  second.copy = 1 - first.copy;
  Steps<Status> write_second = write_superblock(port, second);
  const Status second_written = co_await write_second;
  TIERCEL_CO_TRY(second_written);
  *last = second;
  co_return Status{};
}

Steps<Status> write_pages(IoPort& port, std::shared_ptr<Metadata> metadata, PageRange range) {
  std::deque<Pending> writes;
  std::uint32_t next = range.first;
  const std::uint32_t end = range.first + range.count;
  while (next < end || !writes.empty()) {
    while (next < end && writes.size() < kWrites) {
      const std::uint32_t count = std::min(kPagesPerWrite, end - next);
      const IoSegment from{.data = metadata->page_memory(next), .bytes = count * kPageBytes};
      writes.push_back(port.write(metadata->layout().page_offset(next), from, metadata));
      next += count;
    }
    const Pending oldest = writes.front();
    writes.pop_front();
    const Status written = co_await port.wait(oldest);
    TIERCEL_CO_TRY(written);
  }
  co_return Status{};
}

}  // namespace tiercel::disk
