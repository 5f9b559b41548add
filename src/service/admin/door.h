// AdminDoor: how admin calls come in, over HTTP: POST /admin/NAME with a JSON body, answered in JSON.
//
//   curl --unix-socket /run/tiercel/tiercel.sock.admin http://tiercel/admin/mode -d '{"mode":"store_only"}'
//
// On a Unix socket of its own beside the engines' (PATH.admin, mode 0600 also where service.group lets engines of
// others in): the kernel says who is at the other end, and only the service's own user and root are answered. On TCP
// (http.listen) with the token of http.admin_token_file, in "Authorization: Bearer TOKEN", behind the same rules of
// Host and Origin as every request there; without that setting not at all. After ten wrong tokens within ten seconds
// nothing is looked at on TCP until they are over; the Unix socket goes on. A body has at most 8 KiB, and its length is
// announced. An admin client gets neither arena nor session.
// bind() takes socket and token before anything else of a service is made; one thread drives start() and stop().
#pragma once

#include "base/clock.h"
#include "base/mutex.h"
#include "io/file_descriptor.h"
#include "service/admin/calls.h"
#include "service/admin/token.h"
#include "service/http/listener.h"

#include <tiercel/config.h>
#include <tiercel/result.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace tiercel::service {

class AdminDoor {
 public:
  struct Options {
    std::string socket;      ///< empty: none
    std::string group;       ///< that may enter the socket's directory, where it is made; not the socket
    std::string token_file;  ///< empty: no admin call on TCP
  };
  [[nodiscard]] static Result<std::unique_ptr<AdminDoor>> bind(const Options& options);
  ~AdminDoor();

  /// Both are used until stop() has returned. Once.
  void start(AdminCalls& calls, const Clock& clock);
  void stop();

  /// Is it an admin call that `request` asks for?
  [[nodiscard]] static bool is_call(const httplib::Request& request) { return request.path.starts_with("/admin/"); }
  /// Of a listener on TCP, before its start(): its requests come to admit() first.
  void attach(Listener& listener);
  /// By token. False: `response` says why not.
  [[nodiscard]] bool admit(const httplib::Request& request, httplib::Response& response);

  /// Reads the token anew; an error leaves the old one. Empty: from now on no call on TCP.
  [[nodiscard]] static Result<std::optional<AdminToken>> read_token(const std::string& file);
  void set_token(std::optional<AdminToken> token);

 private:
  AdminDoor(std::optional<AdminToken> token, std::string socket);
  void answer(const httplib::Request& request, httplib::Response& response, const std::string& who);
  [[nodiscard]] bool admit_peer(const httplib::Request& request, httplib::Response& response);

  AdminCalls* calls_ = nullptr;
  const Clock* clock_ = nullptr;
  const std::string socket_;
  FileDescriptor lock_;                 // of the socket's path
  std::unique_ptr<Listener> listener_;  // null: no socket
  FailureLimit failures_;
  Mutex mutex_;  // a leaf
  std::optional<AdminToken> token_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel::service
