#include "service/http/sampler.h"

#include "service/http/status_json.h"
#include "service/http/tenant_list.h"

#include <fmt/format.h>

#include <utility>

namespace tiercel::service {
namespace {

constexpr std::chrono::seconds kInterval(1);
constexpr double kNsPerSecond = 1e9;

}  // namespace

Sampler::Sampler(const ServiceView& view, const Clock& clock) : view_(view), clock_(clock) {}

Sampler::~Sampler() { stop(); }

void Sampler::start() {
  thread_ = std::thread([this] { run(); });
}

void Sampler::stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Sampler::run() {
  auto next = std::chrono::steady_clock::now();
  for (;;) {
    tick();
    next += kInterval;
    MutexLock lock(mutex_);
    while (!stopping_ && std::chrono::steady_clock::now() < next) changed_.wait_until(lock.native(), next);
    if (stopping_) return;
  }
}

void Sampler::tick() {
  const MutexLock one_at_a_time(ticking_);
  StatusInput input{.closing = view_.closing(),
                    .facts = view_.facts(),
                    .stats = view_.stats(),
                    .disks = view_.disks(),
                    .engines = view_.engines(),
                    .tenants = shown_tenants(view_.tenants()),
                    .mode = view_.mode(),
                    .arena = view_.arena()};
  recent_.emplace_back(clock_.now_ns(), input.stats);
  if (recent_.size() > kWindow + 1) recent_.pop_front();
  const auto& [now_ns, stats] = recent_.back();
  // The first tick compares with itself: levels are known, rates and ratios are not.
  const auto& [last_ns, last] = recent_[recent_.size() < 2 ? 0 : recent_.size() - 2];
  const auto& [oldest_ns, oldest] = recent_.front();
  const auto between = [](std::uint64_t from, std::uint64_t to) {
    return static_cast<double>(to - from) / kNsPerSecond;
  };
  input.window_seconds = between(oldest_ns, now_ns);
  input.now = sample_of(oldest, stats, input.window_seconds);
  input.last = sample_of(last, stats, between(last_ns, now_ns));
  {
    const MutexLock lock(mutex_);
    input.tick = ticks_ + 1;
  }
  auto snapshot = std::make_shared<const Snapshot>(Snapshot{.tick = input.tick, .json = status_json(input)});
  {
    const MutexLock lock(mutex_);
    ticks_ = input.tick;
    latest_ = std::move(snapshot);
    ring_.push_back({.tick = input.tick, .sample = input.last});
    if (ring_.size() > kSamples) ring_.pop_front();
  }
  changed_.notify_all();
}

std::shared_ptr<const Snapshot> Sampler::latest() const {
  const MutexLock lock(mutex_);
  return latest_;
}

std::shared_ptr<const Snapshot> Sampler::wait_after(std::uint64_t tick, std::chrono::milliseconds patience) const {
  const auto until = std::chrono::steady_clock::now() + patience;
  MutexLock lock(mutex_);
  while (!stopping_ && (latest_ == nullptr || latest_->tick <= tick)) {
    if (changed_.wait_until(lock.native(), until) == std::cv_status::timeout) return nullptr;
  }
  return stopping_ ? nullptr : latest_;
}

bool Sampler::stopped() const {
  const MutexLock lock(mutex_);
  return stopping_;
}

std::string Sampler::history() const {
  std::deque<Point> ring;
  {
    const MutexLock lock(mutex_);
    ring = ring_;
  }
  std::string json = R"({"interval_seconds":1,"ticks":[)";
  const auto join = [&](const auto& value_of) {
    for (std::size_t i = 0; i < ring.size(); ++i) json.append(i == 0 ? "" : ",").append(value_of(ring[i]));
    json += ']';
  };
  join([](const Point& point) { return fmt::format("{}", point.tick); });
  json += R"(,"columns":{)";
  for (std::size_t column = 0; column < kColumns; ++column) {
    json += fmt::format("{}\"{}\":[", column == 0 ? "" : ",", columns()[column].name);
    join([column](const Point& point) { return json_number(point.sample[column]); });
  }
  return json + "}}";
}

}  // namespace tiercel::service
