// Goal: no sequence of calls of the C interface crashes, leaks or hangs, and a load gives exactly the bytes of the last
// commit under each key.
//
// The input is a program: bytes pick a call, its handles out of a few places, and its numbers (out of range as often as
// not); FuzzedDataProvider reads it from its end. A model remembers, by block hash, what was committed last. Eviction
// may take a block away, nothing may change it.
#include <tiercel/c.h>

#include "base/check.h"

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace {

constexpr std::size_t kPlaces = 4;
constexpr std::uint32_t kBlockTokens = 4;
constexpr std::size_t kBlockBytes = 200'000;  // ten to an extent: four extents force evictions and hand-overs
constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr const char* kConfig =
    "host.capacity = \"8MiB\"\nhost.extent_bytes = \"2MiB\"\nhost.min_slot_bytes = \"64KiB\"\nhost.prefault = false\n"
    "index.blocks = 64\nlimits.sessions = 3\nlimits.namespaces = 8\nworkers.threads = 1\n";

using Hash = std::array<std::uint8_t, 32>;

/// What was committed under a key: `size` bytes that follow from `seed`.
struct Commit {
  std::uint64_t seed = 0;
  std::size_t size = 0;
};

// Only the first and the last bytes and some between are written and looked at: the fuzzer's time goes into calls.
constexpr std::size_t kStride = 4'093;

std::uint8_t byte_of(std::uint64_t seed, std::size_t i) {
  return static_cast<std::uint8_t>((seed * 131 + i / kStride) ^ (seed >> 8));
}

void fill(void* bytes, const Commit& commit) {
  auto* out = static_cast<std::uint8_t*>(bytes);
  for (std::size_t i = 0; i < commit.size; i += kStride) out[i] = byte_of(commit.seed, i);
  out[commit.size - 1] = byte_of(commit.seed, commit.size - 1);
}

void check_bytes(const void* bytes, std::size_t size, const Commit& commit) {
  TIERCEL_CHECK(size == commit.size, "a load has the size of its commit");
  const auto* in = static_cast<const std::uint8_t*>(bytes);
  for (std::size_t i = 0; i < size; i += kStride)
    TIERCEL_CHECK(in[i] == byte_of(commit.seed, i), "a load is its commit");
  TIERCEL_CHECK(in[size - 1] == byte_of(commit.seed, size - 1), "a load is its commit to the end");
}

template <auto free_handle>
struct Free {
  template <class T>
  void operator()(T* handle) const noexcept {
    free_handle(handle);
  }
};
template <class T, auto free_handle>
using Handle = std::unique_ptr<T, Free<free_handle>>;

struct ChainPlace {
  Handle<tiercel_chain, tiercel_chain_free> chain;
};

/// A reservation and the hashes of its blocks,.
struct RoomPlace {
  Handle<tiercel_reservation, tiercel_reservation_free> room;
  std::vector<Hash> hashes;
};

/// A finished load and what its blocks must stay.
struct LoadPlace {
  Handle<tiercel_load, tiercel_load_free> load;
  std::vector<Commit> blocks;
};

class Program {
 public:
  explicit Program(FuzzedDataProvider& input) : input_(input) {
    tiercel_cache* cache = nullptr;
    TIERCEL_CHECK(tiercel_cache_open(kConfig, &cache) == TIERCEL_OK, "the cache opens");
    cache_.reset(cache);
  }

  void run() {
    for (int calls = 0; calls < 200 && input_.remaining_bytes() > 0; ++calls) step();
    if (cache_ == nullptr) return;
    for (RoomPlace& place : rooms_) place.room.reset();
    for (LoadPlace& place : loads_) place.load.reset();
    TIERCEL_CHECK(tiercel_cache_close(cache_.get(), 5 * kSecond) == TIERCEL_OK, "with no handle left, a close ends");
  }

 private:
  void step() {
    switch (input_.ConsumeIntegralInRange<int>(0, 14)) {
      case 0:
        return open_session();
      case 1:
        return close_session();
      case 2:
      case 3:
        return make_chain();
      case 4:
        return append();
      case 5:
        return match();
      case 6:
      case 7:
        return load();
      case 8:
        return look_at_loads();
      case 9:
        return reserve();
      case 10:
      case 11:
        return commit();
      case 12:
        return abort_or_free();
      case 13:
        return pin();
      case 14:
        return drop_or_metrics();
      default:
        return;
    }
  }

  std::size_t place() { return input_.ConsumeIntegralInRange<std::size_t>(0, kPlaces - 1); }
  /// Mostly small, sometimes anything.
  std::size_t number() {
    return input_.ConsumeIntegralInRange<int>(0, 15) == 0 ? input_.ConsumeIntegral<std::size_t>()
                                                          : input_.ConsumeIntegralInRange<std::size_t>(0, 12);
  }
  tiercel_session* session() { return sessions_[place()].get(); }
  tiercel_chain* chain() { return chains_[place()].chain.get(); }

  static Hash hash_of(const tiercel_chain* chain, std::size_t block) {
    Hash hash{};
    TIERCEL_CHECK(tiercel_chain_hash(chain, block, hash.data()) == TIERCEL_OK, "a block of the chain has a hash");
    return hash;
  }

  void open_session() {
    if (cache_ == nullptr) return;
    tiercel_session_options options{};
    options.struct_bytes = input_.ConsumeBool() ? sizeof(options) : number();
    options.weights_epoch = input_.ConsumeIntegralInRange<std::uint64_t>(0, 1);
    options.kv_dtype = "f16";
    options.block_tokens =
        input_.ConsumeIntegralInRange<int>(0, 7) == 0 ? input_.ConsumeIntegral<std::uint32_t>() : kBlockTokens;
    options.block_bytes =
        input_.ConsumeIntegralInRange<int>(0, 7) == 0 ? input_.ConsumeIntegral<std::uint64_t>() : kBlockBytes;
    tiercel_session* opened = nullptr;
    const tiercel_status status = tiercel_session_open(cache_.get(), &options, &opened);
    TIERCEL_CHECK((status == TIERCEL_OK) == (opened != nullptr), "a handle or an error");
    if (opened != nullptr) sessions_[place()].reset(opened);
  }

  void close_session() {
    auto& at = sessions_[place()];
    if (input_.ConsumeBool()) {
      tiercel_session_close(at.get());
    } else {
      at.reset();
    }
  }

  std::vector<std::int32_t> tokens() {
    std::vector<std::int32_t> some(input_.ConsumeIntegralInRange<std::size_t>(0, 24));
    // Two tokens only, and whole blocks of one mostly, so that chains share what they begin with.
    std::uint8_t bits = 0;
    for (std::size_t i = 0; i < some.size(); ++i) {
      if (i % kBlockTokens == 0) bits = input_.ConsumeIntegral<std::uint8_t>() & 1U;
      some[i] = bits;
    }
    return some;
  }

  void make_chain() {
    const auto some = tokens();
    tiercel_chain* made = nullptr;
    const char* tenant = input_.ConsumeIntegralInRange<int>(0, 7) == 0 ? "other" : nullptr;
    const tiercel_status status = tiercel_chain_create(session(), tenant, some.data(), some.size(), &made);
    TIERCEL_CHECK((status == TIERCEL_OK) == (made != nullptr), "a handle or an error");
    if (made != nullptr) chains_[place()].chain.reset(made);
  }

  void append() {
    const auto some = tokens();
    tiercel_chain* const at = chain();
    if (tiercel_chain_blocks(at) < 40) (void)tiercel_chain_append(at, some.data(), some.size());
    std::uint8_t hash[32];
    const std::size_t block = number();
    TIERCEL_CHECK((tiercel_chain_hash(at, block, hash) == TIERCEL_OK) == (block < tiercel_chain_blocks(at)),
                  "every block of a chain has a hash, and no other");
  }

  void match() {
    tiercel_session* const asked = session();
    tiercel_chain* const of = chain();
    std::size_t blocks = 0;
    if (tiercel_match(asked, of, &blocks) != TIERCEL_OK) return;
    TIERCEL_CHECK(blocks <= tiercel_chain_blocks(of), "a match is no longer than its chain");
    for (std::size_t b = 0; b < blocks; ++b) TIERCEL_CHECK(commits_.contains(hash_of(of, b)), "a match was committed");
  }

  void load() {
    tiercel_chain* const of = chain();
    tiercel_load* started = nullptr;
    const std::size_t asked = number();
    if (tiercel_load_start(session(), of, asked, kSecond, &started) != TIERCEL_OK) return;
    LoadPlace made;
    made.load.reset(started);
    std::size_t ready = 0;
    std::int32_t outcome = -1;
    TIERCEL_CHECK(tiercel_load_wait(started, &ready, &outcome) == TIERCEL_OK, "a load can be waited for");
    TIERCEL_CHECK(ready <= asked, "a load is no longer than it was asked to be");
    // Of no blocks at all, a load ends complete or closed.
    TIERCEL_CHECK(asked == 0 || (outcome == 0) == (ready == asked), "complete means all");
    for (std::size_t b = 0; b < ready; ++b) {
      const auto found = commits_.find(hash_of(of, b));
      TIERCEL_CHECK(found != commits_.end(), "a loaded block was committed");
      made.blocks.push_back(found->second);
    }
    loads_[place()] = std::move(made);
    look_at_loads();
  }

  /// What was loaded stays what it is, whatever happened since.
  void look_at_loads() {
    for (const LoadPlace& at : loads_) {
      for (std::size_t b = 0; b < at.blocks.size(); ++b) {
        const void* bytes = nullptr;
        std::size_t size = 0;
        TIERCEL_CHECK(tiercel_load_bytes(at.load.get(), b, &bytes, &size) == TIERCEL_OK, "a ready block has bytes");
        check_bytes(bytes, size, at.blocks[b]);
      }
      const void* bytes = nullptr;
      std::size_t size = 0;
      const std::size_t wrong = std::max(at.blocks.size(), number());
      TIERCEL_CHECK(tiercel_load_bytes(at.load.get(), wrong, &bytes, &size) != TIERCEL_OK, "and no other");
      if (input_.remaining_bytes() == 0) return;
    }
  }

  void reserve() {
    tiercel_chain* const of = chain();
    const std::size_t first = number();
    tiercel_reservation* made = nullptr;
    if (tiercel_reserve(session(), of, first, number(), &made) != TIERCEL_OK) return;
    RoomPlace place_of;
    place_of.room.reset(made);
    for (std::size_t i = 0; i < tiercel_reservation_size(made); ++i) {
      place_of.hashes.push_back(hash_of(of, first + i));
    }
    rooms_[place()] = std::move(place_of);
  }

  void commit() {
    RoomPlace& at = rooms_[place()];
    const std::size_t i = number();
    void* bytes = nullptr;
    std::size_t room = 0;
    if (tiercel_writer_bytes(at.room.get(), i, &bytes, &room) != TIERCEL_OK) {
      TIERCEL_CHECK(tiercel_writer_commit(at.room.get(), i, 0) != TIERCEL_OK, "no writer, no commit");
      return;
    }
    const std::size_t wanted = input_.ConsumeIntegralInRange<int>(0, 3) == 0 ? number() * 20'000 : 0;
    const Commit made{.seed = ++seed_, .size = wanted == 0 ? room : wanted};
    if (made.size <= room) fill(bytes, made);
    const tiercel_status status = tiercel_writer_commit(at.room.get(), i, wanted);
    TIERCEL_CHECK(status != TIERCEL_OK || made.size <= room, "no commit of more than there is");
    if (status == TIERCEL_OK) commits_[at.hashes[i]] = made;
  }

  void abort_or_free() {
    RoomPlace& at = rooms_[place()];
    if (input_.ConsumeBool()) {
      (void)tiercel_writer_abort(at.room.get(), number());
    } else {
      at = RoomPlace{};
    }
  }

  void pin() {
    tiercel_pin* made = nullptr;
    const std::uint64_t ttl = input_.ConsumeBool() ? kSecond : input_.ConsumeIntegral<std::uint64_t>();
    const tiercel_status status = tiercel_pin_blocks(session(), chain(), number(), ttl, &made);
    TIERCEL_CHECK((status == TIERCEL_OK) == (made != nullptr), "a handle or an error");
    pins_[place()].reset(made);
  }

  void drop_or_metrics() {
    if (cache_ != nullptr && input_.ConsumeBool()) {
      std::array<char, 100> text{};
      std::size_t length = 0;
      const std::size_t capacity = input_.ConsumeIntegralInRange<std::size_t>(0, text.size());
      TIERCEL_CHECK(tiercel_cache_metrics(cache_.get(), text.data(), capacity, &length) == TIERCEL_OK, "metrics");
      TIERCEL_CHECK(capacity == 0 || std::strlen(text.data()) == capacity - 1, "as much as there is room for");
      return;
    }
    if (input_.ConsumeIntegralInRange<int>(0, 15) == 0) {
      cache_.reset();  // everything else lives on and answers "closed"
      return;
    }
    tiercel_chain* const of = chain();
    const std::size_t first = number();
    if (tiercel_drop(session(), of, first, nullptr, nullptr) != TIERCEL_OK) return;
    for (std::size_t b = first; b < tiercel_chain_blocks(of); ++b) commits_.erase(hash_of(of, b));
  }

  FuzzedDataProvider& input_;
  Handle<tiercel_cache, tiercel_cache_free> cache_;
  std::array<Handle<tiercel_session, tiercel_session_free>, kPlaces> sessions_;
  std::array<ChainPlace, kPlaces> chains_;
  std::array<RoomPlace, kPlaces> rooms_;
  std::array<LoadPlace, kPlaces> loads_;
  std::array<Handle<tiercel_pin, tiercel_pin_free>, kPlaces> pins_;
  std::map<Hash, Commit> commits_;
  std::uint64_t seed_ = 0;
};

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): the name that libFuzzer calls
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzedDataProvider input(data, size);
  Program(input).run();
  return 0;
}
