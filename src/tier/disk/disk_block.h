// What the disk tier and the cache tell each other about blocks.
#pragma once

#include "model/match_rule.h"
#include "model/tenant_id.h"

#include <tiercel/block.h>

#include <cstdint>

namespace tiercel {

/// What a header says: one block in one slot of one file. Slot ids as in memory/slot_table.h: extent times the most
/// slots of an extent, plus position.
struct DiskBlock {
  BlockHash fingerprint;  ///< of the namespace
  TenantId owner{};       ///< its tenant; zeros: not known
  BlockHash hash;
  BlockHash parent;  ///< the hash of the block before; of a first block, the fingerprint
  GroupId group = 0;
  std::uint32_t slot = UINT32_MAX;
  std::uint64_t slot_bytes = 0;  ///< of its extent
  std::uint32_t length = 0;      ///< bytes of the block
  std::uint64_t checksum = 0;    ///< model/block_checksum.h
  std::uint64_t generation = 0;  ///< (boot epoch << 40) + counter
  friend bool operator==(const DiskBlock&, const DiskBlock&) = default;
};

/// Covers what was stored under a name up to a generation: a block and everything that continues it, a whole namespace,
/// or all namespaces of a tenant. What continues a block is known to whoever indexes (src/cache), which is given the
/// log's tombstones.
struct Tombstone {
  enum class Kind : std::uint8_t { kBlock = 1, kNamespace = 2, kTenant = 3 };
  Kind kind = Kind::kBlock;
  BlockHash fingerprint{};  ///< zeros for a tenant
  BlockHash hash{};         ///< of the block; else zeros
  TenantId tenant{};        ///< of a tenant; else zeros
  GroupId group = 0;
  std::uint64_t generation = 0;  ///< the highest that is covered
  friend bool operator==(const Tombstone&, const Tombstone&) = default;
};

}  // namespace tiercel
