#include "service/start/failure.h"

#include "base/clock.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>

namespace tiercel::service::start {
namespace {

constexpr std::size_t kLongestSentence = 4096;

std::string path_of(const std::string& socket) { return socket + ".failed"; }

}  // namespace

std::optional<Failure> last_failure(const std::string& socket) {
  std::ifstream file(path_of(socket));
  Failure failure;
  unsigned code = 0;
  if (!std::getline(file, failure.number) || failure.number.empty() || !(file >> code)) return std::nullopt;
  file.ignore(1);
  failure.error.message.assign(std::istreambuf_iterator<char>(file), {});
  failure.error.message.resize(std::min(failure.error.message.size(), kLongestSentence));
  const unsigned last = static_cast<unsigned>(ErrorCode::kIncomplete);
  failure.error.code = code >= 1 && code <= last ? static_cast<ErrorCode>(code) : ErrorCode::kIo;
  return failure;
}

/// Best effort: on a full disk those who waited try themselves.
void note_failure(const std::string& socket, const Error& error) {
  const std::string path = path_of(socket);
  const std::string draft = path + ".new";
  {
    std::ofstream file(draft, std::ios::trunc);
    file << fmt::format("{}.{}\n{}\n", ::getpid(), SteadyClock().now_ns(), static_cast<unsigned>(error.code))
         << error.message;
    if (!file.flush()) return;
  }
  (void)std::rename(draft.c_str(), path.c_str());
}

void forget_failure(const std::string& socket) { (void)::unlink(path_of(socket).c_str()); }

}  // namespace tiercel::service::start
