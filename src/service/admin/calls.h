// AdminCalls: what people may do to a running service: one function from (name, JSON body) to (status, JSON).
//
//   mode        {"mode", "engine"}                      what engines may do; without "mode": what holds now
//   drop        one of {"all"}, {"tenant"}, {"namespace"}, {"block"}      deletes, durably
//   namespaces  {}                                      what there is to drop
//   pin         {"block", "ttl"}                        the run from the root to this block
//   unpin       {"pin"}, pins {}
//   quota       {"tenant", "host_cap", ...}             what a tenant is promised and allowed; without: what all are
//   log-level   {"level"}                               without it: which one it is
//   reload      {}                                      the configuration is read again
//
// It knows nothing of HTTP: who calls has been admitted (door.h), and is named for the log, where each call leaves a
// line. An answer has a sentence under "done", a refusal one under "error". Pins are those of people: they end with
// their time, by unpin, or with the service. Safe from any thread; a drop waits for its logs, as Session::drop does.
#pragma once

#include "base/mutex.h"
#include "cache/core.h"
#include "service/admin/fields.h"
#include "service/view.h"

#include <tiercel/cache.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::service {

/// What reading the configuration again did.
struct ReloadReport {
  struct Change {
    std::string key;
    std::string before;
    std::string after;
  };
  std::vector<Change> applied;
  std::vector<Change> restart;  ///< changed, but only a restart takes them over
};
/// One sentence.
[[nodiscard]] std::string words_of(const ReloadReport& report);

struct AdminAnswer {
  int status = 200;  ///< of HTTP
  std::string json;  ///< one object
};

class AdminCalls {
 public:
  static constexpr std::size_t kMostPins = 1024;
  static constexpr std::size_t kMostBlocksOfAPin = 131'072;

  struct Parts {
    Cache& cache;                                        ///< outlives this
    std::function<std::vector<EngineReport>()> engines;  ///< that are connected
    std::function<Result<ReloadReport>()> reload;
  };
  explicit AdminCalls(Parts parts);
  ~AdminCalls();

  /// `who`: "user 0, process 4711", for the log.
  [[nodiscard]] AdminAnswer call(std::string_view name, std::string_view body, std::string_view who);

 private:
  struct Call;
  struct Answer;  // calls.cc: what a call answers, before it is text
  struct Held {   // a pin of people
    BlockHash block;
    std::shared_ptr<detail::PinRecord> record;
    std::uint64_t expires_ns = 0;
  };
  [[nodiscard]] static const std::vector<Call>& table();

  [[nodiscard]] Result<Answer> mode(const Fields& fields);
  [[nodiscard]] Result<Answer> drop(const Fields& fields);
  [[nodiscard]] Result<Answer> namespaces(const Fields& fields);
  [[nodiscard]] Result<Answer> pin(const Fields& fields);
  [[nodiscard]] Result<Answer> pins(const Fields& fields);
  [[nodiscard]] Result<Answer> unpin(const Fields& fields);
  [[nodiscard]] Result<Answer> quota(const Fields& fields);
  [[nodiscard]] Result<Answer> set_level(const Fields& fields);
  [[nodiscard]] Result<Answer> reload(const Fields& fields);

  [[nodiscard]] Answer modes() const;
  [[nodiscard]] std::string not_indexed() const;
  [[nodiscard]] Result<Answer> drop_tenant(const std::string& tenant);
  [[nodiscard]] Answer drop_namespaces(const std::vector<detail::NamespaceReport>& which, const std::string& of);
  void forget_ended_pins() TIERCEL_REQUIRES(mutex_);

  const Parts parts_;
  const std::shared_ptr<detail::CacheCore> core_;
  Mutex mutex_;  // before the core's
  std::map<std::uint64_t, Held> pins_ TIERCEL_GUARDED_BY(mutex_);
  std::uint64_t next_pin_ TIERCEL_GUARDED_BY(mutex_) = 1;
};

}  // namespace tiercel::service
