#include "service/http/guard.h"

#include "config/address.h"
#include "config/setting_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <utility>

namespace tiercel::service {
namespace {

/// "Example.org:9800" -> "example.org", "[::1]:80" -> "::1"
std::string name_of(std::string_view host) {
  if (host.starts_with('[')) {
    host.remove_prefix(1);
    host = host.substr(0, host.find(']'));
  } else {
    host = host.substr(0, host.find(':'));
  }
  if (host.ends_with('.')) host.remove_suffix(1);
  std::string name(host);
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name;
}

/// "http://example.org:80" -> "example.org:80"; "" for "null" and what is none.
std::string_view host_of(std::string_view origin) {
  const std::size_t scheme = origin.find("://");
  return scheme == std::string_view::npos ? std::string_view{} : origin.substr(scheme + 3);
}

}  // namespace

Guard::Guard(std::vector<std::string> names) : names_(std::move(names)) {
  any_ = std::ranges::find(names_, "*") != names_.end();
  for (std::string& name : names_) name = name_of(name);
}

bool Guard::allows(std::string_view host) const {
  const std::string name = name_of(host);
  return any_ || name == "localhost" || config::is_ip_literal(name) || std::ranges::find(names_, name) != names_.end();
}

std::optional<std::string> Guard::refuse(std::string_view host, std::string_view origin) const {
  if (host.empty()) return "The request has no Host header.\n";
  const std::string_view from = host_of(origin);
  const bool same = from == host;
  if (allows(host) &&
      (origin.empty() || same ||
       (!from.empty() && !config::is_ip_literal(name_of(from)) && name_of(from) != "localhost" && allows(from)))) {
    return std::nullopt;
  }
  return fmt::format(
      "{} \"{}\" is not allowed: a web page of somebody else could ask under it.\n"
      "To allow a name, add it to http.hosts in the configuration of the service (\"*\" allows any), or ask by "
      "address, "
      "for example http://127.0.0.1/ with the port.\n",
      allows(host) ? "The origin" : "The host", config::shown(allows(host) ? origin : host));
}

}  // namespace tiercel::service
