#include "tier/disk/opening.h"

#include "base/log.h"
#include "base/try.h"
#include "tier/disk/resize.h"
#include "tier/disk/superblock_io.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <fmt/format.h>

namespace tiercel::disk {

std::string file_path(const std::string& directory) { return directory + "/tiercel.kv"; }
std::string lock_path(const std::string& directory) { return file_path(directory) + ".lock"; }

namespace {

[[nodiscard]] std::string unfinished_path(const std::string& directory) { return file_path(directory) + ".new"; }

constexpr const char* kWhatToDo =
    "it is left as it is; name another directory, or make the file anew with disk.reset (--disk-reset), which loses "
    "what "
    "it holds";

/// Adds what a person can do about it.
[[nodiscard]] Error explained(Error error) {
  if (error.os_error == EACCES || error.os_error == EPERM) {
    error.message +=
        "; the user that this process runs as must own the directory and the files in it, or be able to "
        "write them";
  } else if (error.os_error == EROFS) {
    error.message += "; mount it writable, or name another directory";
  }
  return error;
}

[[nodiscard]] tl::unexpected<Error> refuse(ErrorCode code, const std::string& path, const std::string& why) {
  return fail(code, fmt::format("{}: {}; {}", path, why, kWhatToDo));
}

}  // namespace

Result<SuperblockChoice> choose_superblock(std::span<const std::byte, 2 * kPageBytes> pages, const std::string& path) {
  std::array<Superblock, 2> copies;
  std::array<Fault, 2> faults{};
  std::string contradiction;
  for (std::size_t copy = 0; copy < 2; ++copy) {
    faults[copy] = decode(ConstPageSpan(pages.data() + copy * kPageBytes, kPageBytes), copies[copy]);
    if (faults[copy] == Fault::kVersion) {
      return refuse(ErrorCode::kUnsupported, path,
                    "its format is of another version than 1 and 2, which this program reads");
    }
    if (faults[copy] == Fault::kPageSize) {
      return refuse(ErrorCode::kUnsupported, path, "its pages are not of 4096 bytes");
    }
    if (faults[copy] != Fault::kNone) continue;
    if (const auto layout = Layout::of(copies[copy]); !layout) {
      contradiction = layout.error().message;
      faults[copy] = Fault::kRange;
    }
  }
  const bool good_a = faults[0] == Fault::kNone;
  const bool good_b = faults[1] == Fault::kNone;
  if (!good_a && !good_b) {
    const auto foreign = [](Fault fault) { return fault == Fault::kMagic || fault == Fault::kEmpty; };
    if (foreign(faults[0]) && foreign(faults[1])) {
      return refuse(ErrorCode::kCorrupt, path, "it is not a disk file of Tiercel");
    }
    return refuse(ErrorCode::kCorrupt, path,
                  contradiction.empty() ? fmt::format("both copies of its superblock are damaged ({} and {})",
                                                      fault_name(faults[0]), fault_name(faults[1]))
                                        : contradiction);
  }
  const std::uint32_t copy = good_b && (!good_a || copies[1].sequence > copies[0].sequence) ? 1 : 0;
  return SuperblockChoice{.superblock = copies[copy], .copy = copy, .other_is_good = good_a && good_b};
}

Opening::Opening(OpenRequest request, FileSystem& files, const Clock& clock)
    : request_(std::move(request)),
      files_(files),
      clock_(clock),
      port_(clock, request_.io_deadline_ns, request_.ended_operations),
      sequence_(port_) {}

bool Opening::step(std::uint64_t wait_ns) {
  if (stopped_) {
    if (in_flight() > 0) opened_.file->poll(wait_ns);
    return in_flight() == 0;
  }
  if (!sequence_.begun()) {
    sequence_.begin(open());
    return sequence_.ended();
  }
  if (opened_.file) opened_.file->poll(sequence_.ended() ? wait_ns : port_.ready() ? 0 : wait_ns);
  return sequence_.step();
}

Steps<Status> Opening::open() {
  const std::string path = file_path(request_.directory);
  if (const auto space = files_.space(request_.directory); !space) {
    co_return tl::unexpected<Error>(explained(space.error()));
  }
  auto lock = files_.lock(lock_path(request_.directory));
  if (!lock) co_return tl::unexpected<Error>(explained(lock.error()));
  opened_.lock = std::move(*lock);
  const std::string unfinished = unfinished_path(request_.directory);
  const auto leftover = files_.exists(unfinished);
  if (leftover && *leftover) TIERCEL_CO_TRY(files_.remove(unfinished));
  auto exists = files_.exists(path);
  if (!exists) co_return tl::unexpected<Error>(explained(exists.error()));
  bool opened_empty = false;
  if (*exists && request_.reset) {
    TIERCEL_CO_TRY(files_.remove(path));
    exists = false;
  }
  if (*exists) {
    TIERCEL_CO_TRY(open_file(path, {.direct = request_.direct, .depth = request_.depth}));
    const auto size = opened_.file->backend().size();
    if (!size) co_return tl::unexpected<Error>(size.error());
    if (*size == 0) {
      opened_.file.reset();
      opened_empty = true;
      exists = false;  // somebody's touch, or all of it cut away: there is nothing to lose
    }
  }
  if (!*exists && request_.must_exist && !opened_empty) {
    co_return fail(ErrorCode::kNotFound,
                   path +
                       ": the file that was open is not there any more; is its disk mounted? It is looked for again, "
                       "and none is made before the next start");
  }
  Steps<Status> going_on = *exists ? open_existing() : create();
  const Status status = co_await going_on;
  co_return status;
}

Status Opening::open_file(const std::string& path, const OpenOptions& options) {
  auto backend = files_.open(path, options);
  if (!backend) return tl::unexpected<Error>(explained(std::move(backend).error()));
  opened_.file = std::make_unique<File>(std::move(*backend), clock_);
  port_.use(opened_.file.get());
  return {};
}

Status Opening::check_space(const Layout& layout) const {
  TIERCEL_TRY_ASSIGN(const FreeSpace space, files_.space(request_.directory));
  if (space.free_bytes >= layout.file_bytes()) return {};
  return fail(
      ErrorCode::kIo,
      fmt::format("{}: the file needs {} bytes (disk.capacity of {} and its metadata), and {} are free there",
                  request_.directory, layout.file_bytes(), layout.data_end() - layout.data_begin(), space.free_bytes),
      ENOSPC);
}

std::array<std::byte, 16> Opening::new_uuid() const {
  // Tells one file from another that has taken its place; it is no secret, and repeats where the clock does.
  const auto hash = XXH3_128bits_withSeed(request_.directory.data(), request_.directory.size(), clock_.now_ns());
  std::array<std::byte, 16> uuid{};
  std::memcpy(uuid.data(), &hash.low64, 8);
  std::memcpy(uuid.data() + 8, &hash.high64, 8);
  return uuid;
}

Steps<Status> Opening::create() {
  const Shape shape{.extents = request_.extent_bytes == 0 ? 0
                                                          : static_cast<std::uint32_t>(std::min<std::uint64_t>(
                                                                request_.capacity / request_.extent_bytes, UINT32_MAX)),
                    .extent_bytes = request_.extent_bytes,
                    .min_slot_bytes = request_.min_slot_bytes,
                    .max_namespaces = request_.max_namespaces,
                    .log_pages = request_.log_pages};
  if (shape.extents == 0) {
    co_return fail(ErrorCode::kInvalidArgument, fmt::format("disk.capacity: {} is less than one extent of {} bytes",
                                                            request_.capacity, request_.extent_bytes));
  }
  const auto layout = Layout::plan(shape);
  if (!layout) co_return tl::unexpected<Error>(layout.error());
  TIERCEL_CO_TRY(check_space(*layout));
  const std::string unfinished = unfinished_path(request_.directory);
  TIERCEL_CO_TRY(
      open_file(unfinished, {.create = true, .exclusive = true, .direct = request_.direct, .depth = request_.depth}));
  const Status allocated = opened_.file->backend().allocate(layout->file_bytes());
  if (!allocated) {
    (void)files_.remove(unfinished);
    co_return tl::unexpected<Error>(explained(allocated.error()));
  }
  SuperblockUpdate update{.superblock = {.uuid = new_uuid(), .sequence = 1, .boot_epoch = 1}, .copy = 0};
  layout->describe(update.superblock);
  Steps<Status> writing = write_both_superblocks(port_, update, &update);
  const Status written = co_await writing;
  TIERCEL_CO_TRY(written);
  TIERCEL_CO_TRY(files_.rename(unfinished, file_path(request_.directory)));
  auto metadata = Metadata::create(update.superblock, update.copy);
  if (!metadata) co_return tl::unexpected<Error>(metadata.error());
  opened_.metadata = std::move(*metadata);
  opened_.created = true;
  opened_.was_clean = true;
  co_return Status{};
}

Steps<Status> Opening::open_existing() {
  SuperblockChoice choice;
  Steps<Status> reading = read_superblock(&choice);
  const Status read = co_await reading;
  TIERCEL_CO_TRY(read);
  opened_.was_clean = choice.superblock.clean;
  auto layout = Layout::of(choice.superblock);
  if (!layout) co_return tl::unexpected<Error>(layout.error());
  TIERCEL_CO_TRY(make_whole(*layout));
  log_differences(layout->shape());
  Steps<Status> beginning = begin_epoch(&choice);
  const Status begun = co_await beginning;
  TIERCEL_CO_TRY(begun);
  auto metadata = Metadata::create(choice.superblock, choice.copy);
  if (!metadata) co_return tl::unexpected<Error>(metadata.error());
  opened_.metadata = std::move(*metadata);
  Steps<Status> changing = change_size();
  const Status changed = co_await changing;
  TIERCEL_CO_TRY(changed);
  // What a change of size left behind its end; both superblocks agree by now.
  const std::uint64_t bytes = opened_.metadata->layout().file_bytes();
  const auto size = opened_.file->backend().size();
  if (size && *size > bytes) TIERCEL_CO_TRY(opened_.file->backend().truncate(bytes));
  co_return Status{};
}

Steps<Status> Opening::read_superblock(SuperblockChoice* choice) {
  const std::string path = file_path(request_.directory);
  const auto size = opened_.file->backend().size();
  if (!size) co_return tl::unexpected<Error>(size.error());
  if (*size < 2 * kPageBytes) co_return refuse(ErrorCode::kCorrupt, path, "it is too short for a disk file of Tiercel");
  const auto buffer = page_buffer(2 * kPageBytes);
  const Pending reading = port_.read(0, {.data = buffer.get(), .bytes = 2 * kPageBytes}, buffer);
  const Status read = co_await port_.wait(reading);
  TIERCEL_CO_TRY(read);
  auto chosen = choose_superblock(std::span<const std::byte, 2 * kPageBytes>(buffer.get(), 2 * kPageBytes), path);
  if (!chosen) co_return tl::unexpected<Error>(chosen.error());
  if (!chosen->other_is_good) {
    log_line(LogLevel::kWarn, "disk_superblock",
             path + ": one copy of its superblock is damaged; the other one counts");
  }
  *choice = *chosen;
  co_return Status{};
}

/// A file that was cut off gets its length back: what is missing reads as zeros, which is empty.
Status Opening::make_whole(const Layout& layout) {
  TIERCEL_TRY_ASSIGN(const std::uint64_t size, opened_.file->backend().size());
  if (size >= layout.file_bytes()) return {};
  log_line(LogLevel::kWarn, "disk_truncated",
           fmt::format("{} was cut off at {} of {} bytes: what lay behind is lost", file_path(request_.directory), size,
                       layout.file_bytes()));
  return opened_.file->backend().allocate(layout.file_bytes());
}

/// A boot has a number of its own before it writes anything else. Both copies get it, so that losing one loses no
/// number.
Steps<Status> Opening::begin_epoch(SuperblockChoice* choice) {
  if (choice->superblock.boot_epoch + 1 >= kEpochEnd) {
    co_return refuse(ErrorCode::kLimit, file_path(request_.directory), "it was opened as often as it can count");
  }
  SuperblockUpdate update{.superblock = choice->superblock, .copy = 1 - choice->copy};
  ++update.superblock.sequence;
  ++update.superblock.boot_epoch;
  update.superblock.clean = false;
  Steps<Status> writing = write_both_superblocks(port_, update, &update);
  const Status written = co_await writing;
  TIERCEL_CO_TRY(written);
  *choice = {.superblock = update.superblock, .copy = update.copy, .other_is_good = true};
  co_return Status{};
}

void Opening::log_differences(const Shape& shape) const {
  const auto differs = [&](const char* key, std::uint64_t file, std::uint64_t asked) {
    if (file == asked) return;
    log_line(LogLevel::kInfo, key,
             fmt::format("{}: {} of the existing file counts, not {}; disk.reset makes it anew", key, file, asked));
  };
  differs("disk.extent_bytes", shape.extent_bytes, request_.extent_bytes);
  differs("disk.min_slot_bytes", shape.min_slot_bytes, request_.min_slot_bytes);
  differs("disk.max_namespaces", shape.max_namespaces, request_.max_namespaces);
}

Steps<Status> Opening::change_size() {
  const Shape& shape = opened_.metadata->layout().shape();
  const std::uint64_t wanted = std::max<std::uint64_t>(1, request_.capacity / shape.extent_bytes);
  const auto extents = static_cast<std::uint32_t>(std::min<std::uint64_t>(wanted, UINT32_MAX));
  if (extents == shape.extents) co_return Status{};
  ResizeOutcome outcome{.copy = opened_.metadata->copy()};
  Steps<Status> resizing = resize(port_, clock_, opened_.metadata, extents, &outcome);
  const Status resized = co_await resizing;
  TIERCEL_CO_TRY(resized);
  const std::string path = file_path(request_.directory);
  if (outcome.kept) {
    log_line(
        LogLevel::kWarn, "disk_resize",
        fmt::format("{} keeps its {} extents instead of {}: {}", path, shape.extents, extents, outcome.kept->message));
  } else {
    log_line(LogLevel::kInfo, "disk_resize",
             fmt::format("{} has {} extents now, {} before; {} blocks moved, {} lost", path, extents, shape.extents,
                         outcome.moved_blocks, outcome.lost_blocks));
  }
  auto metadata = Metadata::create(outcome.superblock, outcome.copy);
  if (!metadata) co_return tl::unexpected<Error>(metadata.error());
  opened_.metadata = std::move(*metadata);
  opened_.lost_slots = outcome.lost_blocks;
  co_return Status{};
}

}  // namespace tiercel::disk
