#include "service/http/front.h"

#include "base/try.h"
#include "service/admin/door.h"
#include "service/http/assets.h"
#include "service/http/health.h"
#include "service/http/tenant_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace tiercel::service {
namespace {

constexpr std::chrono::seconds kStreamPatience(5);  // a stream without news says so, and learns that its client is gone
constexpr std::chrono::seconds kScrapeIdle(15);
constexpr const char* kJson = "application/json; charset=utf-8";
constexpr const char* kText = "text/plain; charset=utf-8";
/// The page runs its own files and nothing else, from nowhere else, in nobody's frame.
constexpr const char* kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

Result<std::unique_ptr<Listener>> bind_one(std::string_view key, const std::string& listen, ListenerOptions options) {
  if (listen.empty()) return std::unique_ptr<Listener>();
  TIERCEL_TRY_ASSIGN(options.address, config::parse_address(listen));
  options.key = key;
  return Listener::bind(options);
}

std::string url_of(const Listener* listener, std::string_view path) {
  return listener == nullptr ? "" : fmt::format("http://{}{}", config::format_address(listener->address()), path);
}

std::string event_of(const Snapshot& snapshot) {
  return fmt::format("id: {}\ndata: {}\n\n", snapshot.tick, snapshot.json);
}

}  // namespace

Result<std::unique_ptr<Front>> Front::bind(const Config& config) {
  ListenerOptions options{.connections = config.http.connections};
  TIERCEL_TRY_ASSIGN(auto page, bind_one("http.listen", config.http.listen, options));
  options.idle = kScrapeIdle;
  TIERCEL_TRY_ASSIGN(auto metrics, bind_one("metrics.listen", config.metrics.listen, options));
  return std::unique_ptr<Front>(new Front(config.http, std::move(page), std::move(metrics)));
}

Front::Front(const HttpConfig& http, std::unique_ptr<Listener> page, std::unique_ptr<Listener> metrics)
    : guard_(std::make_shared<const Guard>(http.hosts)),
      most_streams_(http.streams),
      page_(std::move(page)),
      metrics_(std::move(metrics)) {}

Front::~Front() { stop(); }

void Front::reconfigure(const HttpConfig& http) {
  auto guard = std::make_shared<const Guard>(http.hosts);
  most_streams_.store(http.streams, std::memory_order_relaxed);
  const MutexLock lock(mutex_);
  guard_.swap(guard);
}

std::shared_ptr<const Guard> Front::guard() const {
  const MutexLock lock(mutex_);
  return guard_;
}

void Front::start(const ServiceView& view, const Clock& clock, AdminDoor* admin) {
  view_ = &view;
  admin_ = admin;
  sampler_ = std::make_unique<Sampler>(view, clock);
  if (page_) {
    sampler_->tick();  // the first answer has figures
    protect(*page_);
    add_page_routes();
    add_assets();
    if (admin_ != nullptr) admin_->attach(*page_);
    sampler_->start();
    page_->start();
  }
  if (metrics_) {
    protect(*metrics_);
    add_metrics_routes();
    metrics_->start();
  }
}

void Front::stop() {
  if (sampler_) sampler_->stop();  // lets go of the streams
  if (page_) page_->end();
  if (metrics_) metrics_->end();
}

std::string Front::page_url() const { return url_of(page_.get(), "/"); }
std::string Front::metrics_url() const { return url_of(metrics_.get(), "/metrics"); }

void Front::protect(Listener& listener) {
  const bool admits = admin_ != nullptr && &listener == page_.get();
  listener.set_pre_routing_handler([this, admits](const httplib::Request& request, httplib::Response& response) {
    using Answer = httplib::Server::HandlerResponse;
    const bool reads = request.method == "GET" || request.method == "HEAD";
    const bool body = request.has_header("Content-Length") || request.has_header("Transfer-Encoding");
    const bool call = admits && AdminDoor::is_call(request);
    if (!call && (!reads || body)) {
      response.status = reads ? 413 : 405;
      response.set_header("Allow", "GET, HEAD");
      response.set_content("Only GET and HEAD without a body are answered here.\n", kText);
    } else if (auto why = guard()->refuse(request.get_header_value("Host"), request.get_header_value("Origin"))) {
      response.status = 403;
      response.set_content(*why, kText);
    } else if (!call || admin_->admit(request, response)) {
      return Answer::Unhandled;
    }
    refused_requests_.fetch_add(1, std::memory_order_relaxed);
    Listener::close_after_answer();  // a body may follow, which nobody reads
    response.set_header("Connection", "close");
    return Answer::Handled;
  });
  listener.set_default_headers({{"X-Content-Type-Options", "nosniff"},
                                {"Cache-Control", "no-store"},
                                {"Referrer-Policy", "no-referrer"},
                                {"Content-Security-Policy", kPolicy}});
  listener.set_error_handler([](const httplib::Request&, httplib::Response& response) {
    if (response.status == 404 && response.body.empty()) response.set_content("There is nothing here.\n", kText);
  });
  listener.set_exception_handler([](const httplib::Request&, httplib::Response& response, const std::exception_ptr&) {
    response.status = 500;
    response.set_content("The service could not answer.\n", kText);
  });
}

void Front::add_page_routes() {
  page_->Get("/status", [this](const httplib::Request&, httplib::Response& response) {
    response.set_content(sampler_->latest()->json, kJson);
  });
  page_->Get("/history", [this](const httplib::Request&, httplib::Response& response) {
    response.set_content(sampler_->history(), kJson);
  });
  page_->Get("/stream", [this](const httplib::Request& request, httplib::Response& response) {
    answer_stream(request, response);
  });
}

void Front::add_assets() {
  for (const Asset& asset : assets()) {
    page_->Get(std::string(asset.path), [&asset](const httplib::Request&, httplib::Response& response) {
      response.set_content(asset.bytes.data(), asset.bytes.size(), std::string(asset.type));
    });
  }
}

void Front::add_metrics_routes() {
  metrics_->Get("/metrics", [this](const httplib::Request&, httplib::Response& response) { answer_metrics(response); });
  metrics_->Get("/healthz", [this](const httplib::Request&, httplib::Response& response) { answer_health(response); });
}

void Front::answer_stream(const httplib::Request&, httplib::Response& response) {
  if (streams_.fetch_add(1, std::memory_order_relaxed) >= most_streams_.load(std::memory_order_relaxed)) {
    streams_.fetch_sub(1, std::memory_order_relaxed);
    refused_streams_.fetch_add(1, std::memory_order_relaxed);
    response.status = 503;
    response.set_header("Retry-After", "30");
    response.set_content("As many live streams are open as http.streams allows; read /status instead.\n", kText);
    return;
  }
  response.set_chunked_content_provider(
      "text/event-stream",  // exactly so: anything else of text/ httplib compresses, which holds events back
      [this, seen = std::uint64_t{0}](std::size_t, httplib::DataSink& sink) mutable {
        const auto snapshot = sampler_->wait_after(seen, kStreamPatience);
        if (snapshot == nullptr && sampler_->stopped()) {
          sink.done();
          return true;
        }
        const std::string event = snapshot ? event_of(*snapshot) : std::string(": still here\n\n");
        if (snapshot) seen = snapshot->tick;
        return sink.write(event.data(), event.size());
      },
      [this](bool) { streams_.fetch_sub(1, std::memory_order_relaxed); });
}

void Front::answer_metrics(httplib::Response& response) const {
  const Health health = health_of(view_->closing(), view_->disks(), view_->arena());
  response.set_content(service_metrics_text({.facts = view_->facts(),
                                             .health = health.state,
                                             .http = figures(),
                                             .engines = view_->engines(),
                                             .socket = view_->socket(),
                                             .tenants = shown_tenants(view_->tenants()),
                                             .mode = view_->mode(),
                                             .arena = view_->arena()}) +
                           prometheus_text(view_->stats()),
                       "text/plain; version=0.0.4; charset=utf-8");
}

void Front::answer_health(httplib::Response& response) const {
  const Health health = health_of(view_->closing(), view_->disks(), view_->arena());
  response.status = health.state == HealthState::kClosing ? 503 : 200;
  std::string text(health_name(health.state));
  for (const std::string& cause : health.causes) text += "\n" + cause;
  response.set_content(text + "\n", kText);
}

HttpFigures Front::figures() const {
  HttpFigures figures{.streams = streams_.load(std::memory_order_relaxed),
                      .refused_streams = refused_streams_.load(std::memory_order_relaxed),
                      .refused_requests = refused_requests_.load(std::memory_order_relaxed)};
  const auto add = [&](const char* name, const Listener* listener) {
    if (listener == nullptr) return;
    figures.listeners.push_back({.name = name,
                                 .connections = listener->open_connections(),
                                 .refused_connections = listener->refused_connections()});
  };
  add("page", page_.get());
  add("metrics", metrics_.get());
  return figures;
}

}  // namespace tiercel::service
