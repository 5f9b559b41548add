// Address: where a server listens, "127.0.0.1:9800" or "[::1]:9800".
//
// An address literal or "localhost", never a name that a resolver would have to answer for: what is reachable from
// outside is decided by what is written here. Values; pure functions.
#pragma once

#include <tiercel/result.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace tiercel::config {

struct Address {
  std::string host;  ///< without the brackets of IPv6; "localhost" is 127.0.0.1
  std::uint16_t port = 0;
  friend bool operator==(const Address&, const Address&) = default;
};

/// kInvalidArgument: a sentence about the text, without a key.
[[nodiscard]] Result<Address> parse_address(std::string_view text);

/// "127.0.0.1:9800", "[::1]:9800"
[[nodiscard]] std::string format_address(const Address& address);

/// Is this text an IPv4 or IPv6 address (without brackets)?
[[nodiscard]] bool is_ip_literal(const std::string& text);

/// Can only this machine reach it?
[[nodiscard]] bool is_loopback(const Address& address);

}  // namespace tiercel::config
