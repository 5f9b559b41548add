// Arena: the bytes of the host tier (G2), one mapping cut into extents by a SlotTable that lives beside it.
//
// Owns the mapping. Spread evenly over the NUMA nodes by range, so that a rank finds slots near its GPU. Pages are
// provided in the background by base/prefault.h: slots can be used meanwhile, an untouched page is provided at its
// first use. Reading the members is safe from any thread.
#pragma once

#include "base/mapping.h"

#include <tiercel/config.h>
#include <tiercel/result.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace tiercel {

class Arena {
 public:
  /// `host.capacity` must be set (the caller has resolved 0) and a multiple of host.extent_bytes.
  [[nodiscard]] static Result<std::shared_ptr<Arena>> create(const HostConfig& host);

  /// The same place without memory, until fill() or adopt(); both are one thread's, once, before anybody touches it.
  [[nodiscard]] static Result<std::shared_ptr<Arena>> reserve(const HostConfig& host);
  /// Memory of its own, as create() makes it.
  Status fill(const HostConfig& host);
  /// The memfd of an arena that others still map, of the same size, sealed; takes over the descriptor. An error leaves
  /// the arena as it was.
  Status adopt(int fd, const HostConfig& host);

  explicit Arena(std::shared_ptr<Mapping> mapping) : own_(std::move(mapping)), mapping_(own_) {}

  [[nodiscard]] std::byte* data() const noexcept { return mapping_->data(); }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return mapping_->bytes(); }
  [[nodiscard]] const Mapping& mapping() const noexcept { return *mapping_; }
  /// For base/prefault.h.
  [[nodiscard]] const std::shared_ptr<const Mapping>& shared_mapping() const noexcept { return mapping_; }

 private:
  const std::shared_ptr<Mapping> own_;
  const std::shared_ptr<const Mapping> mapping_;
};

}  // namespace tiercel
