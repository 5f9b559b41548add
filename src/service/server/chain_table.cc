#include "service/server/chain_table.h"

#include <fmt/format.h>

#include <cstring>

namespace tiercel::service {

Result<std::span<const BlockHash>> ChainTable::resolve(const wire::Chain& chain) {
  constexpr std::size_t kHash = sizeof(BlockHash);
  const std::size_t in_message = chain.hashes() == nullptr ? 0 : chain.hashes()->size();
  const std::size_t in_ring = chain.ring_count();
  const std::size_t total = chain.known() + in_message + in_ring;
  if (chain.handle() >= limits_.handles || total > limits_.max_chain) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("chain: {} hashes under handle {}; at most {}, and {} handles",
                                                         total, chain.handle(), limits_.max_chain, limits_.handles));
  }
  if (in_message > 0 && in_ring > 0) return fail(ErrorCode::kInvalidArgument, "chain: hashes in two places");
  if ((std::size_t{chain.ring_first()} + in_ring) * kHash > ring_.size()) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("chain: {} hashes from {} on lie beyond the ring of {} bytes",
                                                         in_ring, chain.ring_first(), ring_.size()));
  }
  if (lists_.size() <= chain.handle()) lists_.resize(std::size_t{chain.handle()} + 1);
  std::vector<BlockHash>& list = lists_[chain.handle()];
  if (chain.known() > list.size()) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("chain: {} hashes known under handle {}, which has {}",
                                                         chain.known(), chain.handle(), list.size()));
  }
  if (kept_ - list.size() + total > limits_.kept_hashes) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("chain: more than {} hashes kept", limits_.kept_hashes));
  }
  kept_ -= list.size();
  list.resize(total);
  if (list.capacity() > 2 * total) list.shrink_to_fit();  // what a list once was is no memory that is kept
  kept_ += total;
  if (in_message > 0) std::memcpy(list.data() + chain.known(), chain.hashes()->Data(), in_message * kHash);
  if (in_ring > 0) {
    std::memcpy(list.data() + chain.known(), ring_.data() + std::size_t{chain.ring_first()} * kHash, in_ring * kHash);
  }
  return std::span<const BlockHash>(list);
}

}  // namespace tiercel::service
