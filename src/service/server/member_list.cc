#include "service/server/member_list.h"

#include "base/log.h"
#include "base/try.h"
#include "tier/disk/format.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <utility>

namespace tiercel::service {
namespace {

constexpr std::uint64_t kMagic = 0x424D454D4C435254;  // "TRCLMEMB"
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kBootBytes = 36;  // a UUID as text

template <class T>
void put(std::span<std::byte> record, std::size_t at, T value) noexcept {
  std::memcpy(record.data() + at, &value, sizeof(value));
}
template <class T>
T get(std::span<const std::byte> record, std::size_t at) noexcept {
  T value{};
  std::memcpy(&value, record.data() + at, sizeof(value));
  return value;
}

void seal(std::span<std::byte> record) noexcept {
  put(record, record.size() - 4, disk::crc32c(record.first(record.size() - 4)));
}
bool is_sealed(std::span<const std::byte> record) noexcept {
  return get<std::uint32_t>(record, record.size() - 4) == disk::crc32c(record.first(record.size() - 4));
}

tl::unexpected<Error> not_understood(std::string what) { return fail(ErrorCode::kCorrupt, std::move(what)); }

tl::unexpected<Error> failed(const std::string& path, int error) {
  return fail(ErrorCode::kIo, fmt::format("service.socket: {}: {}", path, strerror(error)), error);
}

Result<std::vector<std::byte>> read_all(int fd, const std::string& path) {
  constexpr std::size_t kMost = kListHeadBytes + kMostListed * kListEntryBytes;
  std::vector<std::byte> bytes(kMost + 1);
  std::size_t got = 0;
  while (got < bytes.size()) {
    const ssize_t read = ::pread(fd, bytes.data() + got, bytes.size() - got, static_cast<off_t>(got));
    if (read < 0 && errno == EINTR) continue;
    if (read < 0) return failed(path, errno);
    if (read == 0) break;
    got += static_cast<std::size_t>(read);
  }
  bytes.resize(got);
  return bytes;
}

Status write_all(int fd, std::span<const std::byte> bytes, std::size_t at, const std::string& path) {
  ssize_t written = -1;
  do {
    written = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(at));
  } while (written < 0 && errno == EINTR);
  if (written < 0) return failed(path, errno);
  if (static_cast<std::size_t>(written) != bytes.size()) return failed(path, ENOSPC);
  return {};
}

struct flock lock_of(std::uint64_t first, std::uint64_t bytes, short type) {
  struct flock lock{};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(first);
  lock.l_len = static_cast<off_t>(bytes);  // 0: to the end
  return lock;
}

/// Where that cannot be found out, somebody does.
bool is_locked(int fd, std::uint64_t first, std::uint64_t bytes) {
  struct flock lock = lock_of(first, bytes, F_WRLCK);
  return ::fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

}  // namespace

// ---- format

std::array<std::byte, kListHeadBytes> encode(const ArenaFacts& facts) noexcept {
  std::array<std::byte, kListHeadBytes> head{};
  put(head, 0, kMagic);
  put(head, 8, kVersion);
  put(head, 12, static_cast<std::uint32_t>(kListEntryBytes));
  put(head, 16, facts.arena);
  put(head, 24, facts.epoch);
  put(head, 32, facts.bytes);
  put(head, 40, facts.extent_bytes);
  put(head, 48, facts.min_slot_bytes);
  put(head, 56, facts.device);
  put(head, 64, facts.inode);
  std::memcpy(head.data() + 72, facts.boot.data(), std::min(facts.boot.size(), kBootBytes));
  seal(head);
  return head;
}

std::array<std::byte, kListEntryBytes> encode(const ListedMember& member) noexcept {
  std::array<std::byte, kListEntryBytes> entry{};
  put(entry, 0, member.member);
  put(entry, 8, member.token);
  put(entry, 16, member.start_time);
  put(entry, 24, member.pid_namespace);
  put(entry, 32, static_cast<std::uint32_t>(member.pid));
  seal(entry);
  return entry;
}

Result<DecodedList> decode_list(std::span<const std::byte> bytes) {
  if (bytes.size() < kListHeadBytes) return not_understood(fmt::format("it has {} bytes", bytes.size()));
  const auto head = bytes.first(kListHeadBytes);
  if (get<std::uint64_t>(head, 0) != kMagic) return not_understood("it does not begin as one");
  if (const auto version = get<std::uint32_t>(head, 8); version != kVersion) {
    return not_understood(fmt::format("it has the version {}; this release knows {}", version, kVersion));
  }
  if (!is_sealed(head)) return not_understood("the checksum of its head does not agree");
  if (get<std::uint32_t>(head, 12) != kListEntryBytes) return not_understood("its entries have another size");
  const auto entries = bytes.subspan(kListHeadBytes);
  if (entries.size() % kListEntryBytes != 0 || entries.size() / kListEntryBytes > kMostListed) {
    return not_understood(fmt::format("it has {} bytes", bytes.size()));
  }
  DecodedList list;
  list.facts = {.arena = get<std::uint64_t>(head, 16),
                .epoch = get<std::uint64_t>(head, 24),
                .bytes = get<std::uint64_t>(head, 32),
                .extent_bytes = get<std::uint64_t>(head, 40),
                .min_slot_bytes = get<std::uint64_t>(head, 48),
                .device = get<std::uint64_t>(head, 56),
                .inode = get<std::uint64_t>(head, 64),
                .boot = {}};
  const auto* boot = reinterpret_cast<const char*>(head.data() + 72);
  list.facts.boot.assign(boot, strnlen(boot, kBootBytes));
  std::set<std::uint64_t> numbers;
  for (std::size_t at = 0; at < entries.size(); at += kListEntryBytes) {
    const auto entry = entries.subspan(at, kListEntryBytes);
    if (std::ranges::all_of(entry, [](std::byte byte) { return byte == std::byte{0}; })) {
      list.places.emplace_back();
      continue;
    }
    const ListedMember member{.member = get<std::uint64_t>(entry, 0),
                              .token = get<std::uint64_t>(entry, 8),
                              .start_time = get<std::uint64_t>(entry, 16),
                              .pid_namespace = get<std::uint64_t>(entry, 24),
                              .pid = static_cast<pid_t>(get<std::uint32_t>(entry, 32))};
    const bool sound = is_sealed(entry) && member.member != 0 && member.pid >= 0;
    if (!sound || !numbers.insert(member.member).second) {
      return not_understood(fmt::format("its entry {} is none", at / kListEntryBytes));
    }
    list.places.emplace_back(member);
  }
  return list;
}

// ---- file

Result<std::optional<MemberList>> MemberList::find(const std::string& path) {
  MemberList list;
  list.path_ = path;
  list.file_ = FileDescriptor(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!list.file_) {
    if (errno == ENOENT) return std::nullopt;
    return failed(path, errno);
  }
  TIERCEL_TRY_ASSIGN(const auto bytes, read_all(list.file_.get(), path));
  if (bytes.empty()) return std::nullopt;
  TIERCEL_TRY_ASSIGN(DecodedList decoded, decode_list(bytes));
  if (decoded.facts.boot != boot_id()) return std::nullopt;  // no memory outlives that
  list.facts_ = std::move(decoded.facts);
  list.places_ = std::move(decoded.places);
  return list;
}

Result<MemberList> MemberList::create(const std::string& path, ArenaFacts facts) {
  MemberList list;
  list.path_ = path;
  list.facts_ = std::move(facts);
  // Under another name first: what is at the path is whole at any time.
  const std::string fresh = path + ".new";
  (void)::unlink(fresh.c_str());
  list.file_ = FileDescriptor(::open(fresh.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!list.file_) return failed(fresh, errno);
  TIERCEL_TRY(write_all(list.file_.get(), encode(list.facts_), 0, fresh));
  if (::rename(fresh.c_str(), path.c_str()) != 0) return failed(path, errno);
  return list;
}

bool MemberList::anybody_lives(const std::string& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  return file && is_locked(file.get(), 0, 0);
}

std::vector<ListedMember> MemberList::members() const {
  std::vector<ListedMember> members;
  for (const auto& place : places_) {
    if (place) members.push_back(*place);
  }
  return members;
}

bool MemberList::lives(std::uint64_t member) const { return is_locked(file_.get(), member, 1); }

Status MemberList::write(std::size_t place, std::span<const std::byte> record) const {
  return write_all(file_.get(), record, kListHeadBytes + place * kListEntryBytes, path_);
}

Status MemberList::begin_epoch() {
  ArenaFacts next = facts_;
  ++next.epoch;
  TIERCEL_TRY(write_all(file_.get(), encode(next), 0, path_));
  facts_ = std::move(next);
  return {};
}

Status MemberList::add(const ListedMember& member) {
  auto place = std::ranges::find_if(places_, [](const auto& one) { return !one; });
  if (place == places_.end()) {
    if (places_.size() == kMostListed) {
      return fail(ErrorCode::kLimit, fmt::format("{} processes may use the arena, which is the limit", kMostListed));
    }
    place = places_.insert(places_.end(), std::nullopt);
  }
  TIERCEL_TRY(write(static_cast<std::size_t>(place - places_.begin()), encode(member)));
  *place = member;
  return {};
}

void MemberList::remove(std::uint64_t member) noexcept {
  const auto place = std::ranges::find_if(places_, [member](const auto& one) { return one && one->member == member; });
  if (place == places_.end()) return;
  static constexpr std::array<std::byte, kListEntryBytes> kFree{};
  if (const Status written = write(static_cast<std::size_t>(place - places_.begin()), kFree); !written) {
    log_line(LogLevel::kWarn, "service_members", written.error().message);
  }
  place->reset();
}

Result<FileDescriptor> MemberList::life(std::uint64_t member) const {
  // Opened anew, for a lock of its own; by descriptor, for somebody may have removed the name.
  const std::string self = fmt::format("/proc/self/fd/{}", file_.get());
  FileDescriptor life(::open(self.c_str(), O_RDONLY | O_CLOEXEC));
  if (!life) return failed(path_, errno);
  struct flock lock = lock_of(member, 1, F_RDLCK);
  if (::fcntl(life.get(), F_OFD_SETLK, &lock) != 0) return failed(path_, errno);
  return life;
}

// ---- processes

std::string boot_id() {
  std::string id;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), id);
  return id.substr(0, kBootBytes);
}

std::uint64_t own_pid_namespace() {
  struct stat about{};
  return ::stat("/proc/self/ns/pid", &about) == 0 ? about.st_ino : 0;
}

std::uint64_t start_time_of(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  if (!std::getline(file, line)) return 0;
  const std::size_t name_end = line.rfind(')');  // the name may hold anything
  if (name_end == std::string::npos) return 0;
  constexpr int kFieldsBetween = 19;  // field 3 is the first after the name
  std::size_t at = name_end + 1;
  for (int field = 0; field < kFieldsBetween && at != std::string::npos; ++field) at = line.find(' ', at + 1);
  return at == std::string::npos ? 0 : std::strtoull(line.c_str() + at, nullptr, 10);
}

}  // namespace tiercel::service
