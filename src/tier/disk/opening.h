// Opening: makes a directory's disk file ready for use: lock, creation, superblock, boot epoch, change of size.
//
// Steps that the driver thread takes: reads and writes are waited for between steps, control calls of the system (open,
// allocate, lock, rename) block it. A new file gets its name only when it is whole. A file that is not ours, of another
// version or damaged is never written, unless `reset`. What is left of an earlier size is read, carried over and
// switched to by the superblock (resize.h). After success, take() has the file; the header table is Recovery's to read.
//
// Errors, each a sentence with what to do: kLimit another process has the file (its id), or its boots are counted out;
// kUnsupported another version; kCorrupt damaged or foreign; kNotFound no such directory; kInvalidArgument sizes;
// kIo (also too little space, permissions; errno) and kTimeout may go away by themselves: open again later.
#pragma once

#include "io/file_system.h"
#include "tier/disk/io_sequence.h"
#include "tier/disk/metadata.h"

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace tiercel::disk {

struct OpenRequest {
  std::string directory;
  std::uint64_t capacity = 0;  ///< bytes of data, cut to whole extents
  std::uint64_t extent_bytes = std::uint64_t{64} << 20U;
  std::uint64_t min_slot_bytes = std::uint64_t{256} << 10U;
  std::uint32_t max_namespaces = 4096;
  std::uint32_t log_pages = kDefaultLogPages;
  std::uint32_t depth = 64;  ///< IO operations that the File may have in flight
  std::uint64_t io_deadline_ns = 10'000'000'000;
  bool reset = false;       ///< remove what is there first
  bool must_exist = false;  ///< where there is no file none is made: its disk is not mounted
  bool direct = true;
  std::uint64_t* ended_operations = nullptr;  ///< counts them, where wanted; as long as the File is polled
};

/// An open disk file. The lock goes last.
struct OpenedFile {
  std::unique_ptr<FileLock> lock;
  std::unique_ptr<File> file;
  std::shared_ptr<Metadata> metadata;  ///< its region is still to be read
  bool created = false;
  bool was_clean = false;        ///< it was closed in order before
  std::uint64_t lost_slots = 0;  ///< blocks that a smaller file had no room for
};

[[nodiscard]] std::string file_path(const std::string& directory);
[[nodiscard]] std::string lock_path(const std::string& directory);

/// Two superblock copies, and which counts.
struct SuperblockChoice {
  Superblock superblock;
  std::uint32_t copy = 0;
  bool other_is_good = false;
};
/// `pages`: the two copies. The sentence of an error says what to do.
[[nodiscard]] Result<SuperblockChoice> choose_superblock(std::span<const std::byte, 2 * kPageBytes> pages,
                                                         const std::string& path);

class Opening {
 public:
  Opening(OpenRequest request, FileSystem& files, const Clock& clock);

  /// Takes a step, waiting at most `wait_ns` for an operation. True: ended.
  bool step(std::uint64_t wait_ns);
  [[nodiscard]] bool ended() const noexcept { return sequence_.ended(); }
  /// Takes no further step, as a crash would: step() is called until what is in flight has ended, then the Opening may
  /// go. It has no status.
  void stop() noexcept { stopped_ = true; }
  [[nodiscard]] const Status& status() noexcept { return sequence_.status(); }
  /// After success, once.
  [[nodiscard]] OpenedFile take() { return std::move(opened_); }
  /// After an error: operations that still run. The Opening must live, and step() be called, until there are none.
  [[nodiscard]] std::uint32_t in_flight() const noexcept { return opened_.file ? opened_.file->in_flight() : 0; }
  void wake() noexcept {
    if (opened_.file) opened_.file->wake();
  }

 private:
  [[nodiscard]] Steps<Status> open();
  [[nodiscard]] Steps<Status> create();
  [[nodiscard]] Steps<Status> open_existing();
  [[nodiscard]] Steps<Status> read_superblock(SuperblockChoice* choice);
  [[nodiscard]] Steps<Status> begin_epoch(SuperblockChoice* choice);
  [[nodiscard]] Steps<Status> change_size();
  [[nodiscard]] Status open_file(const std::string& path, const OpenOptions& options);
  [[nodiscard]] Status make_whole(const Layout& layout);
  [[nodiscard]] Status check_space(const Layout& layout) const;
  [[nodiscard]] std::array<std::byte, 16> new_uuid() const;
  void log_differences(const Shape& shape) const;

  const OpenRequest request_;
  FileSystem& files_;
  const Clock& clock_;
  OpenedFile opened_;
  IoPort port_;
  Sequence sequence_;
  bool stopped_ = false;
};

}  // namespace tiercel::disk
