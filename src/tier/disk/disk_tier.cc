#include "tier/disk/disk_tier.h"

#include "tier/disk/engine.h"

#include <utility>

namespace tiercel {

DiskTier::DiskTier(DiskOptions options, FileSystem& files, const Clock& clock, DiskEvents& events)
    : engine_(std::make_unique<Engine>(std::move(options), files, clock, events)) {}

DiskTier::~DiskTier() = default;

DiskSubmit DiskTier::read(DiskRead&& job) { return engine_->mailbox().read(std::move(job)); }

DiskSubmit DiskTier::write(DiskWrite&& job) { return engine_->mailbox().write(std::move(job)); }

void DiskTier::clear(std::uint32_t slot) { engine_->mailbox().clear(slot); }

DiskSubmit DiskTier::bury(std::span<const Tombstone> tombstones, std::span<const std::uint32_t> slots,
                          std::function<void(const Status&)> done, BuryScope scope) {
  return engine_->mailbox().bury(tombstones, slots, std::move(done), scope);
}

void DiskTier::forget_deletes(std::uint64_t epoch) noexcept { engine_->mailbox().forget_deletes(epoch); }

DiskSubmit DiskTier::checkpoint(std::vector<std::uint32_t> coldest_first) {
  return engine_->mailbox().checkpoint(std::move(coldest_first));
}

DiskState DiskTier::state() const noexcept { return engine_->state(); }

DiskCounters DiskTier::counters() const noexcept { return engine_->counters(); }

void DiskTier::wake() noexcept { engine_->mailbox().wake(); }

void DiskTier::close() noexcept { engine_->mailbox().close(); }

void DiskTier::hurry() noexcept { engine_->mailbox().hurry(); }

bool DiskTier::idle() const noexcept { return engine_->idle(); }

void DiskTier::discard() noexcept { engine_->discard(); }

void DiskTier::give_up(const std::string& cause) { engine_->give_up(cause); }

bool DiskTier::step(std::uint64_t wait_ns) { return engine_->step(wait_ns); }

}  // namespace tiercel
