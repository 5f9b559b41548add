#include "service/admin/door.h"

#include "base/log.h"
#include "base/try.h"
#include "config/setting_value.h"
#include "service/wire/unix_socket.h"

#include <fmt/format.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <utility>

namespace tiercel::service {
namespace {

constexpr const char* kJson = "application/json; charset=utf-8";
constexpr const char* kRoute = "/admin/([a-z-]{1,32})";
constexpr std::size_t kConnections = 8;  // of the Unix socket: people and scripts
constexpr std::string_view kScheme = "Bearer ";

/// Sentences of our own: they hold nothing that JSON would have to escape.
bool refuse(httplib::Response& response, int status, std::string_view why) {
  response.status = status;
  response.set_content(fmt::format("{{\"error\":\"{}\"}}\n", why), kJson);
  return false;
}

/// What holds on both ways: POST, and a body whose length is known and small.
bool check_form(const httplib::Request& request, httplib::Response& response) {
  if (request.method != "POST") {
    response.set_header("Allow", "POST");
    return refuse(response, 405, "admin calls are POST requests");
  }
  if (request.has_header("Transfer-Encoding"))
    return refuse(response, 411, "an admin call announces its Content-Length");
  if (request.has_header("Content-Encoding")) return refuse(response, 415, "the body of an admin call is plain JSON");
  const std::string text = request.get_header_value("Content-Length");
  std::uint64_t length = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
  if (!text.empty() && (error != std::errc() || end != text.data() + text.size() || length > Fields::kMostBytes)) {
    return refuse(response, 413, fmt::format("the body of an admin call has at most {} bytes", Fields::kMostBytes));
  }
  return true;
}

std::string address_of(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  std::array<char, NI_MAXHOST> host{};
  const bool known = ::getpeername(socket, reinterpret_cast<sockaddr*>(&address), &size) == 0 &&
                     ::getnameinfo(reinterpret_cast<sockaddr*>(&address), size, host.data(), host.size(), nullptr, 0,
                                   NI_NUMERICHOST) == 0;
  return known ? host.data() : "an unknown address";
}

}  // namespace

Result<std::optional<AdminToken>> AdminDoor::read_token(const std::string& file) {
  if (file.empty()) return std::optional<AdminToken>();
  TIERCEL_TRY_ASSIGN(AdminToken token, AdminToken::read(file));
  return std::optional(token);
}

Result<std::unique_ptr<AdminDoor>> AdminDoor::bind(const Options& options) {
  TIERCEL_TRY_ASSIGN(auto token, read_token(options.token_file));
  std::unique_ptr<AdminDoor> door(new AdminDoor(token, options.socket));
  if (options.socket.empty()) return door;
  TIERCEL_TRY_ASSIGN(auto listening,
                     wire::listen_at({.path = options.socket, .group = options.group, .owner_only = true}));
  door->lock_ = std::move(listening.lock);
  door->listener_ = Listener::adopt({.key = "service.socket", .address = {}, .connections = kConnections},
                                    std::move(listening.socket));
  return door;
}

AdminDoor::AdminDoor(std::optional<AdminToken> token, std::string socket) : socket_(std::move(socket)), token_(token) {}

AdminDoor::~AdminDoor() { stop(); }

void AdminDoor::start(AdminCalls& calls, const Clock& clock) {
  calls_ = &calls;
  clock_ = &clock;
  if (!listener_) return;
  listener_->set_payload_max_length(Fields::kMostBytes);
  listener_->set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& response) {
    using Answer = httplib::Server::HandlerResponse;
    if (admit_peer(request, response) && check_form(request, response)) return Answer::Unhandled;
    Listener::close_after_answer();  // a body may follow, which nobody reads
    response.set_header("Connection", "close");
    return Answer::Handled;
  });
  listener_->set_error_handler([](const httplib::Request&, httplib::Response& response) {
    if (response.body.empty()) refuse(response, response.status, "there is nothing here; calls are POST /admin/NAME");
  });
  listener_->set_exception_handler([](const httplib::Request&, httplib::Response& response, const std::exception_ptr&) {
    refuse(response, 500, "the service could not answer");
  });
  listener_->Post(kRoute, [this](const httplib::Request& request, httplib::Response& response) {
    const auto peer = wire::peer_of(Listener::socket_of_request());
    answer(request, response, peer ? fmt::format("user {}, process {}", peer->uid, peer->pid) : "an unknown process");
  });
  listener_->start();
}

void AdminDoor::stop() {
  if (!listener_) return;
  (void)::unlink(socket_.c_str());
  listener_->end();
  listener_.reset();
  lock_ = FileDescriptor();
}

void AdminDoor::attach(Listener& listener) {
  listener.set_payload_max_length(Fields::kMostBytes);
  listener.Post(kRoute, [this](const httplib::Request& request, httplib::Response& response) {
    answer(request, response, address_of(Listener::socket_of_request()) + ", by token");
  });
}

void AdminDoor::set_token(std::optional<AdminToken> token) {
  const MutexLock lock(mutex_);
  token_ = token;
}

/// The kernel's word, besides the file's mode.
bool AdminDoor::admit_peer(const httplib::Request&, httplib::Response& response) {
  const auto peer = wire::peer_of(Listener::socket_of_request());
  if (peer && (peer->uid == ::geteuid() || peer->uid == 0)) return true;
  if (peer) {
    log_line(LogLevel::kWarn, "admin_peer",
             fmt::format("admin: user {}, process {} was refused: only user {} and root may", peer->uid, peer->pid,
                         ::geteuid()));
  }
  return refuse(response, 403, fmt::format("only the service's own user ({}) and root may operate it", ::geteuid()));
}

bool AdminDoor::admit(const httplib::Request& request, httplib::Response& response) {
  std::optional<AdminToken> token;
  {
    const MutexLock lock(mutex_);
    token = token_;
  }
  if (!token) {
    return refuse(response, 403,
                  "admin calls are answered on the service's Unix socket (PATH.admin); on this address only where "
                  "http.admin_token_file is set");
  }
  if (const std::uint64_t wait = failures_.wait_ns(clock_->now_ns()); wait > 0) {
    response.set_header("Retry-After", std::to_string(wait / 1'000'000'000 + 1));
    return refuse(response, 429, "too many wrong tokens; the Unix socket answers meanwhile");
  }
  const std::string given = request.get_header_value("Authorization");
  if (!given.starts_with(kScheme) || !token->matches(std::string_view(given).substr(kScheme.size()))) {
    failures_.failed(clock_->now_ns());
    log_line(LogLevel::kWarn, "admin_token",
             fmt::format("admin: a call from {} was refused: {} token", address_of(Listener::socket_of_request()),
                         given.empty() ? "no" : "a wrong"));
    response.set_header("WWW-Authenticate", "Bearer");
    return refuse(response, 401, "the token is missing or wrong; send it as Authorization: Bearer TOKEN");
  }
  return check_form(request, response);
}

void AdminDoor::answer(const httplib::Request& request, httplib::Response& response, const std::string& who) {
  const AdminAnswer said = calls_->call(request.matches[1].str(), request.body, who);
  response.status = said.status;
  response.set_content(said.json + "\n", kJson);
}

}  // namespace tiercel::service
