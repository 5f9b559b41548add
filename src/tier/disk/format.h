// The byte formats of the disk file (docs/formats.md, "Disk file"): one encode and one decode for each record.
//
// Pure functions over bytes, safe from any thread. Integers are little-endian. Everything that is written alone ends in
// a CRC32C over its bytes before it. A decode answers Fault::kNone and fills its result, or says what is wrong and
// leaves the result alone; kEmpty is a record or page of zeros, as a fresh file has them. What a record says about its
// surroundings (does this header belong here?) is checked by the caller: layout.h, metadata.h.
#pragma once

#include "tier/disk/disk_block.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tiercel::disk {

inline constexpr std::uint64_t kPageBytes = 4096;
inline constexpr std::uint32_t kFormatVersion = 2;  ///< that is written
inline constexpr std::uint32_t kOldestVersion = 1;  ///< that is read: without tenants
inline constexpr std::uint64_t kHeaderBytes = 128;
inline constexpr std::uint32_t kHeadersPerPage = 32;
inline constexpr std::uint64_t kExtentHeadBytes = 32;
inline constexpr std::uint32_t kExtentHeadsPerPage = 128;
inline constexpr std::uint64_t kNamespaceBytes = 64;
inline constexpr std::uint32_t kNamespacesPerPage = 64;
inline constexpr std::uint64_t kTombstoneBytes = 128;
inline constexpr std::uint32_t kTombstonesPerPage = 32;
inline constexpr std::uint32_t kCheckpointSlotsPerPage = 1018;
/// A generation is (boot epoch << kEpochShift) + counter; an epoch is below kEpochEnd.
inline constexpr std::uint32_t kEpochShift = 40;
inline constexpr std::uint64_t kEpochEnd = 1U << 24U;
/// The directories of one cache share the highest of their epochs, so a header may be ahead of its own file by as many
/// boots as another directory has seen more; by this many it is not.
inline constexpr std::uint64_t kEpochsAhead = 1U << 16U;

using PageSpan = std::span<std::byte, kPageBytes>;
using ConstPageSpan = std::span<const std::byte, kPageBytes>;

/// What is wrong with a record.
enum class Fault : std::uint8_t {
  kNone = 0,
  kEmpty,       ///< all zeros: nothing there
  kMagic,       ///< another kind of record
  kCrc,         ///< the bytes do not agree with their CRC
  kVersion,     ///< intact, of a version that this program does not read
  kPageSize,    ///< intact, with pages of another size
  kReserved,    ///< intact, but bytes that must be zero are not
  kRange,       ///< intact, but a field is out of its range
  kPlace,       ///< intact, but it belongs to another place
  kStale,       ///< of an earlier cut of its extent
  kLength,      ///< longer than its slot, or nothing
  kNamespace,   ///< names a namespace that the table does not have
  kGeneration,  ///< of a boot that has not been yet
};
inline constexpr std::size_t kFaults = 13;

/// "crc", "stale", ...: for counters and reports.
[[nodiscard]] const char* fault_name(Fault fault) noexcept;

[[nodiscard]] std::uint32_t crc32c(std::span<const std::byte> bytes) noexcept;
[[nodiscard]] bool all_zero(std::span<const std::byte> bytes) noexcept;

/// Two copies, at 0 and 4096; the valid one with the higher sequence counts.
struct Superblock {
  std::array<std::byte, 16> uuid{};
  std::uint64_t sequence = 0;
  std::uint64_t boot_epoch = 0;
  std::uint64_t extent_bytes = 0;
  std::uint64_t min_slot_bytes = 0;
  std::uint32_t extents = 0;
  std::uint32_t max_namespaces = 0;
  std::uint64_t data_begin = 0;
  std::uint64_t meta_begin = 0;
  std::uint64_t meta_bytes = 0;
  std::uint32_t log_pages = 0;
  std::uint32_t checkpoint_pages = 0;
  std::uint64_t first_tombstone = 1;  ///< records with a lower sequence do not count
  bool clean = false;                 ///< closed in order
  friend bool operator==(const Superblock&, const Superblock&) = default;
};
void encode(const Superblock& superblock, PageSpan to) noexcept;
/// Sizes are not checked against each other: Layout::of does.
[[nodiscard]] Fault decode(ConstPageSpan from, Superblock& to) noexcept;

struct ExtentHead {
  std::uint64_t slot_bytes = 0;  ///< 0: free
  std::uint32_t generation = 0;  ///< rises each time the extent is cut to another size
  friend bool operator==(const ExtentHead&, const ExtentHead&) = default;
};
void encode(const ExtentHead& head, std::span<std::byte, kExtentHeadBytes> to) noexcept;
/// kEmpty: free, and never cut.
[[nodiscard]] Fault decode(std::span<const std::byte, kExtentHeadBytes> from, ExtentHead& to) noexcept;

struct NamespaceEntry {
  std::uint32_t id = 0;  ///< its place in the table, from 1
  BlockHash fingerprint{};
  TenantId owner{};  ///< zeros: not known, as in version 1
  friend bool operator==(const NamespaceEntry&, const NamespaceEntry&) = default;
};
void encode(const NamespaceEntry& entry, std::span<std::byte, kNamespaceBytes> to) noexcept;
[[nodiscard]] Fault decode(std::span<const std::byte, kNamespaceBytes> from, NamespaceEntry& to) noexcept;

struct TombstoneRecord {
  std::uint64_t sequence = 0;
  Tombstone tombstone{};
  friend bool operator==(const TombstoneRecord&, const TombstoneRecord&) = default;
};
void encode(const TombstoneRecord& record, std::span<std::byte, kTombstoneBytes> to) noexcept;
[[nodiscard]] Fault decode(std::span<const std::byte, kTombstoneBytes> from, TombstoneRecord& to) noexcept;

struct CheckpointPage {
  std::uint64_t sequence = 0;                                  ///< of the checkpoint: the same on all its pages, from 1
  std::uint32_t index = 0;                                     ///< of the page in its checkpoint
  std::uint32_t pages = 0;                                     ///< of the checkpoint
  std::uint32_t count = 0;                                     ///< of `slots` that mean something
  std::array<std::uint32_t, kCheckpointSlotsPerPage> slots{};  ///< coldest first
  friend bool operator==(const CheckpointPage&, const CheckpointPage&) = default;
};
void encode(const CheckpointPage& page, PageSpan to) noexcept;
[[nodiscard]] Fault decode(ConstPageSpan from, CheckpointPage& to) noexcept;

struct Header {
  GroupId group = 0;
  std::uint32_t namespace_id = 0;
  std::uint32_t slot = 0;
  BlockHash hash{};
  BlockHash parent{};
  std::uint32_t length = 0;
  std::uint32_t extent_generation = 0;
  std::uint64_t checksum = 0;
  std::uint64_t generation = 0;
  friend bool operator==(const Header&, const Header&) = default;
};
void encode(const Header& header, std::span<std::byte, kHeaderBytes> to) noexcept;
[[nodiscard]] Fault decode(std::span<const std::byte, kHeaderBytes> from, Header& to) noexcept;

}  // namespace tiercel::disk
