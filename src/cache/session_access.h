// SessionAccess: the backend behind a Session, for what builds on sessions inside the library.
#pragma once

#include <tiercel/session.h>

#include <memory>

namespace tiercel::detail {

class SessionAccess {
 public:
  /// Null: the session was moved away.
  [[nodiscard]] static const std::shared_ptr<SessionBackend>& backend(const Session& session) noexcept {
    return session.backend_;
  }
};

}  // namespace tiercel::detail
