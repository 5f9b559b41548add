// DiskFile: a small disk file in a JournalFileSystem, opened, filled and looked into by verbs, for tests. It writes as
// the engine does: data, then header page; no block is written twice.
#pragma once

#include "tier/disk/opening.h"
#include "tier/disk/recovery.h"
#include "tier/disk/superblock_io.h"
#include "tier/disk/testing/journal_file_system.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace tiercel::disk::testing_support {

inline constexpr std::uint64_t kTestExtentBytes = 64 * 1024;
inline constexpr std::uint64_t kTestSlotBytes = 8 * 1024;

[[nodiscard]] inline BlockHash name_of(std::uint64_t number) {
  BlockHash hash;
  Random random(number + 1);
  for (std::size_t i = 0; i < 4; ++i) {
    const std::uint64_t word = random.next();
    std::memcpy(hash.bytes.data() + i * 8, &word, 8);
  }
  return hash;
}

/// The bytes of block `number`, as they lie in its slot.
[[nodiscard]] inline Bytes content_of(std::uint64_t number, std::uint64_t bytes) {
  Bytes content(bytes);
  Random random(number);
  for (std::byte& byte : content) byte = static_cast<std::byte>(random.next());
  return content;
}

[[nodiscard]] inline OpenRequest test_request(std::uint32_t extents) {
  return {.directory = "/kv",
          .capacity = extents * kTestExtentBytes,
          .extent_bytes = kTestExtentBytes,
          .min_slot_bytes = kTestSlotBytes,
          .max_namespaces = 8,
          .log_pages = 1,
          .depth = 8};
}

/// What recovery found.
struct Found final : RecoverySink {
  std::vector<DiskBlock> blocks;
  std::map<Fault, std::uint64_t> faults;
  void on_found(std::span<const DiskBlock> found) override { blocks.insert(blocks.end(), found.begin(), found.end()); }
  void on_fault(std::uint32_t, Fault fault) override { ++faults[fault]; }
  [[nodiscard]] std::map<BlockHash, DiskBlock> by_name() const {
    std::map<BlockHash, DiskBlock> named;
    for (const DiskBlock& block : blocks) named[block.hash] = block;
    return named;
  }
};

class DiskFile {
 public:
  explicit DiskFile(JournalFileSystem& files) : files_(files) {}

  /// Opens; the error where it fails.
  Status open(const OpenRequest& request) {
    Opening opening(request, files_, clock_);
    for (int steps = 0; !opening.ended() && steps < 1'000'000; ++steps) opening.step(0);
    if (!opening.ended()) return fail(ErrorCode::kTimeout, "the opening never ends");
    const Status status = opening.status();
    if (status) opened_ = opening.take();
    return status;
  }
  Status recover(Found& found) {
    Recovery recovery(opened_.metadata, file(), clock_, {}, found);
    for (int steps = 0; !recovery.step() && steps < 1'000'000; ++steps) file().poll(0);
    if (!recovery.ended()) return fail(ErrorCode::kTimeout, "the recovery never ends");
    report_ = recovery.reader().report();
    return recovery.status();
  }
  void close() { opened_ = {}; }

  [[nodiscard]] Metadata& metadata() { return *opened_.metadata; }
  [[nodiscard]] File& file() { return *opened_.file; }
  [[nodiscard]] OpenedFile& opened() { return opened_; }
  [[nodiscard]] const DiskRecovery& report() const { return report_; }

  void write_page(std::uint32_t page) { run(write_pages(port_in(), opened_.metadata, {.first = page, .count = 1})); }
  void write(std::uint64_t offset, const Bytes& bytes) {
    const auto buffer = page_buffer(bytes.size());
    std::ranges::copy(bytes, buffer.get());
    IoJob job = job_of(IoKind::kWrite, offset, {.data = buffer.get(), .bytes = bytes.size()});
    job.owner = buffer;
    EXPECT_TRUE(file().run(std::move(job)));
  }
  [[nodiscard]] Bytes read(std::uint64_t offset, std::uint64_t bytes) {
    const auto buffer = page_buffer(bytes);
    IoJob job = job_of(IoKind::kRead, offset, {.data = buffer.get(), .bytes = bytes});
    job.owner = buffer;
    EXPECT_TRUE(file().run(std::move(job)));
    return Bytes(buffer.get(), buffer.get() + bytes);
  }
  void sync() { EXPECT_TRUE(file().run(job_of(IoKind::kSync, 0, {}))); }
  void update(const SuperblockUpdate& update) {
    run(write_superblock(port_in(), update));
    metadata().apply(update);
  }

  /// Stores block `number` (its name, content and generation follow from it) of a namespace in a slot.
  DiskBlock store(std::uint64_t number, std::uint32_t slot, std::uint64_t slot_bytes, std::uint64_t space = 0) {
    Metadata& meta = metadata();
    const BlockHash fingerprint = name_of(1'000'000 + space);
    const std::uint32_t extent = meta.layout().extent_of(slot);
    if (meta.extent(extent).slot_bytes != slot_bytes) write_page(meta.cut(extent, slot_bytes));
    if (!meta.namespace_id(fingerprint)) {
      const auto id = meta.add_namespace(fingerprint);
      EXPECT_TRUE(id);
      write_page(meta.layout().namespace_page(*id));
      sync();
    }
    DiskBlock block{.fingerprint = fingerprint,
                    .hash = name_of(number),
                    .parent = name_of(number == 0 ? 0 : number - 1),
                    .group = static_cast<GroupId>(number % 3),
                    .slot = slot,
                    .slot_bytes = slot_bytes,
                    .length = static_cast<std::uint32_t>(slot_bytes - number % 4096),
                    .checksum = number * 7,
                    .generation = (meta.epoch() << kEpochShift) + number};
    write(meta.layout().data_offset(slot, slot_bytes), content_of(number, slot_bytes));
    write_page(meta.put(block));
    return block;
  }
  [[nodiscard]] bool holds_content_of(std::uint64_t number, const DiskBlock& block) {
    const std::uint64_t bytes = round_up(block.length, kPageBytes);
    const Bytes expected = content_of(number, block.slot_bytes);
    const Bytes got = read(metadata().layout().data_offset(block.slot, block.slot_bytes), bytes);
    return std::equal(got.begin(), got.begin() + block.length, expected.begin());
  }

  void run(Steps<Status> steps) {
    Sequence sequence(*port_);
    sequence.begin(std::move(steps));
    while (!sequence.step()) file().poll(0);
    EXPECT_TRUE(sequence.status()) << sequence.status().error().message;
  }
  [[nodiscard]] IoPort& port_in() {
    port_ = std::make_unique<IoPort>(clock_, 1'000'000'000);
    port_->use(opened_.file.get());
    return *port_;
  }
  [[nodiscard]] ManualClock& clock() { return clock_; }

 private:
  [[nodiscard]] static IoJob job_of(IoKind kind, std::uint64_t offset, IoSegment segment) {
    IoJob job;
    job.kind = kind;
    job.offset = offset;
    job.segments[0] = segment;
    job.segment_count = kind == IoKind::kSync ? 0 : 1;
    return job;
  }

  JournalFileSystem& files_;
  ManualClock clock_;
  std::unique_ptr<IoPort> port_;
  OpenedFile opened_;
  DiskRecovery report_;
};

}  // namespace tiercel::disk::testing_support
