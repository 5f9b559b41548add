// Fuzz target of the disk file: whatever bytes stand in its superblock and metadata region, opening, recovery, a change
// of size, verification and repair end, and neither crash nor find a block outside the file. The first byte says what
// is done; then comes a list of patches (place, length, bytes), some of which are sealed by a right CRC, so that
// nonsense gets behind the checks.
#include "base/log.h"
#include "tier/disk/opening.h"
#include "tier/disk/recovery.h"
#include "tier/disk/testing/journal_file_system.h"
#include "tier/disk/verify.h"

#include <cstdint>
#include <cstdlib>
#include <span>

namespace {

using namespace tiercel;
using namespace tiercel::disk;
using testing_support::Bytes;
using testing_support::JournalFileSystem;

constexpr const char* kPath = "/kv/tiercel.kv";

[[nodiscard]] OpenRequest request_of(std::uint32_t extents) {
  return {.directory = "/kv",
          .capacity = extents * 65536ULL,
          .extent_bytes = 65536,
          .min_slot_bytes = 8192,
          .max_namespaces = 8,
          .log_pages = 1,
          .depth = 8};
}

class Sink final : public RecoverySink {
 public:
  explicit Sink(const disk::Layout& layout) : layout_(layout) {}
  void on_found(std::span<const DiskBlock> blocks) override {
    if (blocks.empty() || blocks.size() > 1024) std::abort();
    for (const DiskBlock& block : blocks) {
      if (block.slot >= layout_.slots() || block.length == 0 || block.length > block.slot_bytes) std::abort();
      if (layout_.data_offset(block.slot, block.slot_bytes) + block.slot_bytes > layout_.data_end()) std::abort();
    }
  }

 private:
  disk::Layout layout_;
};

/// A file with a block in it, made once.
[[nodiscard]] const Bytes& seed_file() {
  static const Bytes kSeed = [] {
    JournalFileSystem files;
    const ManualClock clock;
    Opening opening(request_of(4), files, clock);
    while (!opening.step(0)) {
    }
    if (!opening.status()) std::abort();
    const OpenedFile opened = opening.take();
    Metadata& metadata = *opened.metadata;
    const BlockHash fingerprint{.bytes = {std::byte{1}}};
    if (!metadata.add_namespace(fingerprint)) std::abort();
    metadata.cut(1, 16384);
    metadata.put({.fingerprint = fingerprint, .slot = 9, .slot_bytes = 16384, .length = 9000, .generation = 1});
    metadata.append({.fingerprint = fingerprint, .generation = 0});
    const std::uint32_t slots[] = {9};
    metadata.put_checkpoint(slots);
    Bytes bytes = files.bytes(kPath);
    for (std::uint32_t page = 0; page < metadata.layout().pages(); ++page) {
      std::memcpy(bytes.data() + metadata.layout().page_offset(page), metadata.page(page).data(), kPageBytes);
    }
    return bytes;
  }();
  return kSeed;
}

/// Takes numbers off the front of the input; zeros once it is empty.
class Input {
 public:
  explicit Input(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  std::uint8_t byte() {
    if (bytes_.empty()) return 0;
    const std::uint8_t first = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return first;
  }
  std::uint32_t word() { return byte() | static_cast<std::uint32_t>(byte() << 8U); }

 private:
  std::span<const std::uint8_t> bytes_;
};

void seal(Bytes& file, std::uint64_t begin, std::uint64_t bytes) {
  const std::uint32_t crc = crc32c(std::span(file).subspan(begin, bytes - 4));
  std::memcpy(file.data() + begin + bytes - 4, &crc, 4);
}

/// The superblocks, then the region, as one run of bytes that patches point into.
[[nodiscard]] Bytes patched(Input& input) {
  static constexpr std::uint64_t kRecords[] = {kPageBytes, kExtentHeadBytes, kNamespaceBytes, kHeaderBytes};
  Bytes file = seed_file();
  const std::uint64_t meta_begin = kDataBegin + 4 * 65536;
  while (!input.empty()) {
    const std::uint64_t at = input.word();
    const std::uint8_t form = input.byte();
    const std::uint64_t place = at < 2 * kPageBytes ? at : at - 2 * kPageBytes + meta_begin;
    const std::uint64_t end = at < 2 * kPageBytes ? 2 * kPageBytes : file.size();
    if (place >= end) continue;
    for (std::uint64_t i = place; i < end && i <= place + form % 16; ++i) file[i] = std::byte{input.byte()};
    if ((form & 0x40U) == 0) continue;
    const std::uint64_t record = kRecords[form >> 4U & 3U];
    seal(file, place / record * record, record);
  }
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  set_log_sink([](LogLevel, std::string_view) {});
  Input input({data, size});
  const std::uint8_t action = input.byte();
  JournalFileSystem files({{kPath, patched(input)}});
  // A superblock may say that the file is larger than all memory: such a disk has no room for it.
  files.world().capacity = std::uint64_t{64} << 20U;
  const ManualClock clock;
  if ((action & 1U) != 0) {
    (void)verify_file(kPath, files, clock, {.read_data = true, .repair = (action & 2U) != 0});
  }
  Opening opening(request_of((action & 4U) != 0 ? 2 + (action >> 3U) % 8 : 4), files, clock);
  int steps = 0;
  while (!opening.step(0)) {
    if (++steps > 100'000) std::abort();
  }
  if (!opening.status()) return 0;
  const OpenedFile opened = opening.take();
  Sink sink(opened.metadata->layout());
  Recovery recovery(opened.metadata, *opened.file, clock, {}, sink);
  for (steps = 0; !recovery.step(); opened.file->poll(0)) {
    if (++steps > 100'000) std::abort();
  }
  return 0;
}
