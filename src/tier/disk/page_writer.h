// PageWriter: brings pages of the metadata region into the file and tells those who wait for it.
//
// Each write is made from a copy of the image's pages, so that later changes do not tear it; neighbours go as one
// write, a few writes at a time. A callback runs once: the page's image, as it was at want() or later, has completed,
// or why not. In the file is not yet durable: that is sync()'s. The driver's thread only.
#pragma once

#include "tier/disk/metadata.h"
#include "tier/disk/metadata_pages.h"
#include "tier/disk/read_lane.h"

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

namespace tiercel::disk {

class PageWriter {
 public:
  using Done = std::function<void(const Status&)>;
  PageWriter(const Shared& shared, const Metadata& metadata) : shared_(shared), metadata_(metadata) {}

  void touch(std::uint32_t page) { pages_.touch(page); }
  void forget(std::uint32_t page) { pages_.forget(page); }
  void want(std::uint32_t page, Done done);
  /// Everything that differs from the file now.
  void want_all(Done done);
  /// What has completed before is durable at `done`. Waits for its turn where there is no room.
  void sync(Done done);

  /// A page outside the region (a superblock). One at a time, in order; the next waits until the last has really ended.
  void write_page(std::uint64_t offset, std::shared_ptr<std::byte> page, Done done);

  void start();
  /// Answers what has not been started.
  void fail_waiting(const Error& error);
  [[nodiscard]] bool idle() const noexcept { return waiters_.empty() && syncs_.empty() && singles_.empty(); }

 private:
  static constexpr std::uint32_t kWrites = 4;      // in flight
  static constexpr std::uint32_t kMostPages = 64;  // of one write
  struct Waiter {
    Done done;
    std::uint64_t times = 1;  // still to be named
    Status status;
  };
  struct Single {
    std::uint64_t offset = 0;
    std::shared_ptr<std::byte> page;
    Done done;
  };
  void start(const MetadataPages::Run& run);
  void start(Single single);
  void tell(const std::vector<MetadataPages::Waiter>& waiters, const Status& status);

  Shared shared_;
  const Metadata& metadata_;
  MetadataPages pages_;
  std::unordered_map<MetadataPages::Waiter, Waiter> waiters_;
  MetadataPages::Waiter next_waiter_ = 0;
  std::vector<Done> syncs_;  // that wait for room
  std::deque<Single> singles_;
  bool single_flies_ = false;
  std::uint32_t writes_ = 0;
};

}  // namespace tiercel::disk
