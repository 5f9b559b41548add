// launch: starts a program as a process of its own, from inside an engine.
//
// The engine has threads, perhaps a GPU's driver, a terminal, children and handlers of its own, and none of it may be
// disturbed or inherited. So no fork(): two processes are made that share this one's memory while its calling thread is
// stopped (as vfork, as posix_spawn), and between clone and exec there are system calls alone: no allocation, no lock,
// no fork handler, no signal handler (all signals are blocked meanwhile).
//
//   caller --clone--> between --clone--> service
//                     setsid             cwd /, default signal handlers, nothing blocked,
//                     exit               descriptors 0-4 as given and no others, exec
//
// "between" becomes the leader of a new session and ends at once, so that the service is nobody's in the engine: not
// its child (no SIGCHLD, nothing for wait(-1) to find), not of its terminal (no Ctrl-C), not traced with it. What ends
// the service is adopted by init, or by the engine where that is process 1 of its container. "between" itself ends
// without a signal and is waited for here; plain wait calls of other threads do not see it (__WCLONE).
//
// Inherited: user, groups, limits (memlock, open files), control group, namespaces, niceness. The rest the service
// undoes itself (cli/private_service.h). Four system calls for the caller and about 75 in the service before its exec.
#pragma once

#include "io/file_descriptor.h"

#include <tiercel/result.h>

#include <sys/types.h>

#include <array>
#include <string>
#include <vector>

namespace tiercel::service::start {

struct Command {
  std::string program;                   ///< an absolute path
  std::vector<std::string> arguments;    ///< the program's name first
  std::vector<std::string> environment;  ///< "NAME=value"
};

struct Launched {
  pid_t pid = 0;
  FileDescriptor process;  ///< pidfd: readable when it has ended
};

/// `descriptors` become 0, 1, 2, ... of the new process. kIo: it could not be made, or the program cannot be run.
[[nodiscard]] Result<Launched> launch(const Command& command, const std::array<int, 5>& descriptors);

}  // namespace tiercel::service::start
