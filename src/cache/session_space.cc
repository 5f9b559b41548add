#include "cache/session_space.h"

#include "model/namespace.h"

#include <fmt/format.h>

namespace tiercel::detail {

BlockHash family_of(const SessionOptions& options) {
  return fingerprint(
      {.tenant = {}, .model = options.model, .block_tokens = options.block_tokens, .layout = options.layout});
}

Space space_of(const SessionOptions& options, const BlockHash& family, std::string_view tenant) {
  const std::string_view name = tenant.empty() ? kDefaultTenant : tenant;
  const BlockHash print = fingerprint(
      {.tenant = name, .model = options.model, .block_tokens = options.block_tokens, .layout = options.layout});
  return {print, options.block_tokens, std::string(name), family};
}

Status check_family(const Space& space, const BlockHash& family) {
  if (space.family() == family) return {};
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("the namespace {} of tenant \"{}\" belongs to another model or layout than this session",
                          to_hex(space.fingerprint()).substr(0, 12), space.tenant()));
}

Status check_dropped(std::size_t first, std::size_t chain_blocks) {
  if (first < chain_blocks) return {};
  return fail(ErrorCode::kInvalidArgument, fmt::format("drop: block {} of a chain of {} blocks", first, chain_blocks));
}

tl::unexpected<Error> session_closed() { return fail(ErrorCode::kClosed, "the session is closed"); }

}  // namespace tiercel::detail
