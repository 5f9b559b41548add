#include "service/start/launch.h"

#include "base/try.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

// The C library's clone under the name that sanitizers leave alone: what they would do after it is meant for a process
// with a memory of its own.
extern "C" int __clone(int (*function)(void*), void* stack, int flags, void* argument, ...);  // NOLINT

namespace tiercel::service::start {
namespace {

constexpr std::size_t kStackBytes = 64 << 10U;
constexpr int kFirstFree = 16;  // copies of descriptors lie above those that they will become
constexpr unsigned kSignals = 64;
constexpr std::size_t kSignalBytes = kSignals / 8;  // of the kernel's set

/// What the caller and both processes share.
struct Plan {
  const char* program = nullptr;
  char* const* arguments = nullptr;
  char* const* environment = nullptr;
  std::array<int, 5> descriptors{};
  void* second_stack = nullptr;
  pid_t pid = -1;
  int process = -1;  // pidfd
  int error = 0;     // of the clone or of the exec
};

#define TIERCEL_BARE __attribute__((no_sanitize("address", "thread", "undefined")))

/// Below: system calls alone (syscall() itself is one instruction and errno, which is the stopped thread's).
TIERCEL_BARE void close_from(int first) {
  if (::syscall(SYS_close_range, first, ~0U, 0) == 0) return;
  struct {
    std::uint64_t now = 0;
    std::uint64_t most = 0;
  } files;  // rlimit64
  if (::syscall(SYS_prlimit64, 0, 7 /* RLIMIT_NOFILE */, nullptr, &files) != 0) files.most = 1024;
  const std::uint64_t most = files.most < 1'048'576 ? files.most : 1'048'576;
  for (std::uint64_t i = static_cast<std::uint64_t>(first); i < most; ++i) ::syscall(SYS_close, i);
}

TIERCEL_BARE int run_service(void* shared) {
  Plan& plan = *static_cast<Plan*>(shared);
  ::syscall(SYS_chdir, "/");
  const std::uint64_t standard[4] = {};  // the kernel's sigaction: SIG_DFL, no flags
  for (unsigned signal = 1; signal <= kSignals; ++signal) {
    ::syscall(SYS_rt_sigaction, signal, standard, nullptr, kSignalBytes);
  }
  int number = 0;
  for (const int descriptor : plan.descriptors) ::syscall(SYS_dup3, descriptor, number++, 0);
  close_from(number);
  const std::uint64_t none = 0;
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, kSignalBytes);
  ::syscall(SYS_execve, plan.program, plan.arguments, plan.environment);
  plan.error = errno;
  return 127;
}

TIERCEL_BARE int run_between(void* shared) {
  Plan& plan = *static_cast<Plan*>(shared);
  ::syscall(SYS_setsid);
  plan.pid = __clone(run_service, plan.second_stack, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_UNTRACED | SIGCHLD,
                     shared, &plan.process);
  if (plan.pid < 0) plan.error = errno;
  return 0;
}

/// Runs both, with everything blocked that could run in the new processes or tear this thread away.
int run(Plan& plan, void* stack) {
  int cancelling = 0;
  (void)::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelling);
  const std::uint64_t all = ~std::uint64_t{0};  // also those that the C library keeps for itself
  std::uint64_t before = 0;
  (void)::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, kSignalBytes);
  // CLONE_FILES: the pidfd of the service is put into this process's table. No signal at its end (the low byte).
  const int between = __clone(run_between, stack, CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_UNTRACED, &plan);
  const int error = between < 0 ? errno : 0;
  if (between > 0) {
    while (::waitpid(between, nullptr, static_cast<int>(__WCLONE)) < 0 && errno == EINTR) {
    }
  }
  (void)::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, nullptr, kSignalBytes);
  (void)::pthread_setcancelstate(cancelling, nullptr);
  return error;
}

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> list;
  list.reserve(words.size() + 1);
  for (const std::string& word : words) list.push_back(const_cast<char*>(word.c_str()));  // NOLINT: execve's type
  list.push_back(nullptr);
  return list;
}

class Stacks {
 public:
  Stacks()
      : memory_(
            ::mmap(nullptr, 2 * kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0)) {}
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;
  ~Stacks() {
    if (*this) (void)::munmap(memory_, 2 * kStackBytes);
  }
  [[nodiscard]] explicit operator bool() const noexcept { return memory_ != MAP_FAILED; }
  /// They grow down.
  [[nodiscard]] void* first() const noexcept { return static_cast<char*>(memory_) + kStackBytes; }
  [[nodiscard]] void* second() const noexcept { return static_cast<char*>(memory_) + 2 * kStackBytes; }

 private:
  void* memory_;
};

}  // namespace

Result<Launched> launch(const Command& command, const std::array<int, 5>& descriptors) {
  const auto failed = [&](int error) {
    return fail(ErrorCode::kIo, fmt::format("{} could not be started: {}", command.program, strerror(error)), error);
  };
  Plan plan;
  std::array<FileDescriptor, 5> copies;
  for (std::size_t i = 0; i < descriptors.size(); ++i) {
    copies[i] = FileDescriptor(::fcntl(descriptors[i], F_DUPFD_CLOEXEC, kFirstFree));
    if (!copies[i]) return failed(errno);
    plan.descriptors[i] = copies[i].get();
  }
  const std::vector<char*> arguments = pointers(command.arguments);
  const std::vector<char*> environment = pointers(command.environment);
  const Stacks stacks;
  if (!stacks) return failed(errno);
  plan.program = command.program.c_str();
  plan.arguments = arguments.data();
  plan.environment = environment.data();
  plan.second_stack = stacks.second();
  const int error = run(plan, stacks.first());
  Launched launched{.pid = plan.pid, .process = FileDescriptor(plan.process)};
  if (error != 0) return failed(error);
  if (plan.error != 0) return failed(plan.error);
  return launched;
}

}  // namespace tiercel::service::start
