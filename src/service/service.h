// Service: one cache for all engines of a machine, and what people see of it. `tiercel serve` is this and a signal.
//
// Owns the cache, the door for engines and the HTTP front. open() answers with all of it running, or with an Error and
// nothing left: addresses and the door's place are taken first, so that what is in use costs no arena. close() ends in
// order: the health turns to "closing", engines are let go, the cache ends, HTTP last. Safe from any thread, but for
// close(), which is one caller's; the destructor closes what was not closed.
#pragma once

#include "service/engine_door.h"
#include "service/view.h"

#include <tiercel/config.h>
#include <tiercel/export.h>
#include <tiercel/result.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tiercel::service {

/// How people operate a service; without it they can only look.
struct AdminOptions {
  std::string socket{};                           ///< of admin calls (admin/door.h); empty: none
  std::function<Result<Config>()> read_config{};  ///< reads the configuration again, as it was read at the start
};

class TIERCEL_API Service final : public ServiceView {
 public:
  /// Errors name the key, the value and what would be valid. Without a door no engine can come in from outside.
  [[nodiscard]] static Result<std::unique_ptr<Service>> open(const Config& config, const Door& door = {},
                                                             const AdminOptions& admin = {});
  ~Service() override;

  /// "http://127.0.0.1:9800/"; empty: http.listen is.
  [[nodiscard]] std::string page_url() const;
  /// "http://127.0.0.1:9801/metrics"; empty: metrics.listen is.
  [[nodiscard]] std::string metrics_url() const;
  [[nodiscard]] Cache& cache() noexcept;

  [[nodiscard]] Stats stats() const override;
  [[nodiscard]] std::vector<DiskReport> disks() const override;
  [[nodiscard]] std::vector<EngineReport> engines() const override;
  [[nodiscard]] std::optional<SocketFigures> socket() const override;
  [[nodiscard]] std::vector<TenantReport> tenants() const override;
  [[nodiscard]] ArenaReport arena() const override;
  [[nodiscard]] ServiceFacts facts() const override;
  [[nodiscard]] Mode mode() const override;
  [[nodiscard]] bool closing() const noexcept override;

  /// Reads the configuration again and takes over what may change at run time; all of it or, where it is wrong,
  /// nothing. Answers a sentence. Any thread.
  Result<std::string> reload();

  /// Waits at most about `deadline`. kTimeout: something was still running and is left behind. Idempotent.
  Status close(std::chrono::nanoseconds deadline);

 private:
  class Parts;
  explicit Service(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace tiercel::service
