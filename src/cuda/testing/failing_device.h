// FailingDevice: a CopyDevice whose n-th call fails, and all after it: a context that died.
//
// What was queued before still runs in the inner device, as on a real one until it is drained. The feeder's thread.
#pragma once

#include "cuda/copy_device.h"

#include <atomic>
#include <memory>
#include <string>
#include <utility>

namespace tiercel::gpu {

class FailingDevice final : public CopyDevice {
 public:
  /// `fail_at`: number of the first call that fails, counted from 0.
  FailingDevice(std::unique_ptr<CopyDevice> inner, std::uint64_t fail_at) : inner_(std::move(inner)), left_(fail_at) {}

  [[nodiscard]] bool owns(const void* address) const noexcept override { return inner_->owns(address); }
  Result<Ticket> gate(CopyDirection direction, void* event) override { return inner_->gate(direction, event); }
  Status begin_thread() override { return inner_->begin_thread(); }
  Result<const PieceEntry*> upload(const PieceTable& table) override {
    if (fails()) return error();
    return inner_->upload(table);
  }
  void forget(const PieceEntry* pieces) noexcept override { inner_->forget(pieces); }
  std::byte* stage(CopyDirection direction, std::uint32_t number) noexcept override {
    return inner_->stage(direction, number);
  }
  Status run_stage(CopyDirection direction, const StageParams& params) override {
    if (fails()) return error();
    return inner_->run_stage(direction, params);
  }
  Status copy(Queue queue, CopyDirection direction, std::span<const Dma> chunk) override {
    if (fails()) return error();
    return inner_->copy(queue, direction, chunk);
  }
  Result<Ticket> mark(Queue queue) override {
    if (fails()) return error();
    return inner_->mark(queue);
  }
  Status wait(Queue queue, Ticket ticket) override {
    if (fails()) return error();
    return inner_->wait(queue, ticket);
  }
  Result<bool> reached(Ticket ticket) override {
    if (fails()) return error();
    return inner_->reached(ticket);
  }
  Status wait_in_stream(void* stream, Ticket ticket) override { return inner_->wait_in_stream(stream, ticket); }
  void give_back(Ticket ticket) noexcept override { inner_->give_back(ticket); }
  void drain() noexcept override { inner_->drain(); }
  Status pin(std::byte* begin, std::uint64_t bytes) override { return inner_->pin(begin, bytes); }
  void unpin(std::byte* begin) noexcept override { inner_->unpin(begin); }
  [[nodiscard]] std::string describe() const override { return inner_->describe(); }

  [[nodiscard]] bool failed() const noexcept { return failed_.load(); }

 private:
  bool fails() {
    if (left_ > 0) {
      --left_;
      return false;
    }
    failed_.store(true);
    return true;
  }
  static tl::unexpected<Error> error() { return fail(ErrorCode::kIo, "planted: the device failed"); }

  std::unique_ptr<CopyDevice> inner_;
  std::uint64_t left_;
  std::atomic<bool> failed_{false};  // for the test's thread
};

}  // namespace tiercel::gpu
