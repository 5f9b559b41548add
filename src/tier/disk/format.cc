#include "tier/disk/format.h"

#include "base/check.h"

#include <isa-l/crc.h>
#include <algorithm>
#include <bit>
#include <cstring>

namespace tiercel::disk {
namespace {

static_assert(std::endian::native == std::endian::little, "the formats are written as the machine has its integers");

constexpr std::array<char, 8> kSuperblockMagic = {'T', 'I', 'E', 'R', 'C', 'E', 'L', '\0'};
constexpr std::array<char, 4> kTombstoneMagic = {'T', 'O', 'M', 'B'};
constexpr std::array<char, 4> kHeaderMagic = {'T', 'K', 'V', 'H'};
constexpr std::uint32_t kNamespaceUsed = 1;
constexpr std::uint16_t kHeaderVersion = 1;

template <class T>
void put(std::span<std::byte> to, std::size_t offset, const T& value) noexcept {
  static_assert(std::is_trivially_copyable_v<T>);
  std::memcpy(to.data() + offset, &value, sizeof(T));
}

template <class T>
[[nodiscard]] T get(std::span<const std::byte> from, std::size_t offset) noexcept {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memcpy(&value, from.data() + offset, sizeof(T));
  return value;
}

/// The CRC stands in the last four bytes.
void seal(std::span<std::byte> record) noexcept {
  put(record, record.size() - 4, crc32c(record.first(record.size() - 4)));
}
[[nodiscard]] bool sealed(std::span<const std::byte> record) noexcept {
  return get<std::uint32_t>(record, record.size() - 4) == crc32c(record.first(record.size() - 4));
}

[[nodiscard]] bool zeros(std::span<const std::byte> record, std::size_t begin, std::size_t end) noexcept {
  return all_zero(record.subspan(begin, end - begin));
}

}  // namespace

const char* fault_name(Fault fault) noexcept {
  static constexpr std::array<const char*, kFaults> kNames = {
      "none",  "empty", "magic", "crc",    "version",   "page_size",  "reserved",
      "range", "place", "stale", "length", "namespace", "generation",
  };
  const auto index = static_cast<std::size_t>(fault);
  return index < kNames.size() ? kNames[index] : "unknown";
}

std::uint32_t crc32c(std::span<const std::byte> bytes) noexcept {
  // The library takes its input by a pointer to mutable bytes and an int; it changes nothing, and records are short.
  auto* data = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(bytes.data()));
  return crc32_iscsi(data, static_cast<int>(bytes.size()), 0xFFFFFFFFU) ^ 0xFFFFFFFFU;
}

bool all_zero(std::span<const std::byte> bytes) noexcept {
  // Equal to itself shifted by one byte, and the first is zero: memcmp's speed, for tables of which most is empty.
  return bytes.empty() ||
         (bytes.front() == std::byte{0} && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

void encode(const Superblock& superblock, PageSpan to) noexcept {
  std::ranges::fill(to, std::byte{0});
  put(to, 0, kSuperblockMagic);
  put(to, 8, kFormatVersion);
  put(to, 12, static_cast<std::uint32_t>(kPageBytes));
  put(to, 16, superblock.uuid);
  put(to, 32, superblock.sequence);
  put(to, 40, superblock.boot_epoch);
  put(to, 48, superblock.extent_bytes);
  put(to, 56, superblock.min_slot_bytes);
  put(to, 64, superblock.extents);
  put(to, 68, superblock.max_namespaces);
  put(to, 72, superblock.data_begin);
  put(to, 80, superblock.meta_begin);
  put(to, 88, superblock.meta_bytes);
  put(to, 96, superblock.log_pages);
  put(to, 100, superblock.checkpoint_pages);
  put(to, 104, superblock.first_tombstone);
  put(to, 112, std::uint32_t{superblock.clean ? 1U : 0U});
  seal(to);
}

Fault decode(ConstPageSpan from, Superblock& to) noexcept {
  if (all_zero(from)) return Fault::kEmpty;
  if (get<std::array<char, 8>>(from, 0) != kSuperblockMagic) return Fault::kMagic;
  // Magic, version and CRC keep their places in every version, so that damage is not taken for a newer file.
  if (!sealed(from)) return Fault::kCrc;
  const auto version = get<std::uint32_t>(from, 8);
  if (version < kOldestVersion || version > kFormatVersion) return Fault::kVersion;
  if (get<std::uint32_t>(from, 12) != kPageBytes) return Fault::kPageSize;
  if (!zeros(from, 116, kPageBytes - 4)) return Fault::kReserved;
  const auto clean = get<std::uint32_t>(from, 112);
  const auto epoch = get<std::uint64_t>(from, 40);
  if (clean > 1 || epoch >= kEpochEnd) return Fault::kRange;
  to = {.uuid = get<std::array<std::byte, 16>>(from, 16),
        .sequence = get<std::uint64_t>(from, 32),
        .boot_epoch = epoch,
        .extent_bytes = get<std::uint64_t>(from, 48),
        .min_slot_bytes = get<std::uint64_t>(from, 56),
        .extents = get<std::uint32_t>(from, 64),
        .max_namespaces = get<std::uint32_t>(from, 68),
        .data_begin = get<std::uint64_t>(from, 72),
        .meta_begin = get<std::uint64_t>(from, 80),
        .meta_bytes = get<std::uint64_t>(from, 88),
        .log_pages = get<std::uint32_t>(from, 96),
        .checkpoint_pages = get<std::uint32_t>(from, 100),
        .first_tombstone = get<std::uint64_t>(from, 104),
        .clean = clean == 1};
  return Fault::kNone;
}

void encode(const ExtentHead& head, std::span<std::byte, kExtentHeadBytes> to) noexcept {
  std::ranges::fill(to, std::byte{0});
  put(to, 0, head.slot_bytes);
  put(to, 8, head.generation);
  seal(to);
}

Fault decode(std::span<const std::byte, kExtentHeadBytes> from, ExtentHead& to) noexcept {
  if (all_zero(from)) return Fault::kEmpty;
  if (!sealed(from)) return Fault::kCrc;
  if (!zeros(from, 12, kExtentHeadBytes - 4)) return Fault::kReserved;
  to = {.slot_bytes = get<std::uint64_t>(from, 0), .generation = get<std::uint32_t>(from, 8)};
  return Fault::kNone;
}

void encode(const NamespaceEntry& entry, std::span<std::byte, kNamespaceBytes> to) noexcept {
  std::ranges::fill(to, std::byte{0});
  put(to, 0, entry.id);
  put(to, 4, kNamespaceUsed);
  put(to, 8, entry.fingerprint.bytes);
  put(to, 40, entry.owner.bytes);
  seal(to);
}

Fault decode(std::span<const std::byte, kNamespaceBytes> from, NamespaceEntry& to) noexcept {
  if (all_zero(from)) return Fault::kEmpty;
  if (!sealed(from)) return Fault::kCrc;
  if (get<std::uint32_t>(from, 4) != kNamespaceUsed) return Fault::kRange;
  if (!zeros(from, 56, kNamespaceBytes - 4)) return Fault::kReserved;
  to.id = get<std::uint32_t>(from, 0);
  to.fingerprint.bytes = get<std::array<std::byte, 32>>(from, 8);
  to.owner.bytes = get<std::array<std::byte, 16>>(from, 40);
  return Fault::kNone;
}

void encode(const TombstoneRecord& record, std::span<std::byte, kTombstoneBytes> to) noexcept {
  std::ranges::fill(to, std::byte{0});
  put(to, 0, kTombstoneMagic);
  put(to, 4, record.tombstone.kind);
  put(to, 5, record.tombstone.group);
  put(to, 8, record.sequence);
  if (record.tombstone.kind == Tombstone::Kind::kTenant) {
    put(to, 16, record.tombstone.tenant.bytes);
  } else {
    put(to, 16, record.tombstone.fingerprint.bytes);
  }
  put(to, 48, record.tombstone.hash.bytes);
  put(to, 80, record.tombstone.generation);
  seal(to);
}

Fault decode(std::span<const std::byte, kTombstoneBytes> from, TombstoneRecord& to) noexcept {
  if (all_zero(from)) return Fault::kEmpty;
  if (get<std::array<char, 4>>(from, 0) != kTombstoneMagic) return Fault::kMagic;
  if (!sealed(from)) return Fault::kCrc;
  const auto kind = get<std::uint8_t>(from, 4);
  if (kind < 1 || kind > 3) return Fault::kRange;
  const bool of_tenant = static_cast<Tombstone::Kind>(kind) == Tombstone::Kind::kTenant;
  if (of_tenant && !zeros(from, 32, 80)) return Fault::kReserved;
  if (!zeros(from, 6, 8) || !zeros(from, 88, kTombstoneBytes - 4)) return Fault::kReserved;
  to.sequence = get<std::uint64_t>(from, 8);
  to.tombstone.kind = static_cast<Tombstone::Kind>(kind);
  to.tombstone.group = get<GroupId>(from, 5);
  to.tombstone.fingerprint = {};
  to.tombstone.tenant = {};
  if (of_tenant) {
    to.tombstone.tenant.bytes = get<std::array<std::byte, 16>>(from, 16);
  } else {
    to.tombstone.fingerprint.bytes = get<std::array<std::byte, 32>>(from, 16);
  }
  to.tombstone.hash.bytes = get<std::array<std::byte, 32>>(from, 48);
  to.tombstone.generation = get<std::uint64_t>(from, 80);
  return Fault::kNone;
}

void encode(const CheckpointPage& page, PageSpan to) noexcept {
  TIERCEL_CHECK(page.count <= kCheckpointSlotsPerPage, "more slots than a checkpoint page holds");
  std::ranges::fill(to, std::byte{0});
  put(to, 0, page.sequence);
  put(to, 8, page.index);
  put(to, 12, page.count);
  put(to, 16, page.pages);
  std::memcpy(to.data() + 20, page.slots.data(), page.count * sizeof(std::uint32_t));
  seal(to);
}

Fault decode(ConstPageSpan from, CheckpointPage& to) noexcept {
  if (all_zero(from)) return Fault::kEmpty;
  if (!sealed(from)) return Fault::kCrc;
  const auto index = get<std::uint32_t>(from, 8);
  const auto count = get<std::uint32_t>(from, 12);
  const auto pages = get<std::uint32_t>(from, 16);
  if (get<std::uint64_t>(from, 0) == 0 || count > kCheckpointSlotsPerPage || index >= pages) return Fault::kRange;
  if (!zeros(from, 20 + count * sizeof(std::uint32_t), kPageBytes - 4)) return Fault::kReserved;
  to = {.sequence = get<std::uint64_t>(from, 0), .index = index, .pages = pages, .count = count, .slots = {}};
  std::memcpy(to.slots.data(), from.data() + 20, count * sizeof(std::uint32_t));
  return Fault::kNone;
}

void encode(const Header& header, std::span<std::byte, kHeaderBytes> to) noexcept {
  std::ranges::fill(to, std::byte{0});
  put(to, 0, kHeaderMagic);
  put(to, 4, kHeaderVersion);
  put(to, 6, header.group);
  put(to, 8, header.namespace_id);
  put(to, 12, header.slot);
  put(to, 16, header.hash.bytes);
  put(to, 48, header.parent.bytes);
  put(to, 80, header.length);
  put(to, 84, header.extent_generation);
  put(to, 88, header.checksum);
  put(to, 96, header.generation);
  seal(to);
}

Fault decode(std::span<const std::byte, kHeaderBytes> from, Header& to) noexcept {
  if (get<std::array<char, 4>>(from, 0) != kHeaderMagic) return all_zero(from) ? Fault::kEmpty : Fault::kMagic;
  if (!sealed(from)) return Fault::kCrc;
  if (get<std::uint16_t>(from, 4) != kHeaderVersion) return Fault::kVersion;
  if (!zeros(from, 7, 8) || !zeros(from, 104, kHeaderBytes - 4)) return Fault::kReserved;
  to.group = get<GroupId>(from, 6);
  to.namespace_id = get<std::uint32_t>(from, 8);
  to.slot = get<std::uint32_t>(from, 12);
  to.hash.bytes = get<std::array<std::byte, 32>>(from, 16);
  to.parent.bytes = get<std::array<std::byte, 32>>(from, 48);
  to.length = get<std::uint32_t>(from, 80);
  to.extent_generation = get<std::uint32_t>(from, 84);
  to.checksum = get<std::uint64_t>(from, 88);
  to.generation = get<std::uint64_t>(from, 96);
  return Fault::kNone;
}

}  // namespace tiercel::disk
