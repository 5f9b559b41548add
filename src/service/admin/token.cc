#include "service/admin/token.h"

#include "config/setting_value.h"
#include "io/file_descriptor.h"
#include "model/sha256.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>
#include <system_error>

namespace tiercel::service {
namespace {

constexpr std::string_view kKey = "http.admin_token_file";

tl::unexpected<Error> wrong(const std::string& path, std::string_view what) {
  return fail(ErrorCode::kInvalidArgument, fmt::format("{}: {} {}", kKey, config::shown(path), what));
}

BlockHash digest_of(std::string_view text) {
  Sha256 hasher;
  hasher.raw(std::as_bytes(std::span(text)));
  return hasher.finish();
}

}  // namespace

Result<AdminToken> AdminToken::read(const std::string& path) {
  // Non-blocking, so that a FIFO without a writer cannot hold the start.
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file) {
    const int error = errno;
    return fail(error == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
                fmt::format("{}: {}: {}", kKey, config::shown(path), std::generic_category().message(error)), error);
  }
  struct stat about{};
  if (::fstat(file.get(), &about) != 0 || !S_ISREG(about.st_mode)) return wrong(path, "is not a regular file");
  if (about.st_uid != ::geteuid() && about.st_uid != 0) {
    return wrong(
        path, fmt::format("belongs to user {}; it must be this service's ({}) or root's", about.st_uid, ::geteuid()));
  }
  if ((about.st_mode & 077U) != 0) {
    return wrong(path, fmt::format("has mode {:04o}: others can read it; set it to 0600", about.st_mode & 07777U));
  }
  std::array<char, kLongest + 3> text{};
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = ::read(file.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(ErrorCode::kIo, fmt::format("{}: {} cannot be read", kKey, config::shown(path)), errno);
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  std::string_view token(text.data(), size);
  if (token.ends_with('\n')) token.remove_suffix(1);
  if (token.ends_with('\r')) token.remove_suffix(1);
  const bool visible = std::ranges::all_of(token, [](char c) { return c > ' ' && c < '\x7f'; });
  if (token.size() < kShortest || token.size() > kLongest || !visible) {
    return wrong(path, fmt::format("holds no token: one line of {} to {} visible characters without spaces is needed, "
                                   "for example from `openssl rand -hex 32`",
                                   kShortest, kLongest));
  }
  return AdminToken(digest_of(token));
}

bool AdminToken::matches(std::string_view given) const {
  const BlockHash digest = digest_of(given);
  unsigned different = 0;
  for (std::size_t i = 0; i < digest.bytes.size(); ++i) {
    different |= std::to_integer<unsigned>(digest.bytes[i] ^ digest_.bytes[i]);
  }
  return different == 0;
}

std::uint64_t FailureLimit::wait_ns(std::uint64_t now_ns) const {
  const MutexLock lock(mutex_);
  if (failures_ < kMost || now_ns - began_ns_ >= kWindowNs) return 0;
  return kWindowNs - (now_ns - began_ns_);
}

void FailureLimit::failed(std::uint64_t now_ns) {
  const MutexLock lock(mutex_);
  if (failures_ == 0 || now_ns - began_ns_ >= kWindowNs) {
    began_ns_ = now_ns;
    failures_ = 0;
  }
  ++failures_;
}

}  // namespace tiercel::service
