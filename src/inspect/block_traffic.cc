#include "inspect/block_traffic.h"

#include "base/check.h"
#include "model/block_checksum.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <random>
#include <utility>

namespace tiercel::inspect {
namespace {

constexpr std::chrono::milliseconds kTurn(50);  // how late a time limit or a cancellation is noticed
constexpr std::uint64_t kOrderSeed = 20;

const BlockHash& fingerprint() {
  static const BlockHash kFingerprint = [] {
    BlockHash hash;
    hash.bytes.fill(std::byte{0x42});
    return hash;
  }();
  return kFingerprint;
}

}  // namespace

void BlockTraffic::Ended::push(Place place) {
  const MutexLock lock(mutex);
  places.push_back(std::move(place));
  changed.notify_one();
}

BlockTraffic::BlockTraffic(BenchFile& file, const Options& options, std::span<SlotContent> contents, std::byte* memory,
                           std::shared_ptr<void> owner)
    : file_(file), options_(options), contents_(contents), owner_(std::move(owner)), order_(contents.size()) {
  TIERCEL_CHECK(contents.size() >= std::size_t{2} * options.in_flight, "a free slot is always found");
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  if (!options.in_order) std::shuffle(order_.begin(), order_.end(), std::mt19937_64(kOrderSeed));
  for (std::uint32_t i = 0; i < options.in_flight; ++i) {
    idle_.push_back({.memory = memory + std::uint64_t{i} * options.block_bytes});
  }
}

BlockTraffic::~BlockTraffic() {
  stop();
  wait();
  {
    const MutexLock lock(ended_->mutex);
    ended_->closed = true;
    ended_->changed.notify_all();
  }
  for (std::thread& worker : workers_) worker.join();
}

void BlockTraffic::start() {
  {
    const MutexLock lock(mutex_);
    in_flight_ = static_cast<std::uint32_t>(idle_.size());
  }
  for (std::uint32_t i = 0; i < options_.workers; ++i) workers_.emplace_back([this] { work(); });
  // The workers begin them, so that the first checksums are spread over them too.
  for (Place& place : std::exchange(idle_, {})) {
    place.content = contents_.size();
    ended_->push(std::move(place));
  }
}

void BlockTraffic::stop() {
  const MutexLock lock(mutex_);
  stopping_ = true;
}

void BlockTraffic::wait() {
  MutexLock lock(mutex_);
  while (in_flight_ > 0) changed_.wait(lock.native());
}

void BlockTraffic::run_until(std::uint64_t until_ns, const std::atomic<bool>* cancel) {
  start();
  MutexLock lock(mutex_);
  while (in_flight_ > 0) {
    (void)changed_.wait_for(lock.native(), kTurn);
    if (file_.clock().now_ns() >= until_ns || (cancel != nullptr && cancel->load())) stopping_ = true;
  }
}

std::uint64_t BlockTraffic::last_end_ns() {
  const MutexLock lock(mutex_);
  return last_end_ns_;
}

Status BlockTraffic::outcome() {
  const MutexLock lock(mutex_);
  return outcome_;
}

std::vector<std::uint64_t> BlockTraffic::take_latencies() {
  const MutexLock lock(mutex_);
  return std::move(latencies_);
}

void BlockTraffic::work() {
  for (;;) {
    Place place;
    {
      MutexLock lock(ended_->mutex);
      while (ended_->places.empty() && !ended_->closed) ended_->changed.wait(lock.native());
      if (ended_->places.empty()) return;
      place = std::move(ended_->places.front());
      ended_->places.pop_front();
    }
    if (place.content != contents_.size()) finish(place);
    begin(std::move(place));
  }
}

void BlockTraffic::finish(Place& place) {
  SlotContent& content = contents_[place.content];
  if (place.status && options_.direction == DiskDirection::kRead) {
    const BlockHash name = name_of(place.content);
    const std::uint64_t found =
        block_checksum({.fingerprint = fingerprint(), .hash = name, .generation = content.generation},
                       {place.memory, options_.block_bytes});
    if (found != content.checksum) {
      place.status = fail(ErrorCode::kCorrupt, "a block that was read does not agree with its checksum");
    }
  }
  const std::uint64_t now = file_.clock().now_ns();
  const MutexLock lock(mutex_);
  content.busy = false;
  if (!place.status) {
    if (outcome_) outcome_ = place.status;
    stopping_ = true;
    return;
  }
  latencies_.push_back(now - place.started_ns);
  last_end_ns_ = std::max(last_end_ns_, now);
  ended_blocks_.fetch_add(1, std::memory_order_release);
}

void BlockTraffic::begin(Place place) {
  place.status = {};
  if (!choose(place)) return give_up(place, {});
  place.started_ns = file_.clock().now_ns();
  switch (submit(place)) {
    case DiskSubmit::kTaken:
      return;
    case DiskSubmit::kBusy:
      return give_up(place, fail(ErrorCode::kLimit, "the disk tier's queue is full"));
    case DiskSubmit::kOff:
      return give_up(place, fail(ErrorCode::kIo, "the disk tier has switched itself off: " + file_.cause()));
  }
}

bool BlockTraffic::choose(Place& place) {
  const MutexLock lock(mutex_);
  if (stopping_ || begun_ >= options_.most_blocks) return false;
  do {  // fewer than half of them are busy
    place.content = order_[cursor_];
    cursor_ = (cursor_ + 1) % order_.size();
  } while (contents_[place.content].busy);
  SlotContent& content = contents_[place.content];
  content.busy = true;
  if (options_.direction == DiskDirection::kWrite) content.generation = options_.first_generation + begun_;
  ++begun_;
  return true;
}

DiskSubmit BlockTraffic::submit(const Place& place) {
  SlotContent& content = contents_[place.content];
  const auto done = [ended = ended_, place = Place(place)](const Status& status) {
    Place answered = place;
    answered.status = status;
    ended->push(std::move(answered));
  };
  const auto length = static_cast<std::uint32_t>(options_.block_bytes);
  if (options_.direction == DiskDirection::kRead) {
    return file_.tier().read({.slot = content.slot,
                              .slot_bytes = options_.block_bytes,
                              .generation = content.generation,
                              .to = place.memory,
                              .length = length,
                              .deadline_ns = deadline_after(place.started_ns, options_.deadline_ns),
                              .done = done,
                              .owner = owner_});
  }
  const BlockHash name = name_of(place.content);
  std::memcpy(place.memory, &content.generation, sizeof(content.generation));  // no bytes are written twice
  content.checksum = block_checksum({.fingerprint = fingerprint(), .hash = name, .generation = content.generation},
                                    {place.memory, options_.block_bytes});
  return file_.tier().write({.block = {.fingerprint = fingerprint(),
                                       .hash = name,
                                       .parent = fingerprint(),
                                       .slot = content.slot,
                                       .slot_bytes = options_.block_bytes,
                                       .length = length,
                                       .checksum = content.checksum,
                                       .generation = content.generation},
                             .from = place.memory,
                             .done = done,
                             .owner = owner_});
}

void BlockTraffic::give_up(Place& place, Status status) {
  const MutexLock lock(mutex_);
  if (!status) {
    contents_[place.content].busy = false;
    if (outcome_) outcome_ = std::move(status);
    stopping_ = true;
  }
  if (--in_flight_ == 0) changed_.notify_all();
}

BlockHash BlockTraffic::name_of(std::size_t content) const {
  BlockHash hash;
  std::memcpy(hash.bytes.data(), &contents_[content].slot, sizeof(std::uint32_t));
  return hash;
}

}  // namespace tiercel::inspect
