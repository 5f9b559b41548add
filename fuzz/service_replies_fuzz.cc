// Goal: whatever a service answers, a client neither crashes, hangs nor touches memory outside the arena.
//
// A thread plays the service on a real socket: to each connection it gives a welcome with a real arena and ring, then
// the input as a stream, and no more. Requests are not read: their numbers are known beforehand (1, 2, ...), so
// recorded replies meet their callers. The first byte's bits spoil the welcome's figures or choose what the client
// does. An even second bit stream is taken as it is; an odd one is a program that makes well-formed replies of odd
// content.
#include "base/check.h"
#include "base/log.h"
#include "service/client/remote_session.h"
#include "service/wire/unix_socket.h"

#include <fcntl.h>
#include <fuzzer/FuzzedDataProvider.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace tiercel;
using namespace tiercel::service;

constexpr std::uint64_t kArena = 2_MiB;
constexpr std::uint64_t kBlockBytes = 4096;

/// One connection at a time: welcomes it, sends a stream, waits for its end.
class FakeService {
 public:
  FakeService() {
    std::string folder = std::filesystem::temp_directory_path() / "tiercel_fuzz_XXXXXX";
    TIERCEL_CHECK(mkdtemp(folder.data()) != nullptr, "a folder for the socket");
    folder_ = folder;
    path_ = folder + "/s";
    auto listening = wire::listen_at({.path = path_});
    auto arena = Mapping::share({.bytes = kArena, .huge_pages = HugePages::kOff, .kind = ArenaKind::kMemfd});
    auto ring = Mapping::share({.bytes = kArena, .huge_pages = HugePages::kOff, .kind = ArenaKind::kMemfd});
    TIERCEL_CHECK(listening && arena && ring, "a service can listen");
    listening_ = std::move(*listening);
    arena_ = *arena;
    ring_ = *ring;
    TIERCEL_CHECK(fcntl_blocking(listening_.socket.get()), "it waits for callers");
  }
  ~FakeService() { std::filesystem::remove_all(folder_); }

  /// Serves the next connection on a thread of its own.
  [[nodiscard]] std::future<void> serve(const wire::Welcome& welcome, std::span<const std::byte> stream) {
    return std::async(std::launch::async, [this, welcome, stream] {
      const FileDescriptor client(accept4(listening_.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
      std::byte hello[sizeof(wire::Hello)];
      (void)!recv(client.get(), hello, sizeof(hello), MSG_WAITALL);
      const int descriptors[] = {arena_->fd(), ring_->fd(), life_.get()};
      (void)wire::send_with_descriptors(client.get(), std::as_bytes(std::span(&welcome, 1)), descriptors);
      for (auto rest = stream; !rest.empty();) {
        const ssize_t sent = send(client.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
        if (sent <= 0) break;
        rest = rest.subspan(static_cast<std::size_t>(sent));
      }
      (void)shutdown(client.get(), SHUT_WR);
      std::byte sink[4096];
      while (recv(client.get(), sink, sizeof(sink), 0) > 0) {
      }
    });
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const std::shared_ptr<const Mapping>& arena() const { return arena_; }

 private:
  static bool fcntl_blocking(int fd);

  std::filesystem::path folder_;
  std::string path_;
  wire::Listening listening_;
  std::shared_ptr<const Mapping> arena_;
  std::shared_ptr<const Mapping> ring_;
  const FileDescriptor life_{open("/dev/null", O_RDONLY | O_CLOEXEC)};  // as a life descriptor
};

bool FakeService::fcntl_blocking(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0;
}

/// The client's side without the thread that connects again.
class Home final : public Line::Home {
 public:
  explicit Home(const FakeService& service) : arena_(service.arena()), options_{.socket = service.path()} {
    options_.call_deadline = std::chrono::seconds(5);
  }
  Result<std::shared_ptr<Link>> open_link(const Link::Greeting& greeting, std::uint64_t deadline_ns, bool /*lost*/,
                                          Link::Refusal* refusal) override {
    return Link::open(options_.socket, greeting, deadline_ns, refusal);
  }
  Result<Handshake> greet(const Link::Greeting& greeting) override {
    return Handshake::begin(options_.socket, greeting);
  }
  bool may_start_after(const Error& /*error*/) const noexcept override { return false; }
  Result<std::shared_ptr<const Mapping>> map(Link& link) override {
    auto mapping = Mapping::of_memfd(link.take_arena().release(), link.welcome().arena_bytes);
    if (!mapping) return tl::unexpected<Error>(mapping.error());
    return std::make_shared<const Mapping>(std::move(*mapping));
  }
  std::shared_ptr<const Mapping> arena() override { return arena_; }
  void wake() noexcept override {}
  const ClientOptions& options() const noexcept override { return options_; }

 private:
  std::shared_ptr<const Mapping> arena_;
  ClientOptions options_;
};

/// Well-formed replies with content of the input's choice.
std::vector<std::byte> make_replies(FuzzedDataProvider& input) {
  wire::OutBuffer out;
  flatbuffers::FlatBufferBuilder builder;
  const auto finish = [&]<class Body>(std::uint64_t id, flatbuffers::Offset<Body> body) {
    builder.Finish(wire::CreateReply(builder, id, wire::ReplyBodyTraits<Body>::enum_value, body.Union()));
    out.add_frame(std::as_bytes(std::span(builder.GetBufferPointer(), builder.GetSize())));
    builder.Clear();
  };
  const auto number = [&] {
    return input.ConsumeIntegralInRange<int>(0, 7) == 0 ? input.ConsumeIntegral<std::uint64_t>()
                                                        : input.ConsumeIntegralInRange<std::uint64_t>(0, 8);
  };
  const auto places = [&] {
    std::vector<wire::Place> list;
    for (int i = input.ConsumeIntegralInRange<int>(0, 6); i > 0; --i) {
      list.emplace_back(number() * kBlockBytes, static_cast<std::uint32_t>(number() + 1),
                        static_cast<std::uint32_t>(number()));
    }
    return builder.CreateVectorOfStructs(list);
  };
  const auto codes = [&] {
    return builder.CreateVector(input.ConsumeBytes<std::uint8_t>(input.ConsumeIntegralInRange<std::size_t>(0, 6)));
  };
  finish(1, wire::CreateOpened(builder, input.ConsumeBool() ? kBlockBytes : number()));
  for (std::uint64_t id = 2; id < 40 && input.remaining_bytes() > 0; ++id) {
    const std::uint64_t to = input.ConsumeIntegralInRange<int>(0, 9) == 0 ? number() : id;
    switch (input.ConsumeIntegralInRange<int>(0, 8)) {
      case 0: {
        std::vector<wire::TierRun> runs;
        for (int i = input.ConsumeIntegralInRange<int>(0, 4); i > 0; --i) {
          runs.emplace_back(static_cast<std::uint32_t>(number()), input.ConsumeIntegral<std::uint8_t>());
        }
        const auto list = builder.CreateVectorOfStructs(runs);
        finish(to, wire::CreateMatched(builder, list, number()));
        break;
      }
      case 1:
      case 2: {
        const auto list = places();
        finish(to, wire::CreateLoaded(builder, static_cast<std::uint8_t>(number()), list));
        break;
      }
      case 3:
      case 4: {
        const auto outcomes = codes();
        const auto list = places();
        finish(to, wire::CreateReservedBlocks(builder, number(), outcomes, list));
        break;
      }
      case 5: {
        const auto list = codes();
        finish(to, wire::CreateCommitted(builder, list));
        break;
      }
      case 6:
        finish(to, wire::CreateGranted(builder, places()));
        break;
      case 7:
        finish(to, wire::CreatePinTaken(builder, number(), number()));
        break;
      default:
        finish(to, wire::CreateDone(builder));
    }
  }
  return {out.pending().begin(), out.pending().end()};
}

/// Touches what it is given: the first byte and the last.
void touch(std::span<std::byte> bytes) {
  if (bytes.empty()) return;
  bytes.front() = std::byte{1};
  bytes.back() = std::byte{2};
}

void use(RemoteSession& session, std::uint8_t order) {
  const std::vector<TokenId> tokens(6, 1);
  const BlockChain chain = hash_blocks(session.space("t"), tokens);
  const detail::ChainRef ref(chain.space(), chain.hashes());
  for (unsigned step = 0; step < 6; ++step) {
    switch ((step + order) % 6) {
      case 0:
        (void)session.match(ref);
        break;
      case 1: {
        const PrefillAhead ahead{.prompt_tokens = 100};
        auto load =
            session.load({.chain = ref, .blocks = 4, .deadline = std::chrono::milliseconds(100), .ahead = &ahead});
        if (!load || (order & 0x40U) != 0) break;  // dropped: its reply is undone
        std::uint8_t sum = 0;
        if ((order & 0x20U) != 0) (void)load->so_far();
        for (const BlockRef& block : load->wait()) {
          if (!block.bytes().empty()) sum ^= static_cast<std::uint8_t>(block.bytes().back());
        }
        if (sum == 0x5A) (void)load->outcome();
        break;
      }
      case 2:
      case 3: {
        const auto room = session.reserve(ref, 0, 3);
        for (std::size_t i = 0; i < room->size(); ++i) {
          if (room->outcome(i) != Reserved::kYes) continue;
          touch(room->bytes(i));
          const CopyPin copy = room->begin_copy(i);
          if (i == 1) room->abort(i);
          (void)room->commit(i, std::nullopt);
        }
        const std::size_t blocks[] = {0, 1};
        auto parts = session.parts(room->id(), blocks);
        if (parts) {
          for (BlockPart& part : *parts) touch(part.bytes());
        }
        (void)session.report(room->id(), blocks);
        break;
      }
      case 4: {
        const auto pin = session.pin(ref, 3, std::chrono::seconds(1));
        if (pin) (void)(*pin)->blocks();
        break;
      }
      default:
        (void)session.drop(ref, 1);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static FakeService fake;
  set_log_sink([](LogLevel, std::string_view) {});
  if (size < 2) return 0;
  FuzzedDataProvider input(data + 2, size - 2);
  wire::Welcome welcome{.service = 5,
                        .member = 1,
                        .token = 1,
                        .arena_bytes = kArena,
                        .ring_bytes = kArena,
                        .slots = 16,
                        .max_payload = wire::kMaxRequestBytes,
                        .max_chain = 64,
                        .kept_chains = 4,
                        .kept_hashes = 64};
  if ((data[0] & 1U) != 0) {
    const auto figures = input.ConsumeBytes<std::uint8_t>(sizeof(wire::Welcome));
    const std::size_t from = input.ConsumeIntegralInRange<std::size_t>(0, sizeof(welcome));
    const std::size_t some = std::min(figures.size(), sizeof(welcome) - from);
    std::copy_n(figures.begin(), some, reinterpret_cast<std::uint8_t*>(&welcome) + from);
  }
  std::vector<std::byte> stream;
  if ((data[0] & 2U) != 0) {
    stream = make_replies(input);
  } else {
    const auto rest = input.ConsumeRemainingBytes<std::uint8_t>();
    const auto bytes = std::as_bytes(std::span(rest));
    stream.assign(bytes.begin(), bytes.end());
  }
  auto served = fake.serve(welcome, stream);
  {
    const SessionOptions options{.model = {.name = "m"}, .block_tokens = 1, .layout = Layout::blob(kBlockBytes)};
    auto line = std::make_shared<Line>(std::make_shared<Home>(fake), options, 1);
    if (line->open()) {
      RemoteSession session(line, options);
      use(session, data[1]);
      session.close();
    }
  }
  served.get();
  return 0;
}
