// IoDecorator: an IoBackend that passes everything on to another, which it owns; the decorators change a part of it.
#pragma once

#include "io/io_backend.h"

#include <memory>
#include <utility>

namespace tiercel {

class IoDecorator : public IoBackend {
 public:
  explicit IoDecorator(std::unique_ptr<IoBackend> inner) : inner_(std::move(inner)) {}

  [[nodiscard]] bool start(const IoOperation& operation) override { return inner_->start(operation); }
  [[nodiscard]] std::size_t reap(std::span<IoReaped> reaped, std::uint64_t wait_ns) override {
    return inner_->reap(reaped, wait_ns);
  }
  void wake() noexcept override { inner_->wake(); }
  [[nodiscard]] std::uint32_t depth() const noexcept override { return inner_->depth(); }
  [[nodiscard]] std::uint32_t alignment() const noexcept override { return inner_->alignment(); }
  [[nodiscard]] const char* name() const noexcept override { return inner_->name(); }
  Status register_memory(std::span<const struct iovec> memory) override { return inner_->register_memory(memory); }
  [[nodiscard]] Result<std::uint64_t> size() override { return inner_->size(); }
  Status allocate(std::uint64_t bytes) override { return inner_->allocate(bytes); }
  Status truncate(std::uint64_t bytes) override { return inner_->truncate(bytes); }

 protected:
  [[nodiscard]] IoBackend& inner() noexcept { return *inner_; }

 private:
  std::unique_ptr<IoBackend> inner_;
};

}  // namespace tiercel
