// SimBackend: the IoBackend of one open simulated file. Operations end at the times and in the order that the seed
// chooses, with the faults that the device shows; what a write changes is seen when it ends.
//
// Asks for what O_DIRECT asks for: offsets, lengths and buffers in multiples of 4096, else EINVAL. One thread at a
// time.
#pragma once

#include "io/io_backend.h"
#include "sim/sim_device.h"
#include "sim/virtual_file.h"

#include <memory>
#include <string>
#include <vector>

namespace tiercel::sim {

class SimBackend;

/// A file, its name's share of the disk, and who has it open.
struct OpenFile {
  VirtualFile bytes;
  std::vector<SimBackend*> backends;
};

class SimBackend final : public IoBackend {
 public:
  struct Options {
    std::uint32_t depth = 64;
    bool read_only = false;
    std::uint64_t growth_limit_bytes = UINT64_MAX;  ///< the largest that the disk lets the file become
  };
  SimBackend(std::shared_ptr<SimDevice> device, std::shared_ptr<SimDisk> disk, std::shared_ptr<OpenFile> file,
             const Options& options);
  SimBackend(const SimBackend&) = delete;
  SimBackend& operator=(const SimBackend&) = delete;
  ~SimBackend() override;

  [[nodiscard]] bool start(const IoOperation& operation) override;
  [[nodiscard]] std::size_t reap(std::span<IoReaped> reaped, std::uint64_t wait_ns) override;
  void wake() noexcept override { disk_->poke(); }
  [[nodiscard]] std::uint32_t depth() const noexcept override { return options_.depth; }
  [[nodiscard]] std::uint32_t alignment() const noexcept override { return kPageBytes; }
  [[nodiscard]] const char* name() const noexcept override { return "simulated"; }
  Status register_memory(std::span<const struct iovec>) override { return {}; }
  [[nodiscard]] Result<std::uint64_t> size() override;
  Status allocate(std::uint64_t bytes) override;
  Status truncate(std::uint64_t bytes) override;

  // For the file system.
  /// When the next operation ends; UINT64_MAX: none does.
  [[nodiscard]] std::uint64_t next_due_ns() const noexcept;
  /// What would never end does so soon.
  void end_stalls();
  /// Its disk was pulled out: what is in flight ends soon, with an error.
  void cut_off();
  /// The pages of every write that has not ended.
  void collect_writes(std::vector<VirtualFile::PageWrite>& writes) const;

 private:
  struct Operation {
    std::uint32_t id = 0;
    IoKind kind = IoKind::kRead;
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
    std::vector<struct iovec> buffers;
    std::uint64_t due_ns = 0;
    Fault fault = Fault::kNone;
    std::uint64_t mark = 0;  // of a sync
  };

  /// Its disk is not there, or is another mount of it.
  [[nodiscard]] bool is_cut_off() const noexcept { return !disk_->is_there() || disk_->mount() != mount_; }
  [[nodiscard]] Fault outage() const noexcept;
  [[nodiscard]] bool aligned(const IoOperation& operation) const noexcept;
  [[nodiscard]] std::int64_t end(const Operation& operation);
  [[nodiscard]] std::int64_t end_read(const Operation& operation);
  [[nodiscard]] std::int64_t end_write(const Operation& operation);
  [[nodiscard]] std::uint64_t part_of(std::uint64_t bytes);
  void put(const Operation& operation, std::uint64_t offset, std::uint64_t bytes);
  void put_torn(const Operation& operation);
  [[nodiscard]] Status check_growth(std::uint64_t bytes);

  std::shared_ptr<SimDevice> device_;
  std::shared_ptr<SimDisk> disk_;
  std::shared_ptr<OpenFile> file_;
  const Options options_;
  const std::uint64_t mount_;
  std::vector<Operation> in_flight_;  // in the order of their start
};

}  // namespace tiercel::sim
