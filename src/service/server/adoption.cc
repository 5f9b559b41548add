#include "service/server/adoption.h"

#include "base/log.h"
#include "base/try.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <random>
#include <utility>

namespace tiercel::service {
namespace {

constexpr std::uint64_t kLookNs = 50'000'000;
constexpr std::uint64_t kLogNs = 10'000'000'000;
/// Processes that are on no list hold no slot, but the memory: those that are clients come back by then and offer it or
/// let it go. A child that was forked keeps descriptors, and is waited for no longer.
constexpr std::uint64_t kStraysNs = 3'000'000'000;

std::uint64_t random_number() {
  std::random_device entropy;
  return (std::uint64_t{entropy()} << 32U | entropy()) | 1U;  // never 0
}

/// Why an arena with these facts cannot be this host tier's; empty: it can.
std::string mismatch(const ArenaFacts& facts, const HostConfig& host) {
  const auto differs = [](const char* key, std::uint64_t mine, std::uint64_t theirs) {
    return fmt::format("{} is {} KiB now and was {} KiB", key, mine >> 10U, theirs >> 10U);
  };
  if (host.extent_bytes != facts.extent_bytes) {
    return differs("host.extent_bytes", host.extent_bytes, facts.extent_bytes);
  }
  if (host.min_slot_bytes != facts.min_slot_bytes) {
    return differs("host.min_slot_bytes", host.min_slot_bytes, facts.min_slot_bytes);
  }
  const std::uint64_t capacity = host.capacity - host.capacity % host.extent_bytes;
  if (host.capacity != 0 && capacity != facts.bytes) return differs("host.capacity", capacity, facts.bytes);
  return "";
}

}  // namespace

Result<std::optional<EarlierArena>> look_for_earlier_arena(const std::string& list_path, const HostConfig& host) {
  auto found = MemberList::find(list_path);
  if (!found && found.error().code != ErrorCode::kCorrupt) return tl::unexpected<Error>(std::move(found).error());
  const bool held = MemberList::anybody_lives(list_path);
  EarlierArena earlier;
  if (!found) {
    if (!held) return std::nullopt;
    earlier.refusal = fmt::format("its member list, {}, is not understood: {}", list_path, found.error().message);
    return earlier;
  }
  if (!*found) return std::nullopt;
  earlier.list = std::make_unique<MemberList>(std::move(**found));
  const std::vector<ListedMember> members = earlier.list->members();
  earlier.probe = std::make_unique<ProcessProbe>(*earlier.list, members);
  const bool all_gone = std::ranges::all_of(members, [&](const auto& one) { return earlier.probe->is_gone(one); });
  if (all_gone && !held) return std::nullopt;
  earlier.members = members;  // also who has just gone: its devices may not be quiet yet
  earlier.refusal = mismatch(earlier.list->facts(), host);
  return earlier;
}

Adoption::Adoption(std::shared_ptr<detail::CacheCore> core, Options options, std::optional<EarlierArena> earlier)
    : core_(std::move(core)), options_(std::move(options)), began_ns_(core_->clock().now_ns()) {
  if (!earlier || core_->arena().mapping().fd() >= 0) return;
  stage_ = earlier->refusal.empty() ? ArenaStage::kAwaited : ArenaStage::kRefused;
  refusal_ = std::move(earlier->refusal);
  list_ = std::move(earlier->list);
  survivors_ = Survivors(earlier->members, std::move(earlier->probe), options_.settle_ns);
}

Status Adoption::start() {
  if (stage_ != ArenaStage::kServing) {
    log_line(LogLevel::kWarn, "arena_earlier", reason().message);
    log_ns_ = deadline_after(began_ns_, kLogNs);
    return {};
  }
  if (core_->arena().mapping().fd() < 0) {
    TIERCEL_TRY(core_->fill_arena(-1));
    core_->offer_arena();
  }
  return begin_list();
}

/// Of an arena that nobody but this process has.
Status Adoption::begin_list() {
  struct stat about{};
  if (::fstat(core_->arena().mapping().fd(), &about) != 0)
    return fail(ErrorCode::kIo, "host.capacity: the memfd is lost");
  const HostConfig& host = core_->config().host;
  TIERCEL_TRY_ASSIGN(auto list, MemberList::create(options_.list_path, {.arena = random_number(),
                                                                        .epoch = 1,
                                                                        .bytes = core_->arena().bytes(),
                                                                        .extent_bytes = host.extent_bytes,
                                                                        .min_slot_bytes = host.min_slot_bytes,
                                                                        .device = about.st_dev,
                                                                        .inode = about.st_ino,
                                                                        .boot = boot_id()}));
  survivors_ = {};  // it looks into the list
  list_ = std::make_unique<MemberList>(std::move(list));
  return {};
}

bool Adoption::offered(FileDescriptor memfd) {
  if (stage_ != ArenaStage::kAwaited) return false;
  struct stat about{};
  const ArenaFacts& facts = list_->facts();
  if (::fstat(memfd.get(), &about) != 0 || about.st_dev != facts.device || about.st_ino != facts.inode) return false;
  // The epoch first: members of this run must not get numbers of the earlier one.
  Status taken = list_->begin_epoch();
  if (taken) taken = core_->fill_arena(memfd.release());
  if (!taken) {
    log_line(LogLevel::kError, "arena_adopt", fmt::format("the arena of the earlier run: {}", taken.error().message));
    return false;
  }
  stage_ = ArenaStage::kWithheld;
  log_line(LogLevel::kInfo, "arena_adopted",
           fmt::format("adopted the arena of the earlier run (epoch {}); no slot is handed out before {} let go or "
                       "come back",
                       list_->facts().epoch, holders()));
  return true;
}

/// In kAwaited and kRefused: may there be new memory?
bool Adoption::nobody_has_it(std::uint64_t now_ns) {
  if (!survivors_.empty()) return false;
  if (!MemberList::anybody_lives(options_.list_path)) return true;
  if (!list_) return false;  // nobody knows who they are
  if (nobody_since_ns_ == 0) nobody_since_ns_ = std::max<std::uint64_t>(now_ns, 1);
  return now_ns >= deadline_after(nobody_since_ns_, kStraysNs);
}

void Adoption::begin_anew() {
  Status status;
  if (core_->arena().mapping().fd() < 0) status = core_->fill_arena(-1);
  if (status) status = begin_list();
  if (!status) {  // tried again
    log_line(LogLevel::kError, "arena_new", status.error().message);
    return;
  }
  core_->offer_arena();
  stage_ = ArenaStage::kServing;
  refusal_.clear();
  log_line(LogLevel::kInfo, "arena_new", "nobody has the arena of the earlier run any more: serving a new one");
}

std::uint64_t Adoption::step(std::uint64_t now_ns) {
  if (stage_ == ArenaStage::kServing) return UINT64_MAX;
  for (const std::uint64_t gone : survivors_.look(now_ns)) list_->remove(gone);
  if (stage_ == ArenaStage::kWithheld) {
    // The earlier run itself is gone since before this one began (the path's lock); its reads from disk have settled.
    if (survivors_.empty() && now_ns >= deadline_after(began_ns_, options_.settle_ns)) {
      core_->offer_arena();
      stage_ = ArenaStage::kServing;
      log_line(LogLevel::kInfo, "arena_serving",
               "every member of the earlier run is back or gone: slots are handed out");
      return UINT64_MAX;
    }
  } else if (nobody_has_it(now_ns)) {
    begin_anew();
  }
  if (stage_ != ArenaStage::kServing && now_ns >= log_ns_ && !survivors_.empty()) {
    log_ns_ = deadline_after(now_ns, kLogNs);
    log_line(LogLevel::kWarn, "arena_waits", fmt::format("the arena of the earlier run waits for {}", holders()));
  }
  return stage_ == ArenaStage::kServing ? UINT64_MAX : now_ns + kLookNs;
}

/// "process 12, process 13 and 4 more"
std::string Adoption::holders() const {
  constexpr std::size_t kMostNamed = 3;
  std::vector<pid_t> pids;
  for (const ListedMember& member : survivors_.waiting()) {
    if (std::ranges::find(pids, member.pid) == pids.end()) pids.push_back(member.pid);
  }
  if (pids.empty()) return list_ ? "processes that are on no list" : "processes that are not known";
  std::string text;
  for (std::size_t i = 0; i < std::min(pids.size(), kMostNamed); ++i) {
    text += i == 0 ? "" : ", ";
    text += pids[i] == 0 ? std::string("a process of another container") : fmt::format("process {}", pids[i]);
  }
  return pids.size() > kMostNamed ? fmt::format("{} and {} more", text, pids.size() - kMostNamed) : text;
}

Error Adoption::reason() const {
  if (stage_ == ArenaStage::kRefused) {
    return {.code = ErrorCode::kTimeout,
            .message = fmt::format("waits until nobody has the earlier run's arena: {} ({})", holders(), refusal_)};
  }
  return {.code = ErrorCode::kTimeout,
          .message = fmt::format("waits for the arena of the earlier run, which {} still use", holders())};
}

ArenaReport Adoption::report() const {
  ArenaReport report{.stage = stage_, .epoch = list_ ? list_->facts().epoch : 0, .cause = refusal_};
  for (const ListedMember& member : survivors_.waiting()) {
    const auto pid = static_cast<std::int64_t>(member.pid);
    if (std::ranges::find(report.waits_for, pid) == report.waits_for.end()) report.waits_for.push_back(pid);
  }
  return report;
}

}  // namespace tiercel::service
