// Goal: each finding says ok, warn or fail for the facts that a person would judge so, names the number that decides,
// and what is wrong comes with what to do.
#include "inspect/findings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tiercel::inspect {
namespace {

using ::testing::HasSubstr;

/// A machine and a directory on which nothing is wrong.
MachineFacts good_machine() {
  return {.io_engine = "io_uring",
          .memory_bytes = 64_GiB,
          .machine_free_bytes = 60_GiB,
          .available_bytes = 60_GiB,
          .transparent = "madvise",
          .transparent_shared = "advise"};
}

DirectoryFacts good_directory() {
  return {.path = "/nvme/kv",
          .exists = true,
          .is_directory = true,
          .writable = true,
          .owner = 1000,
          .user = 1000,
          .mount = {.filesystem = "ext4", .device = "259:1"},
          .device = "nvme0n1",
          .bus = "nvme",
          .rotational = false,
          .free_bytes = 500_GiB,
          .total_bytes = 1000_GiB,
          .direct = true,
          .direct_alignment = 512};
}

Config config_of(std::uint64_t host_bytes, std::uint64_t disk_bytes = 0) {
  Config config;
  config.host.capacity = host_bytes;
  if (disk_bytes != 0) config.disk = {.directories = {"/nvme/kv"}, .capacity = disk_bytes};
  return config;
}

void expect(const Finding& finding, Severity severity, const std::string& text, const std::string& advice = "") {
  EXPECT_EQ(finding.severity, severity) << finding.text;
  EXPECT_THAT(finding.text, HasSubstr(text));
  EXPECT_THAT(finding.advice, HasSubstr(advice));
  EXPECT_EQ(finding.advice.empty(), severity == Severity::kOk) << finding.text << " -> " << finding.advice;
}

/// The one finding of a directory with this subject.
Finding of_directory(const DirectoryFacts& directory, const std::string& subject, std::uint64_t wanted = 200_GiB,
                     bool direct = true) {
  for (const Finding& finding : judge_directory(directory, wanted, direct)) {
    if (finding.subject == subject) return finding;
  }
  ADD_FAILURE() << "no finding about " << subject;
  return {};
}

TEST(MachineFindings, IoUring) {
  MachineFacts machine = good_machine();
  Config config;
  expect(judge_io_uring(config, machine), Severity::kOk, "io_uring works");
  machine.io_engine = "threads";
  machine.io_reason = "Operation not permitted";
  machine.io_uring_disabled = 2;
  expect(judge_io_uring(config, machine), Severity::kWarn, "kernel.io_uring_disabled is 2",
         "sysctl -w kernel.io_uring_disabled=0");
  machine.io_uring_disabled = 0;
  machine.seccomp = true;
  expect(judge_io_uring(config, machine), Severity::kWarn, "Operation not permitted", "seccomp");
  machine.seccomp = false;
  expect(judge_io_uring(config, machine), Severity::kWarn, "threads", "kernel");
  config.disk.io = DiskIo::kThreads;
  expect(judge_io_uring(config, machine), Severity::kOk, "as disk.io says");
}

TEST(MachineFindings, Memory) {
  MachineFacts machine = good_machine();
  expect(judge_memory(config_of(16_GiB), machine), Severity::kOk, "16.0 GiB for the arena");
  expect(judge_memory(config_of(0), machine), Severity::kOk, "15.0 GiB for the arena (a quarter of what is free)");
  expect(judge_memory(config_of(50_GiB), machine), Severity::kWarn, "80 %", "room");
  expect(judge_memory(config_of(61_GiB), machine), Severity::kFail, "the machine has 60.0 GiB",
         "host.capacity = \"48GiB\"");
  machine.available_bytes = 8_GiB;
  expect(judge_memory(config_of(16_GiB), machine), Severity::kFail, "the control group leaves 8.0 GiB",
         "memory limit of the container");
  machine.available_bytes = 0;
  expect(judge_memory(config_of(16_GiB), machine), Severity::kWarn, "cannot be found out", "host.capacity");
}

TEST(MachineFindings, HugePages) {
  MachineFacts machine = good_machine();
  Config config = config_of(16_GiB);
  expect(judge_huge_pages(config, machine), Severity::kOk, "transparent");
  machine.transparent = "never";
  expect(judge_huge_pages(config, machine), Severity::kWarn, "0 MiB of 16.0 GiB", "vm.nr_hugepages=8192");
  config.host.huge_pages = HugePages::kRequire;
  expect(judge_huge_pages(config, machine), Severity::kFail, "cannot be met", "vm.nr_hugepages=8192");
  machine.reserved_free_bytes = 16_GiB;
  expect(judge_huge_pages(config, machine), Severity::kOk, "16.0 GiB reserved and free");
  config.host.huge_pages = HugePages::kOff;
  expect(judge_huge_pages(config, machine), Severity::kOk, "not wanted");
}

TEST(MachineFindings, AMemfdNeedsHugePagesOfSharedMemory) {
  MachineFacts machine = good_machine();
  Config config = config_of(1_GiB);
  config.host.arena = ArenaKind::kMemfd;
  expect(judge_huge_pages(config, machine), Severity::kOk, "shared memory");
  machine.transparent_shared = "never";
  expect(judge_huge_pages(config, machine), Severity::kWarn, "shared memory", "shmem_enabled");
}

TEST(MachineFindings, Memlock) {
  MachineFacts machine = good_machine();
  expect(judge_memlock(config_of(16_GiB), machine), Severity::kOk, "unlimited");
  machine.memlock_bytes = 8_MiB;
  expect(judge_memlock(config_of(16_GiB), machine), Severity::kWarn, "8 MiB, the arena has 16.0 GiB", "LimitMEMLOCK");
  machine.may_lock_all = true;
  expect(judge_memlock(config_of(16_GiB), machine), Severity::kOk, "CAP_IPC_LOCK");
}

TEST(MachineFindings, Numa) {
  MachineFacts machine = good_machine();
  expect(judge_numa(machine), Severity::kOk, "one node");
  machine.numa_nodes = 2;
  expect(judge_numa(machine), Severity::kOk, "2 nodes");
}

TEST(DirectoryFindings, NothingIsWrongWithAGoodOne) {
  const auto findings = judge_directory(good_directory(), 200_GiB, true);
  EXPECT_EQ(findings.size(), 4U);
  for (const Finding& finding : findings) EXPECT_EQ(finding.severity, Severity::kOk) << finding.text;
}

TEST(DirectoryFindings, OneThatIsMissingOrNone) {
  expect(of_directory({.path = "/gone"}, "access"), Severity::kFail, "/gone: does not exist", "mkdir -p /gone");
  expect(of_directory({.path = "/file", .exists = true}, "access"), Severity::kFail, "not a directory",
         "disk.directories");
}

TEST(DirectoryFindings, Filesystem) {
  DirectoryFacts directory = good_directory();
  expect(of_directory(directory, "filesystem"), Severity::kOk, "ext4 on nvme0n1 (nvme)");
  directory.rotational = true;
  directory.bus = "scsi";
  expect(of_directory(directory, "filesystem"), Severity::kWarn, "turns", "SSD");
  directory.bus = "virtio";
  expect(of_directory(directory, "filesystem"), Severity::kOk, "virtio");
  for (const auto& [kind, why] : {std::pair{"tmpfs", "memory"},
                                  {"nfs4", "network"},
                                  {"fuse.s3fs", "network"},
                                  {"overlay", "container"},
                                  {"btrfs", "copy on write"}}) {
    directory.mount.filesystem = kind;
    expect(of_directory(directory, "filesystem"), Severity::kWarn, why, "");
  }
}

TEST(DirectoryFindings, Access) {
  DirectoryFacts directory = good_directory();
  directory.open_to_all = true;
  expect(of_directory(directory, "access"), Severity::kWarn, "every user", "chmod o-w /nvme/kv");
  directory.held = true;
  expect(of_directory(directory, "access"), Severity::kWarn, "another process", "another directory");
  directory.holder = 4711;
  expect(of_directory(directory, "access"), Severity::kWarn, "process 4711", "another directory");
  directory.file_exists = true;
  directory.file_owner = 0;
  expect(of_directory(directory, "access"), Severity::kFail, "belongs to user 0 and cannot be written as user 1000",
         "chown 1000 /nvme/kv/tiercel.kv");
  directory.writable = false;
  directory.write_error = "Permission denied";
  expect(of_directory(directory, "access"), Severity::kFail, "as user 1000: Permission denied", "chown 1000 /nvme/kv");
  directory.mount.read_only = true;
  expect(of_directory(directory, "access"), Severity::kFail, "read-only", "remount,rw");
}

TEST(DirectoryFindings, DirectIo) {
  DirectoryFacts directory = good_directory();
  directory.direct_alignment = 16384;
  expect(of_directory(directory, "direct_io"), Severity::kWarn, "16384", "4096");
  directory.direct_alignment = 0;
  directory.direct = false;
  directory.direct_error = "Invalid argument";
  expect(of_directory(directory, "direct_io"), Severity::kWarn, "Invalid argument", "ext4");
  expect(of_directory(directory, "direct_io", 200_GiB, false), Severity::kOk, "not wanted");
}

TEST(DirectoryFindings, Space) {
  DirectoryFacts directory = good_directory();
  expect(of_directory(directory, "space", 480_GiB), Severity::kWarn, "less than 5 %", "smaller");
  expect(of_directory(directory, "space", 600_GiB), Severity::kFail, "500.0 GiB free", "100.0 GiB freed");
  directory.file_exists = true;
  directory.file_usable = true;
  directory.file_allocated_bytes = 600_GiB;
  expect(of_directory(directory, "space", 600_GiB), Severity::kOk, "600.0 GiB of it in tiercel.kv");
  expect(of_directory(directory, "space", 1101_GiB), Severity::kFail, "free", "at most 1.1 TiB");
}

TEST(DirectoryFindings, TheShareOfADirectoryIsInWholeExtents) {
  Config config;
  config.disk = {.directories = {"a", "b"}, .capacity = 3 * 64_MiB};
  EXPECT_GE(file_share(config, 0), 2 * 64_MiB);
  EXPECT_LT(file_share(config, 0), 2 * 64_MiB + 8_MiB);
  EXPECT_GE(file_share(config, 1), 64_MiB);
  EXPECT_LT(file_share(config, 1), 64_MiB + 8_MiB);
}

TEST(DirectoryFindings, Speed) {
  const DiskSpeed fast{.bytes = 6'900'000'000, .seconds = 1};
  const DiskSpeed slow{.bytes = 85'000'000, .seconds = 1};
  expect(judge_speed(good_directory(), fast, slow), Severity::kOk, "read 6.9 GB/s, write 85 MB/s");
  expect(judge_speed(good_directory(), slow, fast), Severity::kWarn, "read 85 MB/s", "disk");
}

TEST(DirectoryFindings, TwoOnOneFilesystem) {
  DirectoryFacts other = good_directory();
  other.path = "/nvme/kv2";
  ASSERT_EQ(judge_together({good_directory(), other}).size(), 1U);
  expect(judge_together({good_directory(), other})[0], Severity::kWarn, "/nvme/kv and /nvme/kv2",
         "one directory a disk");
  other.mount.device = "259:2";
  EXPECT_TRUE(judge_together({good_directory(), other}).empty());
}

}  // namespace
}  // namespace tiercel::inspect
