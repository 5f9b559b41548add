#include "sim/world.h"

#include "base/random.h"
#include "base/try.h"

#include <algorithm>
#include <utility>

namespace tiercel::sim {
namespace {

/// One seed, many independent streams.
std::uint64_t stream(std::uint64_t seed, std::uint64_t number) {
  return Random(seed * 0x9E37'79B9'7F4A'7C15U ^ number).next();
}

}  // namespace

World::Process::Process(World& world, std::uint64_t seed)
    : scheduler({}, world.clock_, world.trace_, stream(seed, 1)), copies(world.trace_, stream(seed, 2)) {
  scheduler.add(copies);
  scheduler.set_stopped([&world] { return world.crashed(); });
}

World::Process::~Process() {
  scheduler.remove(copies);
  for (const auto& driver : drivers) scheduler.remove(*driver);
}

World::World(const Options& options)
    : seed_(options.seed),
      log_pages_(options.log_pages),
      trace_(clock_, options.live_trace),
      files_(options.disks, clock_, trace_, stream(options.seed, 3)) {}

World::~World() {
  if (process_ != nullptr) wind_down();
}

Status World::boot(const Config& config, const std::optional<CrashPlan>& crash) {
  ++boots_;
  trace_.event("boot {}", {boots_});
  files_.begin_boot();
  if (crash) files_.plan_crash(crash->events, crash->style);
  const std::uint64_t seed = stream(seed_, 1000 + boots_);
  auto process = std::make_unique<Process>(*this, seed);
  TIERCEL_TRY_ASSIGN(process->core, detail::CacheCore::create(config, {.clock = clock_,
                                                                       .executor = process->scheduler,
                                                                       .copies = process->copies,
                                                                       .seed = stream(seed, 4),
                                                                       .files = &files_,
                                                                       .disk_log_pages = log_pages_}));
  process->cache = Cache(process->core, nullptr);
  for (std::size_t i = 0; i < process->core->disks(); ++i) {
    process->drivers.push_back(std::make_unique<DiskDriver>(*process->core, i, files_));
    process->scheduler.add(*process->drivers.back());
  }
  process_ = std::move(process);
  return {};
}

Status World::close(std::chrono::nanoseconds deadline) {
  const std::uint64_t end_ns = deadline_after(clock_.now_ns(), static_cast<std::uint64_t>(deadline.count()));
  Status status = process_->cache.close(deadline);
  const auto ended = [this] { return std::ranges::all_of(process_->drivers, &DiskDriver::ended); };
  (void)process_->scheduler.wait_until(ended, end_ns);  // one that hangs is left behind, as its thread would be
  return status;
}

void World::end() {
  if (!crashed()) {
    trace_.event("the process ends");
    files_.end_process();
  }
  wind_down();
}

bool World::recover(std::uint64_t limit_ns) {
  const auto settled = [this] { return process_->core->disks_settled(); };
  return process_->scheduler.wait_until(settled, deadline_after(clock_.now_ns(), limit_ns));
}

void World::wind_down() {
  files_.crash({});  // if it has not yet: nothing of this boot has any effect from here on
  (void)process_->cache.close(std::chrono::nanoseconds(0));
  for (const auto& driver : process_->drivers) driver->run_out();
  process_->cache = Cache(nullptr, nullptr);
  process_->core.reset();
  process_.reset();
}

std::string World::violation() {
  if (!files_.device().violation().empty()) return files_.device().violation();
  return process_ ? process_->scheduler.violation() : std::string();
}

}  // namespace tiercel::sim
