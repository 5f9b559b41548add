// MemberList: which arena a service serves and which processes may still use it, in a file beside the socket
// (PATH.arena) that outlives the service: so that a new run can adopt the arena and knows for whom to wait.
//
// The service alone writes it, before a member gets the arena, one record a write (docs/formats.md), so that it is true
// at whatever instruction the service is killed. Each member also gets a *life descriptor*: it holds a lock on the
// byte of its number in that file, which the kernel ends when the member has closed it (nothing of the arena is mapped
// for it any more) or is gone: so its end shows also where its process id means nothing, in another container.
// A record that is not understood makes the whole list one: nobody guesses. One thread at a time.
#pragma once

#include "io/file_descriptor.h"

#include <tiercel/result.h>

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace tiercel::service {

struct ArenaFacts {
  std::uint64_t arena = 0;  ///< random, for as long as its memory lives
  std::uint64_t epoch = 0;  ///< counts the runs that served at this path
  std::uint64_t bytes = 0;
  std::uint64_t extent_bytes = 0;
  std::uint64_t min_slot_bytes = 0;
  std::uint64_t device = 0;  ///< of the memfd, as is the inode
  std::uint64_t inode = 0;
  std::string boot;  ///< the kernel's boot id
  bool operator==(const ArenaFacts&) const = default;
};

struct ListedMember {
  std::uint64_t member = 0;         ///< never 0; no two of an arena are the same
  std::uint64_t token = 0;          ///< that proves a later connection to be this member's
  std::uint64_t start_time = 0;     ///< of its process, field 22 of /proc/PID/stat; 0: not known
  std::uint64_t pid_namespace = 0;  ///< in which the service saw `pid`: the inode of /proc/self/ns/pid
  pid_t pid = 0;                    ///< 0: not visible
  bool operator==(const ListedMember&) const = default;
};

inline constexpr std::size_t kListHeadBytes = 128;
inline constexpr std::size_t kListEntryBytes = 64;
inline constexpr std::size_t kMostListed = 16'384;

[[nodiscard]] std::array<std::byte, kListHeadBytes> encode(const ArenaFacts& facts) noexcept;
[[nodiscard]] std::array<std::byte, kListEntryBytes> encode(const ListedMember& member) noexcept;

struct DecodedList {
  ArenaFacts facts;
  std::vector<std::optional<ListedMember>> places;  ///< empty ones are free
};
/// kCorrupt, with what is wrong: bytes that no service has written.
[[nodiscard]] Result<DecodedList> decode_list(std::span<const std::byte> bytes);

class MemberList {
 public:
  /// The list at `path`; empty: there is none, or it is of another boot. kCorrupt as decode_list; kIo.
  [[nodiscard]] static Result<std::optional<MemberList>> find(const std::string& path);
  /// A new list without members, in place of what is there.
  [[nodiscard]] static Result<MemberList> create(const std::string& path, ArenaFacts facts);
  /// Does anybody hold a life descriptor of the list at `path`, listed or not?
  [[nodiscard]] static bool anybody_lives(const std::string& path);

  [[nodiscard]] const ArenaFacts& facts() const noexcept { return facts_; }
  [[nodiscard]] std::vector<ListedMember> members() const;
  [[nodiscard]] bool lives(std::uint64_t member) const;

  /// Another run serves the same arena.
  Status begin_epoch();
  /// kLimit: there are kMostListed. kIo: it is not written, and the member must not get the arena.
  Status add(const ListedMember& member);
  /// It can touch the arena no more. Where that cannot be written a new run waits for one who is gone.
  void remove(std::uint64_t member) noexcept;
  /// A descriptor for the member to keep as long as it may touch the arena.
  [[nodiscard]] Result<FileDescriptor> life(std::uint64_t member) const;

 private:
  Status write(std::size_t place, std::span<const std::byte> record) const;

  FileDescriptor file_;
  std::string path_;
  ArenaFacts facts_;
  std::vector<std::optional<ListedMember>> places_;
};

/// Of this boot; empty where the system does not say.
[[nodiscard]] std::string boot_id();
[[nodiscard]] std::uint64_t own_pid_namespace();
/// Field 22 of /proc/PID/stat: clock ticks since boot. 0: not known.
[[nodiscard]] std::uint64_t start_time_of(pid_t pid);

}  // namespace tiercel::service
