#include "tier/disk/io_queue.h"

#include <algorithm>

namespace tiercel::disk {

void IoQueue::add(const QueuedIo& io) {
  const std::uint64_t sequence = sequence_++;
  by_offset_.emplace(Place{io.offset, sequence}, io);
  by_urgency_.emplace(io.deadline_ns, sequence, io.offset);
}

QueuedIo IoQueue::extract(Places::iterator place) {
  const QueuedIo io = place->second;
  by_urgency_.erase(Urgency{io.deadline_ns, place->first.second, io.offset});
  by_offset_.erase(place);
  return io;
}

std::optional<IoBatch> IoQueue::take(std::uint64_t max_bytes, std::uint64_t now_ns) {
  if (by_urgency_.empty()) return std::nullopt;
  const auto [deadline_ns, sequence, offset] = *by_urgency_.begin();
  const QueuedIo first = extract(by_offset_.find(Place{offset, sequence}));
  IoBatch batch{.offset = first.offset, .bytes = first.bytes, .ids = {first.id}, .count = 1};
  const bool alone = deadline_ns != UINT64_MAX && deadline_ns < now_ns + alone_ns_;
  if (alone) return batch;
  const auto fits = [&](const QueuedIo& io) {
    return batch.count < IoBatch::kMaxParts && io.bytes <= max_bytes && batch.bytes <= max_bytes - io.bytes;
  };
  for (;;) {  // what follows
    const std::uint64_t end = batch.offset + batch.bytes;
    const auto next = by_offset_.lower_bound(Place{end, 0});
    if (next == by_offset_.end() || next->second.offset != end || !fits(next->second)) break;
    const QueuedIo io = extract(next);
    batch.ids.at(batch.count++) = io.id;
    batch.bytes += io.bytes;
  }
  for (;;) {  // what lies before
    const auto at = by_offset_.lower_bound(Place{batch.offset, 0});
    if (at == by_offset_.begin()) break;
    const auto before = std::prev(at);
    if (before->second.offset + before->second.bytes != batch.offset || !fits(before->second)) break;
    const QueuedIo io = extract(before);
    std::rotate(batch.ids.begin(), batch.ids.end() - 1, batch.ids.end());
    batch.ids.front() = io.id;
    ++batch.count;
    batch.offset = io.offset;
    batch.bytes += io.bytes;
  }
  return batch;
}

std::vector<std::uint32_t> IoQueue::take_expired(std::uint64_t now_ns) {
  std::vector<std::uint32_t> ids;
  while (!by_urgency_.empty() && std::get<0>(*by_urgency_.begin()) <= now_ns) {
    const auto [deadline_ns, sequence, offset] = *by_urgency_.begin();
    ids.push_back(extract(by_offset_.find(Place{offset, sequence})).id);
  }
  return ids;
}

std::vector<std::uint32_t> IoQueue::take_all() {
  std::vector<std::uint32_t> ids;
  while (!by_urgency_.empty()) {
    const auto [deadline_ns, sequence, offset] = *by_urgency_.begin();
    ids.push_back(extract(by_offset_.find(Place{offset, sequence})).id);
  }
  return ids;
}

}  // namespace tiercel::disk
