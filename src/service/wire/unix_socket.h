// Unix stream sockets: listening on a path, connecting to one, descriptors beside bytes, who is at the other end.
// Functions without state; every descriptor is close-on-exec.
#pragma once

#include "io/file_descriptor.h"

#include <tiercel/result.h>

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace tiercel::wire {

struct Listening {
  FileDescriptor socket;  ///< non-blocking
  FileDescriptor lock;    ///< held while the path is ours
};

struct ListenOptions {
  std::string path;
  std::string group;        ///< empty: the owner alone may connect (mode 0600); else this group too (0660)
  bool owner_only = false;  ///< the group may enter the directory that is made, and the owner alone may connect
};

/// Makes the directory (mode 0700, or 0750 of the group) where it is missing, takes PATH.lock and replaces what a dead
/// service left at the path. kInvalidArgument: too long a path, or something that is no socket lies there; kLimit:
/// another service listens there (its process id is in the sentence).
[[nodiscard]] Result<Listening> listen_at(const ListenOptions& options);
/// The first half: the directory and the lock. Whoever has it is the one service of this path.
[[nodiscard]] Result<FileDescriptor> take_path(const ListenOptions& options);
/// The second half.
[[nodiscard]] Result<Listening> listen_at(const ListenOptions& options, FileDescriptor lock);

/// Does somebody hold PATH.lock: a service that listens, or that has stopped listening and not ended yet?
[[nodiscard]] bool is_taken(const std::string& path);

/// Connects without waiting (a Unix socket connects at once or not at all). kNotFound: nobody is there; kLimit: its
/// queue of connections is full; kIo: anything else.
[[nodiscard]] Result<FileDescriptor> connect_to(const std::string& path);

/// Sends all of `bytes` and the descriptors. For small messages on a new connection. kIo.
[[nodiscard]] Status send_with_descriptors(int socket, std::span<const std::byte> bytes,
                                           std::span<const int> descriptors);

struct Received {
  std::size_t bytes = 0;  ///< 0: the other end is closed
  std::vector<FileDescriptor> descriptors;
};
/// One recvmsg of at most `into.size()` bytes and 4 descriptors. Empty: nothing there yet (of a non-blocking socket).
[[nodiscard]] Result<std::optional<Received>> receive_with_descriptors(int socket, std::span<std::byte> into);

struct Peer {
  pid_t pid = 0;  ///< 0 where it is not visible from here
  uid_t uid = 0;
  gid_t gid = 0;
};
[[nodiscard]] Result<Peer> peer_of(int socket);

/// A descriptor that becomes readable when this process has ended.
[[nodiscard]] Result<FileDescriptor> own_pidfd();
/// The process that a pidfd names, as this process sees it (0: not visible); empty: it is no pidfd.
[[nodiscard]] std::optional<pid_t> process_of(int pidfd);

}  // namespace tiercel::wire
