// Front: the HTTP of a service, on two listeners with threads of their own.
//
//   metrics.listen   /metrics (Prometheus text), /healthz (ok and degraded: 200, closing: 503)
//   http.listen      / (the live page), /status (JSON), /history (JSON), /stream (server-sent events)
//                    and, with a token, the admin calls of AdminDoor
//
// Else it is read-only. Every request passes the Guard. What waits (a live stream) is
// bounded by http.streams and never keeps /healthz from answering, which has threads of its own. bind() takes the
// addresses before anything else of a service is made, start() begins to answer, stop() cuts what is open. One thread
// drives it; what it shows comes through ServiceView, which must outlive it.
#pragma once

#include "base/mutex.h"
#include "service/http/guard.h"
#include "service/http/listener.h"
#include "service/http/sampler.h"
#include "service/http/service_metrics.h"
#include "service/view.h"

#include <tiercel/config.h>
#include <tiercel/result.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>

namespace tiercel::service {

class AdminDoor;

class Front {
 public:
  /// kIo: an address cannot be had. Then neither is held.
  [[nodiscard]] static Result<std::unique_ptr<Front>> bind(const Config& config);
  ~Front();

  /// `view` and `clock` are used until stop() has returned. Once.
  /// `admin` may be null.
  void start(const ServiceView& view, const Clock& clock, AdminDoor* admin = nullptr);
  void stop();

  /// "http://127.0.0.1:9800/", or empty without one.
  [[nodiscard]] std::string page_url() const;
  [[nodiscard]] std::string metrics_url() const;

  [[nodiscard]] Sampler& sampler() noexcept { return *sampler_; }

  /// Takes over what may change: the names of http.hosts, http.streams. Any thread.
  void reconfigure(const HttpConfig& http);

 private:
  Front(const HttpConfig& http, std::unique_ptr<Listener> page, std::unique_ptr<Listener> metrics);
  void protect(Listener& listener);
  void add_page_routes();
  void add_metrics_routes();
  void add_assets();
  void answer_stream(const httplib::Request& request, httplib::Response& response);
  void answer_metrics(httplib::Response& response) const;
  void answer_health(httplib::Response& response) const;
  [[nodiscard]] HttpFigures figures() const;

  [[nodiscard]] std::shared_ptr<const Guard> guard() const;

  AdminDoor* admin_ = nullptr;
  mutable Mutex mutex_;  // a leaf
  std::shared_ptr<const Guard> guard_ TIERCEL_GUARDED_BY(mutex_);
  std::atomic<std::size_t> most_streams_;  // relaxed: a bound of its own
  std::unique_ptr<Listener> page_;         // null: not wanted
  std::unique_ptr<Listener> metrics_;      // null: not wanted
  const ServiceView* view_ = nullptr;
  std::unique_ptr<Sampler> sampler_;
  // Gauges and counters for people: they pair with nothing, but for streams_, whose increment is its own reservation.
  std::atomic<std::size_t> streams_{0};
  std::atomic<std::uint64_t> refused_streams_{0};
  std::atomic<std::uint64_t> refused_requests_{0};
};

}  // namespace tiercel::service
