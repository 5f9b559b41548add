// DiskRig: a disk tier on a filesystem in memory, driven by hand, for tests. Time stands still but for pass().
//
// The filesystem, its gate (holds operations back) and its plan (makes them fail) outlive the tier, so that a test can
// drop the tier without closing it, as a kill would, and open another on what is there. One thread.
#pragma once

#include "base/clock.h"
#include "io/delayed_backend.h"
#include "io/faulty_backend.h"
#include "io/memory_file_system.h"
#include "io/wrapped_file_system.h"
#include "tier/disk/device.h"
#include "tier/disk/disk_tier.h"
#include "tier/disk/opening.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tiercel::disk::testing {

inline constexpr std::uint64_t kExtentBytes = 1U << 20U;
inline constexpr std::uint64_t kSlotBytes = 64U << 10U;
inline constexpr std::uint32_t kSlotsPerExtent = kExtentBytes / kSlotBytes;

[[nodiscard]] inline DiskOptions small_options() {
  return {.directory = "/d",
          .capacity = 4 * kExtentBytes,
          .extent_bytes = kExtentBytes,
          .min_slot_bytes = kSlotBytes,
          .max_namespaces = 64,
          .depth = 8,
          .io_deadline_ns = 1'000'000'000,
          .quarantine_bytes = 1U << 20U,
          .probe_interval_ns = 100'000'000};
}

[[nodiscard]] inline BlockHash name_of(std::uint64_t number) {
  BlockHash hash{};
  std::memcpy(hash.bytes.data(), &number, sizeof number);
  hash.bytes.back() = std::byte{1};
  return hash;
}

/// What a block's memory holds for a test: the number, over and over.
inline void fill(std::byte* memory, std::uint64_t bytes, std::uint64_t number) {
  for (std::uint64_t at = 0; at + sizeof number <= bytes; at += sizeof number) {
    std::memcpy(memory + at, &number, sizeof number);
  }
}
[[nodiscard]] inline bool holds(const std::byte* memory, std::uint64_t bytes, std::uint64_t number) {
  for (std::uint64_t at = 0; at + sizeof number <= bytes; at += sizeof number) {
    if (std::memcmp(memory + at, &number, sizeof number) != 0) return false;
  }
  return true;
}

/// The answer to a job; empty until it comes.
using Answer = std::shared_ptr<std::optional<Status>>;

class DiskRig : public DiskEvents {
 public:
  explicit DiskRig(DiskOptions wanted = small_options())
      : options(std::move(wanted)),
        gate(std::make_shared<DelayGate>(clock)),
        plan(std::make_shared<FaultPlan>()),
        files(memory_files, [this](const std::string&, std::unique_ptr<IoBackend> backend) {
          return std::make_unique<DelayedBackend>(std::make_unique<FaultyBackend>(std::move(backend), plan), gate);
        }) {
    memory_files.make_directory(options.directory);
  }

  /// A tier on what is there, not driven yet.
  void make_tier() { tier = std::make_unique<DiskTier>(options, files, clock, *this); }
  /// A tier, opened and recovered.
  void start() {
    make_tier();
    run();
    ASSERT_EQ(tier->state(), DiskState::kOn);
  }
  /// As a kill: what has completed stays, the rest is gone.
  void crash() { tier.reset(); }
  void close() {
    tier->close();
    run();
    EXPECT_EQ(tier->state(), DiskState::kClosed);
    tier.reset();
  }

  /// Steps until nothing moves any more; time stands still.
  void run(std::size_t steps = 200) {
    for (std::size_t i = 0; i < steps; ++i) (void)tier->step(0);
  }
  /// Lets time pass, in pieces, with steps between.
  void pass(std::uint64_t ns) {
    for (int i = 0; i < 20; ++i) {
      clock.advance(ns / 20);
      run(20);
    }
  }

  [[nodiscard]] DiskBlock block(std::uint64_t number, std::uint32_t slot, std::uint64_t slot_bytes = kSlotBytes) {
    return {.fingerprint = name_of(1'000'000),
            .hash = name_of(number),
            .parent = name_of(1'000'000),
            .slot = slot,
            .slot_bytes = slot_bytes,
            .length = static_cast<std::uint32_t>(slot_bytes),
            .checksum = ~number,  // and what its bytes are
            .generation = (epoch << kEpochShift) + ++counter};
  }

  Answer write(const DiskBlock& block) {
    const std::uint64_t bytes = round_up(block.length, kPageBytes);
    const std::shared_ptr<std::byte> memory = allocate_pages(bytes);
    fill(memory.get(), bytes, block.checksum);
    const Answer answer = std::make_shared<std::optional<Status>>();
    submitted = tier->write({.block = block,
                             .from = memory.get(),
                             .done =
                                 [answer](const Status& status) {
                                   EXPECT_FALSE(answer->has_value()) << "answered twice";
                                   *answer = status;
                                 },
                             .owner = memory});
    return answer;
  }

  struct Read {
    Answer answer = std::make_shared<std::optional<Status>>();
    std::shared_ptr<std::byte> memory;
    [[nodiscard]] bool ok() const { return answer->has_value() && (*answer)->has_value(); }
    [[nodiscard]] bool failed(ErrorCode code) const {
      return answer->has_value() && !**answer && (**answer).error().code == code;
    }
  };
  Read read(const DiskBlock& block, std::uint64_t deadline_ns = UINT64_MAX) {
    Read read;
    read.memory = allocate_pages(round_up(block.length, kPageBytes));
    submitted = tier->read({.slot = block.slot,
                            .slot_bytes = block.slot_bytes,
                            .generation = block.generation,
                            .to = read.memory.get(),
                            .length = block.length,
                            .deadline_ns = deadline_ns,
                            .done =
                                [answer = read.answer](const Status& status) {
                                  EXPECT_FALSE(answer->has_value()) << "answered twice";
                                  *answer = status;
                                },
                            .owner = read.memory});
    return read;
  }
  [[nodiscard]] bool reads_back(const DiskBlock& block) {
    const Read one = read(block);
    run();
    return one.ok() && holds(one.memory.get(), block.length, block.checksum);
  }

  Answer bury(const std::vector<DiskBlock>& blocks) {
    std::vector<Tombstone> tombstones;
    std::vector<std::uint32_t> slots;
    for (const DiskBlock& block : blocks) {
      tombstones.push_back(
          {.fingerprint = block.fingerprint, .hash = block.hash, .group = block.group, .generation = block.generation});
      slots.push_back(block.slot);
    }
    const Answer answer = std::make_shared<std::optional<Status>>();
    submitted = tier->bury(tombstones, slots, [answer](const Status& status) {
      EXPECT_FALSE(answer->has_value()) << "answered twice";
      *answer = status;
    });
    return answer;
  }

  /// Whether the file has these 8 bytes anywhere.
  [[nodiscard]] bool file_contains(std::uint64_t number) {
    auto backend = memory_files.open(file_path(options.directory), {});
    const std::uint64_t size = *(*backend)->size();
    File file(std::move(*backend), clock);
    constexpr std::uint64_t kPiece = 1U << 20U;
    const std::shared_ptr<std::byte> memory = allocate_pages(kPiece);
    for (std::uint64_t at = 0; at < size; at += kPiece) {
      IoJob job{.kind = IoKind::kRead, .offset = at, .segment_count = 1, .owner = memory};
      job.segments[0] = {.data = memory.get(), .bytes = std::min(kPiece, size - at)};
      const std::uint64_t bytes = job.segments[0].bytes;
      EXPECT_TRUE(file.run(std::move(job)).has_value());
      for (std::uint64_t word = 0; word + 8 <= bytes; word += 8) {
        if (std::memcmp(memory.get() + word, &number, 8) == 0) return true;
      }
    }
    return false;
  }
  void truncate(std::uint64_t bytes) {
    auto backend = memory_files.open(file_path(options.directory), {});
    ASSERT_TRUE((*backend)->truncate(bytes).has_value());
  }

  // DiskEvents.
  void on_opened(const Opened& opened) override {
    ++opens;
    epoch = opened.epoch;
    extents = opened.extents;
    found.clear();
    recovery.reset();
    if (at_opened) at_opened();
  }
  void on_found(std::span<const DiskBlock> blocks) override {
    found.insert(found.end(), blocks.begin(), blocks.end());
    if (at_found) at_found();
  }
  bool go_on() override { return at_go_on && at_go_on(); }
  void on_recovered(const DiskRecovery& report) override { recovery = report; }
  void on_lost() override { ++losses; }
  void on_state(DiskState state, const std::string& cause) override {
    states.push_back(state);
    causes.push_back(cause);
  }
  [[nodiscard]] bool has_found(const DiskBlock& block) const {
    return std::find(found.begin(), found.end(), block) != found.end();
  }

  DiskOptions options;
  ManualClock clock;
  MemoryFileSystem memory_files;
  std::shared_ptr<DelayGate> gate;
  std::shared_ptr<FaultPlan> plan;
  WrappedFileSystem files;
  std::unique_ptr<DiskTier> tier;

  // What an owner does meanwhile.
  std::function<void()> at_opened;
  std::function<void()> at_found;
  std::function<bool()> at_go_on;

  DiskSubmit submitted = DiskSubmit::kTaken;
  std::uint64_t epoch = 0;
  std::uint64_t counter = 0;
  std::uint32_t extents = 0;
  int opens = 0;
  int losses = 0;
  std::vector<DiskBlock> found;
  std::optional<DiskRecovery> recovery;
  std::vector<DiskState> states;
  std::vector<std::string> causes;
};

[[nodiscard]] inline bool ok(const Answer& answer) { return answer->has_value() && (*answer)->has_value(); }
[[nodiscard]] inline bool failed(const Answer& answer, ErrorCode code) {
  return answer->has_value() && !**answer && (**answer).error().code == code;
}

}  // namespace tiercel::disk::testing
