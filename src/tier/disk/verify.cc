#include "tier/disk/verify.h"

#include "base/try.h"
#include "model/block_checksum.h"
#include "tier/disk/opening.h"
#include "tier/disk/recovery.h"
#include "tier/disk/superblock_io.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <tuple>
#include <utility>

namespace tiercel::disk {
namespace {

constexpr std::size_t kReads = 4;

class Verifier final : public RecoverySink {
 public:
  Verifier(std::string path, const VerifyOptions& options) : path_(std::move(path)), options_(options) {}

  Status open(FileSystem& files, const Clock& clock) {
    const std::string lock = path_ + ".lock";
    TIERCEL_TRY_ASSIGN(const bool locked_once, files.exists(lock));
    // Nobody holds the lock of a file that has never been locked, and reading alone leaves nothing behind.
    if (locked_once || options_.repair) {
      TIERCEL_TRY_ASSIGN(lock_, files.lock(lock));
    }
    TIERCEL_TRY_ASSIGN(auto backend, files.open(path_, {.direct = options_.direct, .read_only = !options_.repair}));
    file_ = std::make_unique<File>(std::move(backend), clock);
    port_ = std::make_unique<IoPort>(clock, options_.io_deadline_ns);
    port_->use(file_.get());
    TIERCEL_TRY(drive(read_superblocks()));
    TIERCEL_TRY_ASSIGN(metadata_, Metadata::create(choice_.superblock, choice_.copy));
    TIERCEL_TRY_ASSIGN(const std::uint64_t size, file_->backend().size());
    if (size >= metadata_->layout().file_bytes()) return {};
    return fail(ErrorCode::kCorrupt,
                fmt::format("{}: cut off at {} of {} bytes; opening it makes it whole again, without "
                            "the blocks that are lost",
                            path_, size, metadata_->layout().file_bytes()));
  }

  Result<VerifyReport> run(const Clock& clock) {
    report_.layout = metadata_->layout();
    report_.boot_epoch = metadata_->epoch();
    report_.clean = choice_.superblock.clean;
    if (!choice_.other_is_good) add("superblock_copy", true, "one of its two copies is damaged");
    RegionReader reader(metadata_, *port_, clock, *this);
    reader.set_epochs(metadata_->epoch() + 1);
    TIERCEL_TRY(drive(reader.read()));
    count("extent_head", true, reader.bad_heads());
    count("namespace_entry", true, reader.bad_namespaces());
    count("tombstone", false, reader.bad_tombstones());
    count("metadata_page", true, reader.unreadable_pages());
    report_.buried = reader.report().buried_headers;
    report_.tombstones = metadata_->layout().log_records() - metadata_->free_tombstones();
    for (const std::uint64_t slot_bytes : metadata_->slot_sizes()) report_.cut_extents += slot_bytes > 0 ? 1 : 0;
    check_names();
    if (options_.read_data) TIERCEL_TRY(drive(read_blocks()));
    if (options_.repair) TIERCEL_TRY(drive(write_repairs()));
    std::ranges::sort(report_.findings, [](const VerifyFinding& a, const VerifyFinding& b) {
      return a.count != b.count ? a.count > b.count : a.cause < b.cause;
    });
    return std::move(report_);
  }

  /// Waits for what an error left in flight, each until its deadline. True: the File may go.
  [[nodiscard]] bool settle() {
    while (file_ && file_->in_flight() > file_->expired()) file_->poll(options_.io_deadline_ns);
    return !file_ || file_->in_flight() == 0;
  }

  void on_found(std::span<const DiskBlock> blocks) override {
    for (const DiskBlock& block : blocks) {
      blocks_.push_back(block);
      ++report_.blocks;
      report_.block_bytes += block.length;
    }
  }
  void on_fault(std::uint32_t slot, Fault fault) override {
    add(fault_name(fault), true, fmt::format("slot {} of extent {}", slot, metadata_->layout().extent_of(slot)));
  }

 private:
  Status drive(Steps<Status> steps) {
    Sequence sequence(*port_);
    sequence.begin(std::move(steps));
    while (!sequence.step()) file_->poll(port_->ready() ? 0 : options_.io_deadline_ns);
    return sequence.status();
  }

  VerifyFinding& finding(const std::string& cause, bool repairable) {
    const auto known = std::ranges::find(report_.findings, cause, &VerifyFinding::cause);
    if (known != report_.findings.end()) return *known;
    return report_.findings.emplace_back(VerifyFinding{.cause = cause, .repairable = repairable});
  }
  void add(const std::string& cause, bool repairable, const std::string& example) {
    VerifyFinding& found = finding(cause, repairable);
    ++found.count;
    if (found.examples.size() < options_.examples) found.examples.push_back(example);
  }
  void count(const std::string& cause, bool repairable, std::uint64_t number) {
    if (number > 0) finding(cause, repairable).count += number;
  }
  /// A copy that no load may serve: reported, and its header cleared in the image.
  void drop(const std::string& cause, const DiskBlock& block) {
    add(cause, true, line_of(block));
    ++report_.bad_blocks;
    metadata_->repaired(metadata_->clear(block.slot));
  }
  [[nodiscard]] static std::string line_of(const DiskBlock& block) {
    return fmt::format("slot {}: block {} of namespace {}, {} bytes", block.slot, to_hex(block.hash).substr(0, 16),
                       to_hex(block.fingerprint).substr(0, 16), block.length);
  }

  Steps<Status> read_superblocks() {
    const auto size = file_->backend().size();
    if (!size) co_return tl::unexpected<Error>(size.error());
    if (*size < 2 * kPageBytes) co_return fail(ErrorCode::kCorrupt, path_ + " is too short for a disk file of Tiercel");
    const auto buffer = page_buffer(2 * kPageBytes);
    const Pending reading = port_->read(0, {.data = buffer.get(), .bytes = 2 * kPageBytes}, buffer);
    const Status read = co_await port_->wait(reading);
    TIERCEL_CO_TRY(read);
    auto chosen = choose_superblock(std::span<const std::byte, 2 * kPageBytes>(buffer.get(), 2 * kPageBytes), path_);
    if (!chosen) co_return tl::unexpected<Error>(chosen.error());
    choice_ = *chosen;
    co_return Status{};
  }

  /// Of two copies of a name the higher generation counts; a block whose parent has no copy is of no use.
  void check_names() {
    const auto name = [](const DiskBlock& block) { return std::tie(block.fingerprint, block.group, block.hash); };
    std::ranges::sort(blocks_, [&](const DiskBlock& a, const DiskBlock& b) {
      return name(a) != name(b) ? name(a) < name(b) : a.generation > b.generation;
    });
    const auto doubles = std::ranges::unique(blocks_, [&](const DiskBlock& a, const DiskBlock& b) {
      if (name(a) != name(b)) return false;
      drop("duplicate", b);
      return true;
    });
    blocks_.erase(doubles.begin(), doubles.end());
    for (const DiskBlock& block : blocks_) {
      if (block.parent == block.fingerprint) continue;
      const auto parent = std::tie(block.fingerprint, block.group, block.parent);
      const auto found = std::ranges::lower_bound(blocks_, parent, std::ranges::less{}, name);
      if (found == blocks_.end() || name(*found) != parent) add("no_parent", false, line_of(block));
    }
    std::ranges::sort(blocks_, std::ranges::less{}, &DiskBlock::slot);
  }

  struct Reading {
    const DiskBlock* block = nullptr;
    std::shared_ptr<std::byte[]> buffer;
    Pending pending;
  };

  /// In the order of the file, a few at a time.
  Steps<Status> read_blocks() {
    std::deque<Reading> readings;
    std::uint64_t total = 0;
    for (const DiskBlock& block : blocks_) total += block.length;
    std::size_t next = 0;
    for (std::size_t taken = 0; taken < blocks_.size(); ++taken) {
      while (next < blocks_.size() && readings.size() < kReads) readings.push_back(begin_read(blocks_[next++]));
      const Reading reading = std::exchange(readings.front(), {});
      readings.pop_front();
      const Status read = co_await port_->wait(reading.pending);
      if (!read && read.error().code == ErrorCode::kTimeout) co_return read;
      const DiskBlock& block = *reading.block;
      report_.data_bytes_read += block.length;
      if (!read) {
        drop("unreadable", block);
      } else if (block_checksum({.fingerprint = block.fingerprint,
                                 .hash = block.hash,
                                 .group = block.group,
                                 .generation = block.generation},
                                {reading.buffer.get(), block.length}) != block.checksum) {
        drop("checksum", block);
      }
      if (options_.progress) options_.progress(report_.data_bytes_read, total);
    }
    co_return Status{};
  }

  [[nodiscard]] Reading begin_read(const DiskBlock& block) {
    const std::uint64_t bytes = round_up(block.length, kPageBytes);
    Reading reading{.block = &block, .buffer = page_buffer(bytes), .pending = {}};
    reading.pending = port_->read(metadata_->layout().data_offset(block.slot, block.slot_bytes),
                                  {.data = reading.buffer.get(), .bytes = bytes}, reading.buffer);
    return reading;
  }

  Steps<Status> write_repairs() {
    for (const std::uint32_t page : metadata_->repaired_pages()) {
      Steps<Status> writing = write_pages(*port_, metadata_, {.first = page, .count = 1});
      const Status written = co_await writing;
      TIERCEL_CO_TRY(written);
      ++report_.written_pages;
    }
    const Pending sync = port_->sync();
    const Status synced = co_await port_->wait(sync);
    TIERCEL_CO_TRY(synced);
    if (choice_.other_is_good) co_return Status{};
    Steps<Status> renewing = write_superblock(*port_, metadata_->update(metadata_->superblock()));
    const Status renewed = co_await renewing;
    co_return renewed;
  }

  const std::string path_;
  const VerifyOptions& options_;
  std::unique_ptr<FileLock> lock_;
  std::unique_ptr<File> file_;
  std::unique_ptr<IoPort> port_;
  SuperblockChoice choice_;
  std::shared_ptr<Metadata> metadata_;
  std::vector<DiskBlock> blocks_;
  VerifyReport report_;
};

}  // namespace

Result<VerifyReport> verify_file(const std::string& path, FileSystem& files, const Clock& clock,
                                 const VerifyOptions& options) {
  auto verifier = std::make_unique<Verifier>(path, options);
  auto report = [&]() -> Result<VerifyReport> {
    TIERCEL_TRY(verifier->open(files, clock));
    return verifier->run(clock);
  }();
  // An operation that the device never answers keeps its file and its memory until the process ends.
  if (!verifier->settle()) (void)verifier.release();  // NOLINT(bugprone-unused-return-value)
  return report;
}

}  // namespace tiercel::disk
