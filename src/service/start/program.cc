#include "service/start/program.h"

#include "base/try.h"
#include "service/start/place.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>

namespace tiercel::service::start {
namespace {

constexpr std::string_view kName = "tiercel";
constexpr std::array<std::string_view, 8> kKept = {"PATH", "HOME", "USER",   "LOGNAME",
                                                   "LANG", "TZ",   "TMPDIR", "XDG_RUNTIME_DIR"};
constexpr std::string_view kServersKey = "TIERCEL_API_KEY";  // what clients of tiercel-llama must send

bool can_run(const std::string& path) {
  struct stat about{};
  return ::stat(path.c_str(), &about) == 0 && S_ISREG(about.st_mode) && ::access(path.c_str(), X_OK) == 0;
}

/// The folder of the file that a path leads to, or "".
std::string folder_of(const std::filesystem::path& file) {
  std::error_code error;
  const auto real = std::filesystem::canonical(file, error);
  return error ? std::string() : real.parent_path().string();
}

/// Beside the library that this code is in, and beside the program that has loaded it.
std::vector<std::string> folders_of_ours() {
  std::vector<std::string> folders;
  Dl_info about{};
  if (::dladdr(reinterpret_cast<const void*>(&find_program), &about) != 0 && about.dli_fname != nullptr) {
    folders.push_back(folder_of(about.dli_fname));
  }
  folders.push_back(folder_of("/proc/self/exe"));
  std::erase(folders, "");
  return folders;
}

std::vector<std::string> folders_of_path() {
  std::vector<std::string> folders;
  const char* path = std::getenv("PATH");
  std::string_view rest = path == nullptr ? "" : path;
  while (!rest.empty()) {
    const std::string_view folder = rest.substr(0, rest.find(':'));
    if (folder.starts_with('/')) folders.emplace_back(folder);  // others depend on where the engine happens to be
    rest.remove_prefix(std::min(rest.size(), folder.size() + 1));
  }
  return folders;
}

Result<std::string> named(const std::string& path, std::string_view by) {
  std::string whole = absolute(path);
  if (can_run(whole)) return whole;
  return fail(ErrorCode::kNotFound, fmt::format("{}: {} is no program that can be run", by, whole));
}

}  // namespace

Result<std::string> find_program(const StartOptions& start) {
  if (!start.program.empty()) return named(start.program, "the program of a private service");
  if (const char* variable = std::getenv("TIERCEL_PROGRAM"); variable != nullptr && *variable != '\0') {
    return named(variable, "TIERCEL_PROGRAM");
  }
  std::vector<std::string> looked;
  for (const std::string& folder : folders_of_ours()) {
    for (const std::string_view way : {"", "bin/", "../bin/", "../../bin/"}) {
      std::string path = std::filesystem::path(fmt::format("{}/{}{}", folder, way, kName)).lexically_normal().string();
      if (can_run(path)) return path;
    }
    looked.push_back(folder);
  }
  for (const std::string& folder : folders_of_path()) {
    std::string path = fmt::format("{}/{}", folder, kName);
    if (can_run(path)) return path;
  }
  return fail(ErrorCode::kNotFound,
              fmt::format("the program `{}`, which serves the cache, is neither beside {} nor in PATH; install it, or "
                          "name it in TIERCEL_PROGRAM",
                          kName, fmt::join(looked, " and ")));
}

std::vector<std::string> clean_environment() {
  std::vector<std::string> kept;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view pair = *entry;
    const std::string_view name = pair.substr(0, pair.find('='));
    const bool ours = name.starts_with("TIERCEL_") && name != kServersKey;
    if (ours || name.starts_with("LC_") || std::ranges::find(kKept, name) != kKept.end()) kept.emplace_back(pair);
  }
  return kept;
}

Result<Command> command_of(const StartOptions& start, const std::string& socket) {
  Command command;
  TIERCEL_TRY_ASSIGN(command.program, find_program(start));
  command.arguments = {std::string(kName), "serve",          "--private", "--started",
                       "--service-socket", absolute(socket), "--log",     log_path(absolute(socket))};
  if (!start.config.empty()) command.arguments.insert(command.arguments.end(), {"--config", absolute(start.config)});
  command.arguments.insert(command.arguments.end(), start.arguments.begin(), start.arguments.end());
  command.environment = clean_environment();
  return command;
}

}  // namespace tiercel::service::start
