#!/usr/bin/env python3
"""Makes golden_records.h: the records of docs/formats.md, "Disk file", packed by Python's struct and sealed by a CRC32C
of its own (bit by bit, polynomial 0x82F63B78 reflected), so that the C++ codec is compared with something that shares
no code with it. Run by hand when the format changes:  golden_records.py > golden_records.h
"""

import struct


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283  # the check value that the catalogues of CRCs give


def sealed(body, size):
    body = body.ljust(size - 4, b"\0")
    assert len(body) == size - 4
    return body + struct.pack("<I", crc32c(body))


def run(first, count=32):
    return bytes((first + i) % 256 for i in range(count))


def superblock(version):
    return sealed(
        b"TIERCEL\0" + struct.pack("<II", version, 4096) + run(0x10, 16)
        + struct.pack("<QQQQII", 0x1122334455667788, 0xABCDEF, 64 << 20, 256 << 10, 3200, 4096)
        + struct.pack("<QQQ", 2 << 20, (2 << 20) + 3200 * (64 << 20), 123 * 4096)
        + struct.pack("<IIQI", 256, 1610, 0x0102030405060708, 1), 4096)


head = sealed(struct.pack("<QI", 786432, 0xFFFFFFFE), 32)
namespace = sealed(struct.pack("<II", 77, 1) + run(0x20) + run(0x70, 16), 64)
namespace_1 = sealed(struct.pack("<II", 77, 1) + run(0x20), 64)  # of version 1: no tenant
tombstone = sealed(b"TOMB" + struct.pack("<BBHQ", 1, 5, 0, 0x0A0B0C0D0E0F1011) + run(0x30) + run(0x40)
                   + struct.pack("<Q", 9 << 40 | 42), 128)
tenant_tombstone = sealed(b"TOMB" + struct.pack("<BBHQ", 3, 0, 0, 0x0A0B0C0D0E0F1012) + run(0x70, 16) + bytes(48)
                          + struct.pack("<Q", 9 << 40 | 43), 128)
checkpoint = sealed(struct.pack("<QIII", 12, 1, 3, 2) + struct.pack("<III", 5, 819199, 0), 4096)
header = sealed(b"TKVH" + struct.pack("<HBBII", 1, 3, 0, 77, 4711) + run(0x50) + run(0x60)
                + struct.pack("<IIQQ", 2359296, 8, 0xFEDCBA9876543210, 11 << 40 | 1000001), 128)


def literal(name, data):
    """Zeros at the end, before the CRC, are left out: the test puts them back."""
    body = data[:-4].rstrip(b"\0")
    text = (body.ljust((len(body) + 31) // 32 * 32, b"\0") if len(body) <= len(data) - 36 else data[:-4]).hex()
    print(f"inline constexpr Golden {name} = {{{len(data)}, 0x{struct.unpack('<I', data[-4:])[0]:08x}U,")
    lines = [text[i:i + 96] for i in range(0, len(text), 96)]
    print("\n".join(f'    "{line}"' for line in lines) + "};\n")


print("""// Made by golden_records.py; not to be edited. Bytes in hexadecimal, then zeros up to the CRC.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tiercel::disk {

struct Golden {
  std::size_t bytes;
  std::uint32_t crc;
  std::string_view hex;
};

// clang-format off""")
for name, data in [("kGoldenSuperblock", superblock(2)), ("kGoldenSuperblock1", superblock(1)),
                   ("kGoldenExtentHead", head), ("kGoldenNamespace", namespace), ("kGoldenNamespace1", namespace_1),
                   ("kGoldenTombstone", tombstone), ("kGoldenTenantTombstone", tenant_tombstone), ("kGoldenCheckpoint", checkpoint), ("kGoldenHeader", header)]:
    literal(name, data)
print("""// clang-format on

}  // namespace tiercel::disk""")
