// Chain: a BlockChain that Python threads may share.
//
// BlockChain is read by several threads or changed by one; which of the two a Python program does at a time is for this
// lock to say. It is taken without waiting for the interpreter while it is held (without_gil.h).
#pragma once

#include <nanobind/nanobind.h>
#include <tiercel/block.h>

#include <memory>
#include <mutex>
#include <shared_mutex>
#include <utility>

namespace tiercel::python {

class Chain {
 public:
  explicit Chain(BlockChain chain) : shared_(std::make_unique<Shared>(std::move(chain))) {}

  /// `read` gets the chain, which nobody changes meanwhile.
  template <class Read>
  auto read(Read&& read) const {
    const std::shared_lock lock(shared_->mutex);
    return std::forward<Read>(read)(std::as_const(shared_->chain));
  }
  void append(std::span<const TokenId> tokens) {
    const std::unique_lock lock(shared_->mutex);
    shared_->chain.append(tokens);
  }

 private:
  struct Shared {
    explicit Shared(BlockChain c) : chain(std::move(c)) {}
    mutable std::shared_mutex mutex;
    BlockChain chain;
  };
  std::unique_ptr<Shared> shared_;
};

void bind_blocks(nanobind::module_& module);

}  // namespace tiercel::python
