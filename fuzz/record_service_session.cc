// Records what goes over the socket in a session that does what sessions do, as seeds for the fuzz targets of the
// service: FOLDER/service_messages gets the client's frames, FOLDER/service_replies the service's. A proxy stands
// between a real client and a real service, all in this process. Usage: record_service_session FOLDER
#include "base/check.h"
#include "service/server/socket_server.h"
#include "service/wire/unix_socket.h"

#include <tiercel/cache.h>
#include <tiercel/client.h>

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace tiercel {
namespace {

template <class T>
T must(Result<T> result) {
  TIERCEL_CHECK(result.has_value(), result.error().message.c_str());
  return std::move(*result);
}

/// Passes one connection on, and keeps what it saw after the handshake.
class Proxy {
 public:
  Proxy(const std::string& path, std::string service)
      : listening_(must(wire::listen_at({.path = path}))), service_(std::move(service)) {}

  /// The client of `calls` connects twice: once to see that there is a service, then for its session.
  void record(const std::function<void()>& calls) {
    std::thread thread([this] {
      for (int i = 0; i < 2; ++i) serve();
    });
    calls();
    thread.join();
  }
  [[nodiscard]] const std::string& requests() const { return seen_[0]; }
  [[nodiscard]] const std::string& replies() const { return seen_[1]; }

 private:
  static void wait_for(int socket) {
    pollfd one{.fd = socket, .events = POLLIN, .revents = 0};
    TIERCEL_CHECK(poll(&one, 1, 10'000) == 1, "the other end answers");
  }
  /// One message of the handshake, with its descriptors.
  static void pass_on(int from, int to) {
    wait_for(from);
    std::array<std::byte, sizeof(wire::Welcome)> buffer{};
    const auto received = must(wire::receive_with_descriptors(from, buffer));
    std::vector<int> descriptors;
    for (const FileDescriptor& one : received->descriptors) descriptors.push_back(one.get());
    (void)wire::send_with_descriptors(to, std::span(buffer).first(received->bytes), descriptors);
  }
  void serve() {
    wait_for(listening_.socket.get());
    const FileDescriptor client(accept4(listening_.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const FileDescriptor server = must(wire::connect_to(service_));
    pass_on(client.get(), server.get());
    pass_on(server.get(), client.get());
    std::array<char, 65'536> buffer{};
    std::array<pollfd, 2> both{
        {{.fd = client.get(), .events = POLLIN, .revents = 0}, {.fd = server.get(), .events = POLLIN, .revents = 0}}};
    while (poll(both.data(), both.size(), 10'000) > 0) {
      for (std::size_t side = 0; side < 2; ++side) {
        if (both[side].revents == 0) continue;
        const ssize_t got = recv(both[side].fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (got <= 0) return;
        seen_[side].append(buffer.data(), static_cast<std::size_t>(got));
        (void)send(both[1 - side].fd, buffer.data(), static_cast<std::size_t>(got), MSG_NOSIGNAL);
      }
    }
  }

  wire::Listening listening_;
  const std::string service_;
  std::array<std::string, 2> seen_;
};

constexpr std::uint64_t kBlockBytes = 64_KiB;

void store(Session& session, const BlockChain& chain, std::size_t first) {
  Reservation room = session.reserve(chain, first);
  for (std::size_t i = 0; i < room.size(); ++i) {
    if (room.outcome(i) == Reserved::kYes) TIERCEL_CHECK(room.writer(i).commit(4096).has_value(), "it is stored");
  }
}

void whole_session(Session& session) {
  const std::vector<TokenId> tokens(4, 1);
  const BlockChain chain = hash_blocks(session.space(), tokens);
  session.report_pool({.used_bytes = 1, .free_bytes = 2, .total_bytes = 3});
  session.report_prefill(2e9);
  (void)session.match(chain);
  store(session, chain, 0);
  (void)session.match(chain);
  {
    Load load = session.load(chain, 4, std::chrono::seconds(1));
    (void)load.so_far();
    TIERCEL_CHECK(load.wait().size() == 4, "it is loaded");
  }
  {
    const auto pin = must(session.pin(chain, 2, std::chrono::seconds(1)));
    TIERCEL_CHECK(pin.blocks() == 2, "it is pinned");
  }
  (void)session.drop(chain, 2);
  (void)session.drop(session.space());
}

void given_up(Session& session) {
  const std::vector<TokenId> tokens(3, 2);
  const BlockChain chain = hash_blocks(session.space("tenant"), tokens);
  Reservation room = session.reserve(chain, 0);
  room.writer(1).abort();
  (void)room.writer(0).commit();
  (void)room.writer(2).commit(1);
}

void group(Session& session) {
  const std::vector<TokenId> tokens(2, 3);
  const BlockChain chain = hash_blocks(session.space(), tokens);
  Reservation room = session.reserve(chain, 0);
  const std::size_t blocks[] = {0, 1};
  (void)session.parts(room.id(), blocks);
  (void)session.report(room.id(), blocks);
}

void write(const std::filesystem::path& file, std::string_view start, std::string_view bytes) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream out(file, std::ios::binary);
  out << start << bytes;
  fmt::print("{}: {} bytes\n", file.string(), start.size() + bytes.size());
}

void run(const std::filesystem::path& folder) {
  std::string sockets = std::filesystem::temp_directory_path() / "tiercel_record_XXXXXX";
  TIERCEL_CHECK(mkdtemp(sockets.data()) != nullptr, "a folder for the sockets");
  const std::pair<const char*, void (*)(Session&)> sessions[] = {
      {"whole_session", whole_session}, {"given_up", given_up}, {"group", group}};
  for (const auto& [name, calls] : sessions) {
    const Cache cache = must(Cache::open({.host = {.capacity = 4_MiB,
                                                   .arena = ArenaKind::kMemfd,
                                                   .prefault = false,
                                                   .extent_bytes = 2_MiB,
                                                   .min_slot_bytes = kBlockBytes}}));
    const auto server = must(service::SocketServer::start(cache, {.path = sockets + "/service"}));
    Proxy proxy(sockets + "/proxy", sockets + "/service");
    SessionOptions options{
        .model = {.name = "m", .kv_dtype = "f16"}, .block_tokens = 1, .layout = Layout::blob(kBlockBytes)};
    if (std::string_view(name) == "group") options.group = {.engine_id = "engine", .members = 1, .member = 0};
    proxy.record([&] {
      Client client = must(Client::connect({.socket = sockets + "/proxy"}));
      Session session = must(client.open_session(options));
      calls(session);
      TIERCEL_CHECK(client.sync(), "all was seen");
    });
    write(folder / "service_messages" / name, std::string(1, '\0'), proxy.requests());
    write(folder / "service_replies" / name, std::string(2, '\0'), proxy.replies());
  }
  std::filesystem::remove_all(sockets);
}

}  // namespace
}  // namespace tiercel

int main(int argc, char** argv) {
  if (argc != 2) {
    fmt::print(stderr, "usage: {} FOLDER\n", argv[0]);
    return 2;
  }
  tiercel::run(argv[1]);
}
