#include "model/digest_cache.h"

#include "base/log.h"
#include "model/sha256.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>

namespace tiercel {
namespace {

constexpr std::size_t kMostEntryBytes = 512;  // an entry has about 250

std::int64_t nanoseconds(const timespec& time) noexcept {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

std::string hex_digest(std::string_view text) {
  Sha256 sha;
  sha.raw(std::as_bytes(std::span(text.data(), text.size())));
  return to_hex(sha.finish());
}

std::optional<BlockHash> from_hex(std::string_view text) {
  BlockHash hash;
  if (text.size() != 2 * hash.bytes.size()) return std::nullopt;
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (std::size_t i = 0; i < hash.bytes.size(); ++i) {
    const std::size_t high = kDigits.find(text[2 * i]);
    const std::size_t low = kDigits.find(text[2 * i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
    hash.bytes[i] = static_cast<std::byte>(high * 16 + low);
  }
  return hash;
}

std::string identity_line(const FileIdentity& file) {
  return fmt::format("tiercel-digest 1\n{} {} {} {} {}\n", file.device, file.inode, file.size_bytes, file.modified_ns,
                     file.changed_ns);
}

/// Only a file that this user alone could have written is believed.
bool is_ours(int fd) noexcept {
  struct stat status{};
  return ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == ::geteuid() &&
         (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

bool write_all(int fd, std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t wrote = ::write(fd, text.data(), text.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(wrote));
  }
  return true;
}

void complain(const std::string& directory, int number) {
  log_line(LogLevel::kWarn, "digest_cache",
           fmt::format("file digests are not kept: {}: {}; files are read again at the next start", directory,
                       std::generic_category().message(number)));
}

}  // namespace

FileIdentity identity_of(const struct stat& status) noexcept {
  return {.device = status.st_dev,
          .inode = status.st_ino,
          .size_bytes = static_cast<std::uint64_t>(status.st_size),
          .modified_ns = nanoseconds(status.st_mtim),
          .changed_ns = nanoseconds(status.st_ctim)};
}

std::string digest_cache_path(const std::string& directory, const FileIdentity& file) {
  return fmt::format("{}/tiercel-digest-{:x}-{:x}", directory, file.device, file.inode);
}

std::string encode_digest_entry(const FileIdentity& file, const BlockHash& digest) {
  const std::string text = identity_line(file) + to_hex(digest) + "\n";
  return text + hex_digest(text) + "\n";
}

std::optional<BlockHash> decode_digest_entry(std::string_view text, const FileIdentity& file) {
  const std::string identity = identity_line(file);
  if (!text.starts_with(identity)) return std::nullopt;
  const auto digest = from_hex(text.substr(identity.size(), 64));
  // Whole, in every byte: what encode writes for this digest is this text.
  if (!digest || encode_digest_entry(file, *digest) != text) return std::nullopt;
  return digest;
}

std::optional<BlockHash> read_digest_cache(const std::string& directory, const FileIdentity& file) {
  const int fd = ::open(digest_cache_path(directory, file).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return std::nullopt;
  std::array<char, kMostEntryBytes> text{};
  const ssize_t size = is_ours(fd) ? ::read(fd, text.data(), text.size()) : -1;
  ::close(fd);
  if (size < 0) return std::nullopt;
  return decode_digest_entry({text.data(), static_cast<std::size_t>(size)}, file);
}

void write_digest_cache(const std::string& directory, const FileIdentity& file, const BlockHash& digest) {
  std::error_code ignored;  // what cannot be created shows below
  std::filesystem::create_directories(std::filesystem::path(directory).parent_path(), ignored);
  ::mkdir(directory.c_str(), S_IRWXU);
  std::string draft = directory + "/.tiercel-digest-XXXXXX";
  const int fd = ::mkostemp(draft.data(), O_CLOEXEC);  // mode 0600
  if (fd < 0) return complain(directory, errno);
  // No fsync: what a crash tears does not agree with its checksum.
  const bool written = write_all(fd, encode_digest_entry(file, digest));
  const int write_error = errno;
  ::close(fd);
  if (written && ::rename(draft.c_str(), digest_cache_path(directory, file).c_str()) == 0) return;
  complain(directory, written ? errno : write_error);
  ::unlink(draft.c_str());
}

}  // namespace tiercel
