// TombstoneIndex: which names are buried, and up to which generation. Filled from the log when a file is opened. One
// thread at a time.
#pragma once

#include "tier/disk/disk_block.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <map>
#include <unordered_map>
#include <vector>

namespace tiercel::disk {

/// Names are hashes already: their first bytes do.
struct NameHasher {
  [[nodiscard]] std::size_t operator()(const BlockHash& hash) const noexcept {
    std::size_t value = 0;
    std::memcpy(&value, hash.bytes.data(), sizeof value);
    return value;
  }
};

class TombstoneIndex {
 public:
  void add(const Tombstone& tombstone) {
    auto& covered = tombstone.kind == Tombstone::Kind::kTenant ? tenants_[tombstone.tenant]
                    : tombstone.kind == Tombstone::Kind::kNamespace
                        ? namespaces_[tombstone.fingerprint]
                        : blocks_[{tombstone.fingerprint, tombstone.hash, tombstone.group}];
    covered = std::max(covered, tombstone.generation);
    ++records_;
  }
  [[nodiscard]] bool covers(const DiskBlock& block) const {
    if (records_ == 0) return false;
    const auto space = namespaces_.find(block.fingerprint);
    if (space != namespaces_.end() && block.generation <= space->second) return true;
    const auto tenant = block.owner.known() ? tenants_.find(block.owner) : tenants_.end();
    if (tenant != tenants_.end() && block.generation <= tenant->second) return true;
    const auto name = blocks_.find({block.fingerprint, block.hash, block.group});
    return name != blocks_.end() && block.generation <= name->second;
  }
  /// One for each name, in no order.
  [[nodiscard]] std::vector<Tombstone> names() const {
    std::vector<Tombstone> all;
    all.reserve(tenants_.size() + namespaces_.size() + blocks_.size());
    for (const auto& [tenant, generation] : tenants_) {
      all.push_back({.kind = Tombstone::Kind::kTenant, .tenant = tenant, .generation = generation});
    }
    for (const auto& [fingerprint, generation] : namespaces_) {
      all.push_back({.kind = Tombstone::Kind::kNamespace, .fingerprint = fingerprint, .generation = generation});
    }
    for (const auto& [name, generation] : blocks_) {
      all.push_back({.kind = Tombstone::Kind::kBlock,
                     .fingerprint = name.fingerprint,
                     .hash = name.hash,
                     .group = name.group,
                     .generation = generation});
    }
    return all;
  }
  [[nodiscard]] std::size_t records() const noexcept { return records_; }

 private:
  struct Name {
    BlockHash fingerprint;
    BlockHash hash;
    GroupId group = 0;
    friend bool operator==(const Name&, const Name&) = default;
  };
  struct Hasher {
    [[nodiscard]] std::size_t operator()(const Name& name) const noexcept {
      return NameHasher{}(name.hash) ^ name.group;
    }
  };
  std::map<TenantId, std::uint64_t> tenants_;
  std::unordered_map<BlockHash, std::uint64_t, NameHasher> namespaces_;
  std::unordered_map<Name, std::uint64_t, Hasher> blocks_;
  std::size_t records_ = 0;
};

}  // namespace tiercel::disk
