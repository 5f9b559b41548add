// The public handles: thin owners of their backends. The only place besides cache.cc where std::bad_alloc is caught.
#include "cache/session_backend.h"

#include <tiercel/session.h>

#include <algorithm>
#include <new>
#include <utility>

namespace tiercel {

std::size_t Match::blocks_in(TierId tier) const noexcept {
  return static_cast<std::size_t>(std::ranges::count_if(tiers_, [tier](TierSet set) { return set.has(tier); }));
}

// ---- Load

Load::Load() = default;
Load::Load(std::unique_ptr<detail::LoadBackend> backend) : backend_(std::move(backend)) {}
Load::Load(Load&&) noexcept = default;
Load& Load::operator=(Load&&) noexcept = default;
Load::~Load() = default;

std::span<const BlockRef> Load::wait() { return backend_ ? backend_->wait() : std::span<const BlockRef>(); }
bool Load::done() const { return !backend_ || backend_->done(); }
std::span<const BlockRef> Load::so_far() const { return backend_ ? backend_->so_far() : std::span<const BlockRef>(); }
LoadOutcome Load::outcome() const { return backend_ ? backend_->outcome() : LoadOutcome::kClosed; }
std::vector<BlockRef> Load::take() { return backend_ ? backend_->take() : std::vector<BlockRef>(); }

// ---- Writer and Reservation

namespace {

/// An error's sentence may find no memory; what the commit did to the cache is done by then.
Status commit_at_border(detail::ReservationBackend& backend, std::size_t item, std::optional<std::size_t> size) {
  try {
    return backend.commit(item, size);
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kOutOfMemory, "no memory for the sentence of the commit's error");
  }
}

}  // namespace

void detail::ReservationBackend::commit_several(std::span<const WriterCommit> items, std::span<Status> statuses) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    statuses[i] = commit_at_border(*this, items[i].writer, items[i].size);
  }
}

CopyPin Writer::begin_copy() const { return backend_ == nullptr ? CopyPin() : backend_->begin_copy(item_); }

Status Writer::commit(std::optional<std::size_t> size) {
  if (backend_ == nullptr) return fail(ErrorCode::kInvalidArgument, "commit: the writer is empty");
  Status status = commit_at_border(*backend_, item_, size);
  committed(status);
  return status;
}

void Writer::committed(const Status& status) noexcept {
  const bool keeps_bytes =
      !status && (status.error().code == ErrorCode::kIncomplete || status.error().code == ErrorCode::kInvalidArgument);
  if (!keeps_bytes) bytes_ = {};
}

void Writer::abort() noexcept {
  if (backend_ != nullptr) backend_->abort(item_);
  bytes_ = {};
}

Reservation::Reservation() = default;

Reservation::Reservation(std::shared_ptr<detail::ReservationBackend> backend)
    : backend_(std::move(backend)), writers_(backend_ ? backend_->size() : 0) {
  for (std::size_t i = 0; i < writers_.size(); ++i) {
    if (backend_->outcome(i) != Reserved::kYes) continue;
    writers_[i].backend_ = backend_.get();
    writers_[i].item_ = i;
    writers_[i].bytes_ = backend_->bytes(i);
  }
}

Reservation::Reservation(Reservation&& other) noexcept
    : backend_(std::exchange(other.backend_, nullptr)), writers_(std::exchange(other.writers_, {})) {}

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  if (this != &other) {
    drop();
    backend_ = std::exchange(other.backend_, nullptr);
    writers_ = std::exchange(other.writers_, {});
  }
  return *this;
}

Reservation::~Reservation() { drop(); }

void Reservation::drop() noexcept {
  if (backend_) backend_->finish();
  writers_.clear();
  backend_ = nullptr;
}

Result<Committed> Reservation::commit(std::span<const WriterCommit> writers) {
  try {
    Committed done;
    std::vector<Status> statuses(writers.size());
    std::vector<WriterCommit> asked;
    std::vector<std::size_t> places;  // of what is asked, in `writers`
    asked.reserve(writers.size());
    places.reserve(writers.size());
    done.failures.reserve(writers.size());
    for (std::size_t i = 0; i < writers.size(); ++i) {
      const std::size_t number = writers[i].writer;
      if (number >= writers_.size()) {
        statuses[i] = fail(ErrorCode::kInvalidArgument, "commit: there is no writer of this number");
      } else if (writers_[number].backend_ == nullptr) {
        statuses[i] = fail(ErrorCode::kInvalidArgument, "commit: the writer is empty");
      } else {
        asked.push_back(writers[i]);
        places.push_back(i);
      }
    }
    std::vector<Status> answers(asked.size());
    if (!asked.empty()) backend_->commit_several(asked, answers);
    for (std::size_t k = 0; k < answers.size(); ++k) {
      writers_[asked[k].writer].committed(answers[k]);
      statuses[places[k]] = std::move(answers[k]);
    }
    for (std::size_t i = 0; i < writers.size(); ++i) {
      if (statuses[i]) {
        ++done.blocks;
      } else {
        done.failures.push_back({.place = i, .writer = writers[i].writer, .error = std::move(statuses[i]).error()});
      }
    }
    return done;
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kOutOfMemory, "no memory for a commit of several blocks");
  }
}

Result<Committed> Reservation::commit_all() {
  std::vector<WriterCommit> open;
  try {
    open.reserve(writers_.size());
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kOutOfMemory, "no memory for a commit of several blocks");
  }
  for (std::size_t i = 0; i < writers_.size(); ++i) {
    if (!writers_[i].bytes().empty()) open.push_back({.writer = i});
  }
  return commit(open);
}

Reserved Reservation::outcome(std::size_t i) const { return backend_->outcome(i); }
std::uint64_t Reservation::id() const noexcept { return backend_ ? backend_->id() : 0; }

// ---- Pin

Pin::Pin() = default;
Pin::Pin(std::unique_ptr<detail::PinBackend> backend) : backend_(std::move(backend)) {}
Pin::Pin(Pin&&) noexcept = default;
Pin& Pin::operator=(Pin&&) noexcept = default;
Pin::~Pin() = default;
std::size_t Pin::blocks() const { return backend_ ? backend_->blocks() : 0; }

// ---- Session

namespace {
tl::unexpected<Error> no_session() { return fail(ErrorCode::kClosed, "the session was moved away"); }
tl::unexpected<Error> no_memory() { return fail(ErrorCode::kOutOfMemory, "no memory for the call's bookkeeping"); }
}  // namespace

Session::Session(std::shared_ptr<detail::SessionBackend> backend) : backend_(std::move(backend)) {}
Session::Session(Session&&) noexcept = default;

Session& Session::operator=(Session&& other) noexcept {
  if (this != &other) {
    close();
    backend_ = std::move(other.backend_);
  }
  return *this;
}

Session::~Session() { close(); }

void Session::close() noexcept {
  if (backend_) backend_->close();
}

Space Session::space(std::string_view tenant) const { return backend_ ? backend_->space(tenant) : Space(); }

std::uint64_t Session::block_bytes() const noexcept { return backend_ ? backend_->block_bytes() : 0; }

Match Session::match(const BlockChain& chain) const {
  try {
    return backend_ ? backend_->match(chain) : Match();
  } catch (const std::bad_alloc&) {
    return {};
  }
}

namespace {

Load load_by(detail::SessionBackend* backend, const detail::SessionBackend::LoadCall& call) {
  try {
    return backend != nullptr ? Load(backend->load(call)) : Load();
  } catch (const std::bad_alloc&) {
    return {};
  }
}

}  // namespace

Load Session::load(const BlockChain& chain, std::size_t blocks, std::chrono::nanoseconds deadline) {
  return load_by(backend_.get(), {.chain = chain, .blocks = blocks, .deadline = deadline});
}

Load Session::load(const BlockChain& chain, std::size_t blocks, std::chrono::nanoseconds deadline,
                   const PrefillAhead& ahead) {
  return load_by(backend_.get(), {.chain = chain, .blocks = blocks, .deadline = deadline, .ahead = &ahead});
}

Reservation Session::reserve(const BlockChain& chain, std::size_t first, std::size_t count) {
  try {
    return backend_ ? Reservation(backend_->reserve(chain, first, count)) : Reservation();
  } catch (const std::bad_alloc&) {
    return {};
  }
}

Result<std::vector<BlockPart>> Session::parts(std::uint64_t reservation_id, std::span<const std::size_t> blocks) {
  if (!backend_) return no_session();
  try {
    return backend_->parts(reservation_id, blocks);
  } catch (const std::bad_alloc&) {
    return no_memory();
  }
}

Status Session::report(std::uint64_t reservation_id, std::span<const std::size_t> blocks) {
  if (!backend_) return no_session();
  try {
    return backend_->report(reservation_id, blocks);
  } catch (const std::bad_alloc&) {
    return no_memory();
  }
}

void Session::report_pool(const KvPool& pool) noexcept {
  try {
    if (backend_) backend_->report_pool(pool);
  } catch (const std::bad_alloc&) {  // the next report comes
  }
}

void Session::report_prefill(const PrefillTime& prefill) noexcept {
  try {
    if (backend_) backend_->report_prefill(prefill);
  } catch (const std::bad_alloc&) {  // as above
  }
}

void Session::report_prefill(double bytes_per_second) noexcept {
  try {
    if (backend_) backend_->report_prefill(bytes_per_second);
  } catch (const std::bad_alloc&) {  // as above
  }
}

Result<Pin> Session::pin(const BlockChain& chain, std::size_t blocks, std::chrono::nanoseconds ttl) {
  if (!backend_) return no_session();
  try {
    auto pin = backend_->pin(chain, blocks, ttl);
    if (!pin) return tl::unexpected<Error>(std::move(pin).error());
    return Pin(std::move(*pin));
  } catch (const std::bad_alloc&) {
    return no_memory();
  }
}

Result<Dropped> Session::drop(const BlockChain& chain, std::size_t first) {
  if (!backend_) return no_session();
  try {
    return backend_->drop(chain, first);
  } catch (const std::bad_alloc&) {
    return no_memory();
  }
}

Result<Dropped> Session::drop(const Space& space) {
  if (!backend_) return no_session();
  try {
    return backend_->drop(space);
  } catch (const std::bad_alloc&) {
    return no_memory();
  }
}

}  // namespace tiercel
