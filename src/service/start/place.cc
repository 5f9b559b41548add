#include "service/start/place.h"

#include "io/file_descriptor.h"
#include "model/sha256.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

namespace tiercel::service::start {
namespace {

bool is_directory(const std::string& path) {
  struct stat about{};
  return ::stat(path.c_str(), &about) == 0 && S_ISDIR(about.st_mode);
}

std::string directory_of(const std::string& socket) {
  const std::size_t slash = socket.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : socket.substr(0, slash);
}

}  // namespace

std::string absolute(const std::string& path) {
  std::error_code error;
  const auto whole = std::filesystem::absolute(path, error);
  return error ? path : whole.lexically_normal().string();
}

std::string socket_name(const StartOptions& start) {
  if (start.program.empty() && start.config.empty() && start.arguments.empty()) return "private.sock";
  Sha256 hash;
  hash.text(start.program.empty() ? "" : absolute(start.program));
  hash.text(start.config.empty() ? "" : absolute(start.config));
  for (const std::string& argument : start.arguments) hash.text(argument);
  return fmt::format("private-{}.sock", to_hex(hash.finish()).substr(0, 16));
}

std::string private_directory() {
  const char* run = std::getenv("XDG_RUNTIME_DIR");
  if (run != nullptr && *run == '/' && is_directory(run)) return std::string(run) + "/tiercel";
  return fmt::format("/tmp/tiercel-{}", ::geteuid());
}

Status prepare_directory(const std::string& socket) {
  const std::string directory = directory_of(socket);
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    const int error = errno;
    return fail(ErrorCode::kIo, fmt::format("making the directory {}: {}", directory, strerror(error)), error);
  }
  // Not through a symbolic link: its target may be anybody's choice.
  const FileDescriptor opened(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat about{};
  if (!opened || ::fstat(opened.get(), &about) != 0) {
    const int error = errno;
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{} cannot hold the socket of a private service: {}; remove it, or name another socket",
                            directory, error == ENOTDIR || error == ELOOP ? "it is no directory" : strerror(error)),
                error);
  }
  if (about.st_uid != ::geteuid()) {
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("{} belongs to user {}, not to user {}: a private service is neither started nor used there; "
                    "set XDG_RUNTIME_DIR, or name another socket",
                    directory, about.st_uid, ::geteuid()));
  }
  if ((about.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("others may write into {} (mode {:04o}): a private service is neither started nor used "
                            "there; chmod go-w {}",
                            directory, about.st_mode & 07777U, directory));
  }
  return {};
}

}  // namespace tiercel::service::start

namespace tiercel {

std::string private_socket_path(const StartOptions& start) {
  return service::start::private_directory() + "/" + service::start::socket_name(start);
}

}  // namespace tiercel
