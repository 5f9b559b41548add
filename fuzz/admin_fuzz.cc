// Goal: whatever an admin call is sent, the answer is one JSON object with a sentence or what was asked for, nothing
// but what the call names is touched, and nothing of it is left behind. The first line of the input is the call's name,
// the rest its body, in which "@b" stands for the hash of a stored block and "@n" for its namespace. "!" before the
// name: what calls have done is undone first, so that states do not depend on each other for ever.
#include "base/check.h"
#include "base/log.h"
#include "service/admin/calls.h"
#include "transfer/host_copy_engine.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace tiercel;
using namespace tiercel::service;

constexpr std::uint64_t kBlockBytes = 64_KiB;

class World {
 public:
  World() {
    set_log_sink([](LogLevel, std::string_view text) {
      TIERCEL_CHECK(text.find_first_of(std::string_view("\n\r\0\x1b", 4)) == std::string_view::npos,
                    "a line of the log is one line");
    });
    core_ = detail::CacheCore::create(
                {.host = {.capacity = 4_MiB, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = kBlockBytes}},
                {.clock = clock_, .executor = executor_, .copies = copies_, .seed = 7})
                .value();
    cache_ = std::make_unique<Cache>(core_, nullptr);
    session_ = std::make_unique<Session>(cache_
                                             ->open_session({.model = {.name = "m", .kv_dtype = "f16"},
                                                             .block_tokens = 1,
                                                             .layout = Layout::blob(kBlockBytes),
                                                             .group = {.engine_id = "e"}})
                                             .value());
    calls_ = std::make_unique<AdminCalls>(
        AdminCalls::Parts{.cache = *cache_,
                          .engines = [] { return std::vector<EngineReport>{{.engine_id = "e", .pid = 1}}; },
                          .reload = []() -> Result<ReloadReport> { return ReloadReport{}; }});
  }

  /// Everything as at the start: modes on, one run stored.
  void restore() {
    cache_->set_mode(Mode::kOn);
    (void)cache_->set_mode("e", Mode::kOn);
    clock_.advance(std::uint64_t{3'600} * 1'000'000'000);  // pins are over
    const BlockChain chain = hash_blocks(session_->space(), std::vector<TokenId>(4, 1));
    core_->namespace_names().note(session_->space().fingerprint(), "m", "default");
    Reservation room = session_->reserve(chain, 0);
    (void)room.commit_all();
    room = {};
    executor_.run_all();
    core_->expire_pins();
    TIERCEL_CHECK(core_->pin_records() == 0, "pins end with their time");
  }

  void call(std::string_view name, std::string_view body) {
    const AdminAnswer answer = calls_->call(name, body, "user 0, process 1");
    const auto json = nlohmann::json::parse(answer.json, nullptr, false);
    TIERCEL_CHECK(json.is_object(), "an answer is a JSON object");
    if (answer.status == 200) {
      TIERCEL_CHECK(!json.contains("error"), "what was done is no error");
    } else {
      TIERCEL_CHECK(answer.status >= 400 && json.contains("error"), "a refusal has a sentence");
      const std::string sentence = json.at("error");
      TIERCEL_CHECK(!sentence.empty() && sentence.size() < 1000, "an error is a short sentence");
    }
    executor_.run_all();
    core_->check_consistency();
  }

  [[nodiscard]] std::string fill_in(std::string_view body) const {
    std::string text(body);
    const Space space = session_->space();
    const auto replace = [&](std::string_view mark, const BlockHash& hash) {
      const std::size_t at = text.find(mark);
      if (at != std::string::npos) text.replace(at, mark.size(), to_hex(hash));
    };
    replace("@b", hash_blocks(space, std::vector<TokenId>(4, 1))[2]);
    replace("@n", space.fingerprint());
    return text;
  }

 private:
  ManualClock clock_;
  ManualExecutor executor_{clock_};
  HostCopyEngine copies_{executor_};
  std::shared_ptr<detail::CacheCore> core_;
  std::unique_ptr<Cache> cache_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<AdminCalls> calls_;
};

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): the name that libFuzzer calls
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static World* const kWorld = new World;  // never destroyed: its members outlive the fuzzer's last call
  std::string_view text(reinterpret_cast<const char*>(data), size);
  if (text.starts_with('!')) {
    kWorld->restore();
    text.remove_prefix(1);
  }
  const std::size_t end = std::min(text.find('\n'), text.size());
  kWorld->call(text.substr(0, end), kWorld->fill_in(text.substr(std::min(end + 1, text.size()))));
  return 0;
}
