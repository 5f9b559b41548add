// Goal: the records are the bytes that docs/formats.md says (compared with bytes that another program packed and
// sealed), come back as they were, and no single flipped bit in any of them goes unseen.
#include "tier/disk/format.h"

#include "tier/disk/testdata/golden_records.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <charconv>
#include <cstring>
#include <vector>

namespace tiercel::disk {
namespace {

using Bytes = std::vector<std::byte>;

[[nodiscard]] Bytes bytes_of(const Golden& golden) {
  Bytes bytes(golden.bytes);
  for (std::size_t i = 0; 2 * i < golden.hex.size(); ++i) {
    unsigned value = 0;
    std::from_chars(golden.hex.data() + 2 * i, golden.hex.data() + 2 * i + 2, value, 16);
    bytes[i] = static_cast<std::byte>(value);
  }
  std::memcpy(bytes.data() + golden.bytes - 4, &golden.crc, 4);
  return bytes;
}

template <std::size_t N>
[[nodiscard]] std::array<std::byte, N> counting(unsigned first) {
  std::array<std::byte, N> bytes{};
  for (std::size_t i = 0; i < N; ++i) bytes[i] = static_cast<std::byte>(first + i);
  return bytes;
}
[[nodiscard]] BlockHash hash_from(unsigned first) { return {.bytes = counting<32>(first)}; }

[[nodiscard]] Superblock golden_superblock() {
  return {.uuid = counting<16>(0x10),
          .sequence = 0x1122334455667788,
          .boot_epoch = 0xABCDEF,
          .extent_bytes = 64U << 20U,
          .min_slot_bytes = 256U << 10U,
          .extents = 3200,
          .max_namespaces = 4096,
          .data_begin = 2U << 20U,
          .meta_begin = (2ULL << 20U) + 3200 * (64ULL << 20U),
          .meta_bytes = 123 * 4096,
          .log_pages = 256,
          .checkpoint_pages = 1610,
          .first_tombstone = 0x0102030405060708,
          .clean = true};
}
[[nodiscard]] ExtentHead golden_extent_head() { return {.slot_bytes = 786432, .generation = 0xFFFFFFFE}; }
[[nodiscard]] NamespaceEntry golden_namespace() {
  return {.id = 77, .fingerprint = hash_from(0x20), .owner = {.bytes = counting<16>(0x70)}};
}
[[nodiscard]] TombstoneRecord golden_tombstone() {
  return {.sequence = 0x0A0B0C0D0E0F1011,
          .tombstone = {.kind = Tombstone::Kind::kBlock,
                        .fingerprint = hash_from(0x30),
                        .hash = hash_from(0x40),
                        .group = 5,
                        .generation = (9ULL << 40U) | 42U}};
}
[[nodiscard]] TombstoneRecord golden_tenant_tombstone() {
  return {.sequence = 0x0A0B0C0D0E0F1012,
          .tombstone = {.kind = Tombstone::Kind::kTenant,
                        .tenant = {.bytes = counting<16>(0x70)},
                        .generation = (9ULL << 40U) | 43U}};
}
[[nodiscard]] CheckpointPage golden_checkpoint() {
  CheckpointPage page{.sequence = 12, .index = 1, .pages = 2, .count = 3};
  page.slots[0] = 5;
  page.slots[1] = 819199;
  return page;
}
[[nodiscard]] Header golden_header() {
  return {.group = 3,
          .namespace_id = 77,
          .slot = 4711,
          .hash = hash_from(0x50),
          .parent = hash_from(0x60),
          .length = 2359296,
          .extent_generation = 8,
          .checksum = 0xFEDCBA9876543210,
          .generation = (11ULL << 40U) | 1000001U};
}

template <class Record, std::size_t Size>
void expect_golden(const Record& record, const Golden& golden) {
  const Bytes expected = bytes_of(golden);
  Bytes encoded(Size, std::byte{0xEE});
  encode(record, std::span<std::byte, Size>(encoded));
  EXPECT_EQ(encoded, expected);
  Record decoded{};
  EXPECT_EQ(decode(std::span<const std::byte, Size>(expected), decoded), Fault::kNone);
  EXPECT_EQ(decoded, record);
}

/// Decodes a copy with each bit flipped in turn; none may pass, and the result stays as it was.
template <class Record, std::size_t Size>
void expect_every_flip_seen(const Record& record) {
  Bytes bytes(Size);
  encode(record, std::span<std::byte, Size>(bytes));
  for (std::size_t bit = 0; bit < Size * 8; ++bit) {
    bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    Record decoded{};
    const Fault fault = decode(std::span<const std::byte, Size>(bytes), decoded);
    ASSERT_TRUE(fault == Fault::kCrc || fault == Fault::kMagic) << "bit " << bit << ": " << fault_name(fault);
    ASSERT_EQ(decoded, Record{});
    bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
  }
}

TEST(FormatTest, CrcIsTheOneOfTheCatalogues) {
  const char digits[] = "123456789";
  EXPECT_EQ(crc32c(std::as_bytes(std::span(digits, 9))), 0xE3069283U);
}

TEST(FormatTest, AllZeroLooksAtEveryByte) {
  Bytes bytes(130);
  EXPECT_TRUE(all_zero(bytes));
  EXPECT_TRUE(all_zero({}));
  for (std::byte& byte : bytes) {
    byte = std::byte{1};
    EXPECT_FALSE(all_zero(bytes));
    byte = std::byte{0};
  }
}

TEST(FormatTest, TheVersionBeforeIsRead) {
  const Bytes page = bytes_of(kGoldenSuperblock1);
  Superblock superblock{};
  EXPECT_EQ(decode(ConstPageSpan(page), superblock), Fault::kNone);
  EXPECT_EQ(superblock, golden_superblock());
  const Bytes entry = bytes_of(kGoldenNamespace1);
  NamespaceEntry decoded{};
  EXPECT_EQ(decode(std::span<const std::byte, kNamespaceBytes>(entry), decoded), Fault::kNone);
  EXPECT_EQ(decoded, (NamespaceEntry{.id = 77, .fingerprint = hash_from(0x20)}));
}

TEST(FormatTest, GoldenBytes) {
  expect_golden<Superblock, kPageBytes>(golden_superblock(), kGoldenSuperblock);
  expect_golden<ExtentHead, kExtentHeadBytes>(golden_extent_head(), kGoldenExtentHead);
  expect_golden<NamespaceEntry, kNamespaceBytes>(golden_namespace(), kGoldenNamespace);
  expect_golden<TombstoneRecord, kTombstoneBytes>(golden_tombstone(), kGoldenTombstone);
  expect_golden<TombstoneRecord, kTombstoneBytes>(golden_tenant_tombstone(), kGoldenTenantTombstone);
  expect_golden<CheckpointPage, kPageBytes>(golden_checkpoint(), kGoldenCheckpoint);
  expect_golden<Header, kHeaderBytes>(golden_header(), kGoldenHeader);
}

TEST(FormatTest, EveryFlippedBitIsSeen) {
  expect_every_flip_seen<Superblock, kPageBytes>(golden_superblock());
  expect_every_flip_seen<ExtentHead, kExtentHeadBytes>(golden_extent_head());
  expect_every_flip_seen<NamespaceEntry, kNamespaceBytes>(golden_namespace());
  expect_every_flip_seen<TombstoneRecord, kTombstoneBytes>(golden_tombstone());
  expect_every_flip_seen<TombstoneRecord, kTombstoneBytes>(golden_tenant_tombstone());
  expect_every_flip_seen<CheckpointPage, kPageBytes>(golden_checkpoint());
  expect_every_flip_seen<Header, kHeaderBytes>(golden_header());
}

TEST(FormatTest, AFlippedBitOfNothingIsSeen) {
  Bytes page(kPageBytes);
  Superblock superblock;
  Header header;
  TombstoneRecord tombstone;
  NamespaceEntry entry;
  CheckpointPage checkpoint;
  ExtentHead head;
  for (std::size_t bit = 0; bit <= kPageBytes * 8; ++bit) {
    // The last round looks at zeros alone.
    const bool flipped = bit < kPageBytes * 8;
    if (flipped) page[bit / 8] = static_cast<std::byte>(1U << (bit % 8));
    const auto expect = [&](Fault fault, std::size_t size) {
      const bool empty = !flipped || bit / 8 >= size;
      ASSERT_EQ(fault == Fault::kEmpty, empty) << bit << " " << size;
      ASSERT_NE(fault, Fault::kNone) << bit << " " << size;
    };
    expect(decode(ConstPageSpan(page), superblock), kPageBytes);
    expect(decode(ConstPageSpan(page), checkpoint), kPageBytes);
    expect(decode(std::span(page).first<kExtentHeadBytes>(), head), kExtentHeadBytes);
    expect(decode(std::span(page).first<kHeaderBytes>(), header), kHeaderBytes);
    expect(decode(std::span(page).first<kTombstoneBytes>(), tombstone), kTombstoneBytes);
    expect(decode(std::span(page).first<kNamespaceBytes>(), entry), kNamespaceBytes);
    if (flipped) page[bit / 8] = std::byte{0};
  }
}

/// The record with one field overwritten and the CRC made right again.
template <class T>
[[nodiscard]] Bytes resealed(const Golden& golden, std::size_t offset, T value) {
  Bytes bytes = bytes_of(golden);
  std::memcpy(bytes.data() + offset, &value, sizeof value);
  const std::uint32_t crc = crc32c(std::span(bytes).first(bytes.size() - 4));
  std::memcpy(bytes.data() + bytes.size() - 4, &crc, 4);
  return bytes;
}

TEST(FormatTest, SealedNonsenseIsNamed) {
  const auto superblock = [](const Bytes& bytes) {
    Superblock decoded;
    return decode(ConstPageSpan(bytes), decoded);
  };
  EXPECT_EQ(superblock(resealed(kGoldenSuperblock, 8, 3U)), Fault::kVersion);
  EXPECT_EQ(superblock(resealed(kGoldenSuperblock, 8, 0U)), Fault::kVersion);
  EXPECT_EQ(superblock(resealed(kGoldenSuperblock, 12, 16384U)), Fault::kPageSize);
  EXPECT_EQ(superblock(resealed(kGoldenSuperblock, 112, 2U)), Fault::kRange);
  EXPECT_EQ(superblock(resealed(kGoldenSuperblock, 40, kEpochEnd)), Fault::kRange);
  EXPECT_EQ(superblock(resealed(kGoldenSuperblock, 116, 1U)), Fault::kReserved);
  ExtentHead head;
  const Bytes reserved = resealed(kGoldenExtentHead, 12, 1U);
  EXPECT_EQ(decode(std::span<const std::byte, kExtentHeadBytes>(reserved), head), Fault::kReserved);
  const auto header = [](const Bytes& bytes) {
    Header decoded;
    return decode(std::span<const std::byte, kHeaderBytes>(bytes), decoded);
  };
  EXPECT_EQ(header(resealed(kGoldenHeader, 4, std::uint16_t{2})), Fault::kVersion);
  EXPECT_EQ(header(resealed(kGoldenHeader, 7, std::uint8_t{1})), Fault::kReserved);
  EXPECT_EQ(header(resealed(kGoldenHeader, 104, 1U)), Fault::kReserved);
  const auto tombstone = [](const Bytes& bytes) {
    TombstoneRecord decoded;
    return decode(std::span<const std::byte, kTombstoneBytes>(bytes), decoded);
  };
  EXPECT_EQ(tombstone(resealed(kGoldenTombstone, 4, std::uint8_t{4})), Fault::kRange);
  EXPECT_EQ(tombstone(resealed(kGoldenTombstone, 4, std::uint8_t{3})), Fault::kReserved);
  EXPECT_EQ(tombstone(resealed(kGoldenTenantTombstone, 40, std::uint8_t{1})), Fault::kReserved);
  EXPECT_EQ(tombstone(resealed(kGoldenTenantTombstone, 60, std::uint8_t{1})), Fault::kReserved);
  EXPECT_EQ(tombstone(resealed(kGoldenTombstone, 4, std::uint8_t{0})), Fault::kRange);
  EXPECT_EQ(tombstone(resealed(kGoldenTombstone, 6, std::uint8_t{1})), Fault::kReserved);
  const auto checkpoint = [](const Bytes& bytes) {
    CheckpointPage decoded;
    return decode(ConstPageSpan(bytes), decoded);
  };
  EXPECT_EQ(checkpoint(resealed(kGoldenCheckpoint, 12, 1019U)), Fault::kRange);
  EXPECT_EQ(checkpoint(resealed(kGoldenCheckpoint, 12, 0xFFFFFFFFU)), Fault::kRange);
  EXPECT_EQ(checkpoint(resealed(kGoldenCheckpoint, 12, 1U)), Fault::kReserved);
  EXPECT_EQ(checkpoint(resealed(kGoldenCheckpoint, 8, 2U)), Fault::kRange);
  EXPECT_EQ(checkpoint(resealed(kGoldenCheckpoint, 0, std::uint64_t{0})), Fault::kRange);
}

RC_GTEST_PROP(FormatProperty, HeadersComeBack, ()) {
  const auto words = *rc::gen::container<std::vector<std::uint64_t>>(5, rc::gen::arbitrary<std::uint64_t>());
  const Header header{.group = static_cast<GroupId>(words[0]),
                      .namespace_id = static_cast<std::uint32_t>(words[0] >> 8U),
                      .slot = static_cast<std::uint32_t>(words[1]),
                      .hash = hash_from(static_cast<unsigned>(words[2])),
                      .parent = hash_from(static_cast<unsigned>(words[2] >> 32U)),
                      .length = static_cast<std::uint32_t>(words[1] >> 32U),
                      .extent_generation = static_cast<std::uint32_t>(words[0] >> 32U),
                      .checksum = words[3],
                      .generation = words[4]};
  std::array<std::byte, kHeaderBytes> bytes{};
  encode(header, bytes);
  Header decoded;
  RC_ASSERT(decode(std::span<const std::byte, kHeaderBytes>(bytes), decoded) == Fault::kNone);
  RC_ASSERT(decoded == header);
}

}  // namespace
}  // namespace tiercel::disk
