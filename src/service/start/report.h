// Report: what a service that was started by a client tells it: that it serves, or why it does not.
//
// One message on a socket pair (SOCK_SEQPACKET), of which the service has one end as descriptor kReadyDescriptor: a
// byte, 0 or an ErrorCode, then a sentence. The end of the stream without a message: the process has died. The service
// also has the start lock, as kLockDescriptor, until it serves (start_lock.h). One thread.
#pragma once

#include "io/file_descriptor.h"

#include <tiercel/export.h>
#include <tiercel/result.h>

#include <optional>
#include <string>

namespace tiercel::service::start {

inline constexpr int kReadyDescriptor = 3;
inline constexpr int kLockDescriptor = 4;

/// The service's side.
class TIERCEL_API Report {
 public:
  Report() = default;  ///< nobody wants to know
  /// Takes both descriptors. kInvalidArgument: they are not what a client leaves to what it starts.
  [[nodiscard]] static Result<Report> of_the_starter();

  /// Says it and gives the start lock back: to the client that started it, which may still hold it, or to the next.
  void ready(const std::string& sentence) noexcept;
  void failed(const Error& error) noexcept;

 private:
  void say(char code, const std::string& sentence) noexcept;
  FileDescriptor ready_;
  FileDescriptor lock_;
};

/// The client's side: a message that is there. An error where the service said one; empty where the stream has ended.
[[nodiscard]] Result<std::optional<std::string>> receive_report(int socket);

}  // namespace tiercel::service::start
