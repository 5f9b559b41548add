// What file_digest keeps: the SHA-256 of a file under the identity that it had when it was read.
//
// One small text file for each (device, inode), readable by its owner only, written beside and renamed into place.
// An entry that is torn, foreign (another owner, writable by others, a link) or of another state of the file is as good
// as none. Nothing here is an error: a cache that cannot be read or written costs a second reading and a line in the
// log.
#pragma once

#include <tiercel/block.h>

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tiercel {

/// What changes when a file's bytes do.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size_bytes = 0;
  std::int64_t modified_ns = 0;
  std::int64_t changed_ns = 0;  ///< ctime: also moves when mtime is set back
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

[[nodiscard]] FileIdentity identity_of(const struct stat& status) noexcept;

/// "tiercel-digest-DEVICE-INODE" in `directory`.
[[nodiscard]] std::string digest_cache_path(const std::string& directory, const FileIdentity& file);

/// The text of an entry; its last line is the SHA-256 of the lines before.
[[nodiscard]] std::string encode_digest_entry(const FileIdentity& file, const BlockHash& digest);

/// The digest in `text` if it is a whole entry of exactly this file.
[[nodiscard]] std::optional<BlockHash> decode_digest_entry(std::string_view text, const FileIdentity& file);

[[nodiscard]] std::optional<BlockHash> read_digest_cache(const std::string& directory, const FileIdentity& file);

/// Creates `directory` (0700) if it does not exist.
void write_digest_cache(const std::string& directory, const FileIdentity& file, const BlockHash& digest);

}  // namespace tiercel
