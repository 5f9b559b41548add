#include "config/address.h"

#include "config/setting_value.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <array>
#include <charconv>

namespace tiercel::config {
namespace {

constexpr std::string_view kExamples = "valid are \"127.0.0.1:9800\", \"[::1]:9800\" and \"0.0.0.0:9800\"";

bool is_family(int family, const std::string& text) {
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  return ::inet_pton(family, text.c_str(), bytes.data()) == 1;
}

}  // namespace

bool is_ip_literal(const std::string& text) { return is_family(AF_INET, text) || is_family(AF_INET6, text); }

Result<Address> parse_address(std::string_view text) {
  const auto refuse = [&](std::string_view why) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("\"{}\" {}; {}", shown(text), why, kExamples));
  };
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return refuse("has no port");
  std::string_view host = text.substr(0, colon);
  const std::string_view digits = text.substr(colon + 1);
  Address address;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), address.port);
  if (digits.empty() || error != std::errc{} || end != digits.data() + digits.size()) {
    return refuse("has no port from 0 to 65535");
  }
  const bool brackets = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (brackets) host = host.substr(1, host.size() - 2);
  address.host = host == "localhost" ? "127.0.0.1" : std::string(host);
  if (!is_family(brackets ? AF_INET6 : AF_INET, address.host)) return refuse("does not begin with an address");
  return address;
}

std::string format_address(const Address& address) {
  if (address.host.find(':') == std::string::npos) return fmt::format("{}:{}", address.host, address.port);
  return fmt::format("[{}]:{}", address.host, address.port);
}

bool is_loopback(const Address& address) { return address.host == "::1" || address.host.starts_with("127."); }

}  // namespace tiercel::config
