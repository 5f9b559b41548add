// Transfer and Copy as Python objects: copies between the tensors of an engine and the blocks of a session.
#pragma once

#include "owners.h"

#include <nanobind/nanobind.h>
#include <tiercel/transfer.h>

#include <memory>
#include <mutex>

namespace tiercel::python {

/// The transfer and the session that it belongs to. Calls come without the interpreter's lock.
class TransferState {
 public:
  TransferState(Transfer transfer, std::shared_ptr<SessionState> session)
      : transfer_(std::make_shared<Transfer>(std::move(transfer))), session_(std::move(session)) {}
  TransferState(const TransferState&) = delete;
  TransferState& operator=(const TransferState&) = delete;
  ~TransferState();

  /// Stays usable for the caller while another thread closes. ClosedError after close, and in a forked child.
  [[nodiscard]] std::shared_ptr<Transfer> get() const;
  [[nodiscard]] Session& session() const { return session_->get(); }
  void close();

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<Transfer> transfer_;  // guarded by mutex_; null when closed
  std::shared_ptr<SessionState> session_;
};

using PyTransfer = Kept<TransferState>;

void bind_transfer(nanobind::module_& module);

}  // namespace tiercel::python
