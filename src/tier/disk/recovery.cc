#include "tier/disk/recovery.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace tiercel::disk {

RegionReader::RegionReader(std::shared_ptr<Metadata> metadata, IoPort& port, const Clock& clock, RecoverySink& sink)
    : metadata_(std::move(metadata)),
      port_(port),
      clock_(clock),
      sink_(sink),
      epochs_(metadata_->epoch() + kEpochsAhead) {
  named_.resize(std::size_t{metadata_->layout().shape().max_namespaces} + 1);
  batch_.reserve(kBatch);
}

Steps<Status> RegionReader::read() {
  const std::uint64_t begun_ns = clock_.now_ns();
  const Layout& layout = metadata_->layout();
  std::vector<PageRange> ranges;
  for (std::uint32_t page = 0; page < layout.header_begin(); page += kPagesPerRead) {
    ranges.push_back({.first = page, .count = std::min(kPagesPerRead, layout.header_begin() - page)});
  }
  const std::size_t region_ranges = ranges.size();
  std::deque<Reading> readings;
  std::size_t next = 0;
  for (std::size_t taken = 0; taken < ranges.size(); ++taken) {
    while (next < ranges.size() && readings.size() < kReads) readings.push_back(begin_read(ranges[next++]));
    const Reading reading = std::exchange(readings.front(), {});
    readings.pop_front();
    const Status status = co_await port_.wait(reading.pending);
    if (!status) {
      // A read past the end has no errno: the file is not what it was. A late one means that the device hangs.
      if (status.error().code != ErrorCode::kIo || status.error().os_error == 0) co_return status;
      const Status singly = co_await read_singly(reading.range);
      TIERCEL_CO_TRY(singly);
    }
    report_.bytes_read += reading.range.count * kPageBytes;
    if (taken + 1 == region_ranges) {
      take_region();
      const std::vector<PageRange> table = table_ranges();
      ranges.insert(ranges.end(), table.begin(), table.end());
    } else if (taken >= region_ranges) {
      take_headers(reading.range);
      (void)co_await port_.pause();
    }
  }
  metadata_->keep_namespaces(named_);
  report_.table_ns = clock_.now_ns() - begun_ns;
  co_return Status{};
}

/// Of each cut extent, the pages that its slots need, as far as they lie side by side.
std::vector<PageRange> RegionReader::table_ranges() const {
  const Layout& layout = metadata_->layout();
  std::vector<PageRange> ranges;
  for (std::uint32_t extent = 0; extent < layout.extents(); ++extent) {
    const std::uint32_t slots = layout.slots_of(metadata_->extent(extent).slot_bytes);
    std::uint32_t first = layout.header_page(layout.slot_at(extent, 0));
    std::uint32_t left = (slots + kHeadersPerPage - 1) / kHeadersPerPage;
    while (left > 0) {
      const bool beside =
          !ranges.empty() && ranges.back().first + ranges.back().count == first && ranges.back().count < kPagesPerRead;
      if (!beside) ranges.push_back({.first = first, .count = 0});
      const std::uint32_t count = std::min(left, kPagesPerRead - ranges.back().count);
      ranges.back().count += count;
      first += count;
      left -= count;
    }
  }
  return ranges;
}

RegionReader::Reading RegionReader::begin_read(PageRange range) {
  const IoSegment to{.data = metadata_->page_memory(range.first), .bytes = range.count * kPageBytes};
  return {.range = range, .pending = port_.read(metadata_->layout().page_offset(range.first), to, metadata_)};
}

Steps<Status> RegionReader::read_singly(PageRange range) {
  for (std::uint32_t page = range.first; page < range.first + range.count; ++page) {
    const Reading reading = begin_read({.first = page, .count = 1});
    const Status status = co_await port_.wait(reading.pending);
    if (status) continue;
    if (status.error().code != ErrorCode::kIo || status.error().os_error == 0) co_return status;
    if (++unreadable_ > kUnreadablePages) co_return status;
    const std::uint32_t log = metadata_->layout().log_begin();
    if (page >= log && page - log < metadata_->layout().log_pages())
      co_return status;  // what was deleted might come back
    std::memset(metadata_->page_memory(page), 0, kPageBytes);
    metadata_->repaired(page);
  }
  co_return Status{};
}

void RegionReader::take_region() {
  bad_heads_ = metadata_->take_heads().bad;
  bad_namespaces_ = metadata_->take_namespaces().bad;
  bad_tombstones_ = metadata_->take_log(buried_).bad;
  report_.coldest_first = metadata_->take_checkpoint();
  log_taken_ = true;
  sink_.on_region(buried_);
}

void RegionReader::take_headers(PageRange range) {
  const Layout& layout = metadata_->layout();
  for (std::uint32_t page = range.first; page < range.first + range.count; ++page) {
    const std::uint32_t in_table = page - layout.header_begin();
    const std::uint32_t extent = in_table / layout.extent_header_pages();
    const std::uint32_t first = in_table % layout.extent_header_pages() * kHeadersPerPage;
    const std::uint32_t slots = layout.slots_of(metadata_->extent(extent).slot_bytes);
    for (std::uint32_t position = first; position < std::min(slots, first + kHeadersPerPage); ++position) {
      take_header(layout.slot_at(extent, position));
    }
  }
  hand_over();  // so that a delete that comes before the next step finds all that has been taken
}

void RegionReader::take_header(std::uint32_t slot) {
  DiskBlock block;
  const auto [fault, id] = metadata_->examine({.slot = slot, .epochs = epochs_}, block);
  if (fault == Fault::kEmpty) return;
  if (id < named_.size()) named_[id] = true;
  if (fault == Fault::kNone && !buried_.covers(block)) {
    ++report_.headers;
    batch_.push_back(block);
    if (batch_.size() == kBatch) hand_over();
    return;
  }
  metadata_->repaired(metadata_->clear(slot));
  if (fault == Fault::kNone) {
    ++report_.buried_headers;
    sink_.on_buried(block);
    return;
  }
  ++(fault == Fault::kStale       ? report_.stale_headers
     : fault == Fault::kNamespace ? report_.unknown_namespace
                                  : report_.corrupt_headers);
  sink_.on_fault(slot, fault);
}

void RegionReader::hand_over() {
  if (batch_.empty()) return;
  sink_.on_found(batch_);
  batch_.clear();
}

Recovery::Recovery(std::shared_ptr<Metadata> metadata, File& file, const Clock& clock, const Options& options,
                   RecoverySink& sink)
    : port_(clock, options.patience_ns, options.ended_operations),
      reader_(std::move(metadata), port_, clock, sink),
      sequence_(port_) {
  port_.use(&file);
}

bool Recovery::step() {
  if (!sequence_.begun()) sequence_.begin(reader_.read());
  return sequence_.step();
}

}  // namespace tiercel::disk
