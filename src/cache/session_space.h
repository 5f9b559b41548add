// The namespaces of a session, and whether one belongs to it: the same for every implementation of Session. Pure.
#pragma once

#include <tiercel/session.h>

#include <string_view>

namespace tiercel::detail {

/// The fingerprint of the default tenant's namespace.
[[nodiscard]] BlockHash family_of(const SessionOptions& options);
[[nodiscard]] Space space_of(const SessionOptions& options, const BlockHash& family, std::string_view tenant);
/// kInvalidArgument: a namespace of another model or layout.
[[nodiscard]] Status check_family(const Space& space, const BlockHash& family);
/// kInvalidArgument: a delete from a block on that the chain does not have.
[[nodiscard]] Status check_dropped(std::size_t first, std::size_t chain_blocks);
[[nodiscard]] tl::unexpected<Error> session_closed();

}  // namespace tiercel::detail
