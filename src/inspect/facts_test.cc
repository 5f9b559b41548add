// Goal: what the system's files say is read as it is meant, and what is not there keeps its default.
#include "inspect/directory_facts.h"
#include "inspect/machine_facts.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace tiercel::inspect {
namespace {

/// A folder of its own, gone at the end.
class Folder {
 public:
  Folder() {
    std::string path = "facts-XXXXXX";
    path_ = std::filesystem::absolute(mkdtemp(path.data()));
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }

  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << text;
  }
  [[nodiscard]] std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

constexpr const char* kMounts =
    "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n"
    "30 27 0:25 / /dev/shm rw,nosuid shared:3 master:1 - tmpfs shm rw\n"
    "31 27 259:1 / /nvme\\0400/kv ro,relatime - xfs /dev/nvme0n1 rw\n"
    "32 27 259:2 /sub /data rw - btrfs /dev/sda ro,ssd\n"
    "33 27 0:40 / /data rw - overlay overlay rw\n";

TEST(Mounts, TheLongestMountPointCounts) {
  EXPECT_EQ(mount_of(kMounts, "/var/lib")->filesystem, "ext4");
  EXPECT_EQ(mount_of(kMounts, "/dev/shm/x")->filesystem, "tmpfs");
  EXPECT_EQ(mount_of(kMounts, "/dev/shmem")->filesystem, "ext4") << "a longer name is another directory";
  EXPECT_EQ(mount_of(kMounts, "/data/x")->filesystem, "overlay") << "the later mount hides the one before";
  EXPECT_FALSE(mount_of("", "/").has_value());
}

TEST(Mounts, EscapedNamesAndReadOnly) {
  const auto mount = mount_of(kMounts, "/nvme 0/kv/deep");
  ASSERT_TRUE(mount.has_value());
  EXPECT_EQ(mount->filesystem, "xfs");
  EXPECT_EQ(mount->device, "259:1");
  EXPECT_TRUE(mount->read_only);
  EXPECT_FALSE(mount_of(kMounts, "/")->read_only);
}

TEST(Locks, AnExclusiveLockOnThisFile) {
  const char* locks =
      "1: FLOCK  ADVISORY  WRITE 812 fe:00:1310735 0 EOF\n"
      "1: -> FLOCK  ADVISORY  WRITE 900 fe:00:77 0 EOF\n"
      "2: POSIX  ADVISORY  READ 813 fe:00:42 0 EOF\n";
  EXPECT_TRUE(is_locked(locks, 0xfe, 0, 1310735));
  EXPECT_FALSE(is_locked(locks, 0xfe, 1, 1310735));
  EXPECT_FALSE(is_locked(locks, 0xfe, 0, 42)) << "a shared one";
  EXPECT_FALSE(is_locked(locks, 0xfe, 0, 77)) << "one that waits";
}

TEST(Buses, FromThePathOfTheDevice) {
  EXPECT_EQ(bus_of("/sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1"), "nvme");
  EXPECT_EQ(bus_of("/sys/devices/platform/d0000000.virtio_mmio/virtio0/block/vda"), "virtio");
  EXPECT_EQ(bus_of("/sys/devices/pci0000:00/ata1/host0/target0:0:0/0:0:0:0/block/sda/sda1"), "scsi");
  EXPECT_EQ(bus_of("/sys/devices/virtual/block/loop0"), "");
}

TEST(MachineFacts, FromASmallTree) {
  const Folder root;
  root.write("proc/sys/kernel/io_uring_disabled", "2\n");
  root.write("proc/self/status", "Name:\tx\nCapEff:\t0000000000004000\nSeccomp:\t2\nSeccomp_filters:\t1\n");
  root.write("proc/meminfo", "MemTotal:       1024 kB\nMemFree: 3 kB\nMemAvailable:    512 kB\n");
  root.write("proc/self/cgroup", "0::/job\n");
  root.write("sys/fs/cgroup/job/memory.max", "262144\n");
  root.write("sys/fs/cgroup/job/memory.current", "0\n");
  root.write("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "3\n");
  root.write("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
  root.write("sys/kernel/mm/transparent_hugepage/shmem_enabled", "always within_size advise [never] deny force\n");
  root.write("sys/devices/system/node/node0/cpulist", "0\n");
  root.write("sys/devices/system/node/node1/cpulist", "1\n");
  root.write("sys/devices/system/node/possible", "0-1\n");
  const MachineFacts facts = read_machine_facts(DiskIo::kThreads, root.path());
  EXPECT_EQ(facts.io_engine, "threads");
  EXPECT_EQ(facts.io_uring_disabled, 2);
  EXPECT_TRUE(facts.seccomp);
  EXPECT_TRUE(facts.may_lock_all);
  EXPECT_EQ(facts.memory_bytes, 1_MiB);
  EXPECT_EQ(facts.machine_free_bytes, 512_KiB);
  EXPECT_EQ(facts.available_bytes, 256_KiB);
  EXPECT_EQ(facts.reserved_free_bytes, 6_MiB);
  EXPECT_EQ(facts.transparent, "madvise");
  EXPECT_EQ(facts.transparent_shared, "never");
  EXPECT_EQ(facts.numa_nodes, 2U);
}

TEST(MachineFacts, NothingIsKnown) {
  const Folder root;
  const MachineFacts facts = read_machine_facts(DiskIo::kThreads, root.path());
  EXPECT_FALSE(facts.io_uring_disabled.has_value());
  EXPECT_FALSE(facts.seccomp);
  EXPECT_FALSE(facts.may_lock_all);
  EXPECT_EQ(facts.available_bytes, 0U);
  EXPECT_EQ(facts.numa_nodes, 1U);
}

TEST(DirectoryFacts, OfARealOne) {
  const Folder folder;
  const DirectoryFacts facts = read_directory_facts(folder.path());
  EXPECT_TRUE(facts.is_directory);
  EXPECT_TRUE(facts.writable);
  EXPECT_FALSE(facts.mount.filesystem.empty());
  EXPECT_EQ(facts.owner, geteuid());
  EXPECT_GT(facts.total_bytes, 0U);
  EXPECT_FALSE(facts.file_exists);
  EXPECT_FALSE(facts.held);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "nothing stays";
}

TEST(DirectoryFacts, OfWhatIsNone) {
  const Folder folder;
  EXPECT_FALSE(read_directory_facts(folder.path() + "/gone").exists);
  folder.write("file", "x");
  const DirectoryFacts facts = read_directory_facts(folder.path() + "/file");
  EXPECT_TRUE(facts.exists);
  EXPECT_FALSE(facts.is_directory);
}

TEST(DirectoryFacts, TheFileInIt) {
  const Folder folder;
  folder.write("tiercel.kv", std::string(8192, 'x'));
  folder.write("tiercel.kv.lock", "4711\n");
  const DirectoryFacts facts = read_directory_facts(folder.path());
  EXPECT_TRUE(facts.file_exists);
  EXPECT_TRUE(facts.file_usable);
  EXPECT_EQ(facts.file_bytes, 8192U);
  EXPECT_FALSE(facts.held) << "a lock file alone is no lock";
}

}  // namespace
}  // namespace tiercel::inspect
