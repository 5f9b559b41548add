// Guard: which requests a web page of somebody else could have made a browser send, and that are refused for it.
//
// DNS rebinding: a page of evil.example lets that name point to 127.0.0.1 and then reads our answers as its own. The
// browser says so in Host. An address in Host is safe (nobody else's page has it for a name), and so are localhost and
// the names of http.hosts. Origin, where a browser sends it, must be the page's own, or one of these names too.
// Immutable; safe from any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::service {

class Guard {
 public:
  explicit Guard(std::vector<std::string> names);

  /// Why a request with these headers is refused, with the way out; nullopt: it is not. An empty origin: none was sent.
  [[nodiscard]] std::optional<std::string> refuse(std::string_view host, std::string_view origin) const;

 private:
  [[nodiscard]] bool allows(std::string_view host) const;
  std::vector<std::string> names_;
  bool any_ = false;
};

}  // namespace tiercel::service
