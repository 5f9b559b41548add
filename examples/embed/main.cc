// A cache inside your own program: store the KV of a prompt, ask for a longer one, get back what is known of it.
#include <tiercel/cache.h>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <numeric>
#include <span>
#include <vector>

using namespace tiercel::literals;
using namespace std::chrono_literals;

namespace {
constexpr std::size_t kBlockBytes = 512_KiB;

// Stands for an engine: what it would compute for a block, here a pattern that tells blocks apart.
std::byte kv_byte(std::size_t block, std::size_t i) { return static_cast<std::byte>((block * 131 + i * 7) & 0xff); }

bool is_kv_of(std::size_t block, std::span<const std::byte> bytes) {
  for (std::size_t i = 0; i < bytes.size(); ++i)
    if (bytes[i] != kv_byte(block, i)) return false;
  return bytes.size() == kBlockBytes;
}

int complain(const tiercel::Error& error) {
  std::fprintf(stderr, "error: %s\n", error.message.c_str());
  return 1;
}
}  // namespace

int main() {
  auto cache = tiercel::Cache::open({.host = {.capacity = 128_MiB}});
  if (!cache) return complain(cache.error());
  auto session = cache->open_session({.model = {.name = "example", .kv_dtype = "f16"},
                                      .block_tokens = 64,
                                      .layout = tiercel::Layout::blob(kBlockBytes)});
  if (!session) return complain(session.error());

  std::vector<tiercel::TokenId> prompt(640);
  std::iota(prompt.begin(), prompt.end(), 1);
  tiercel::BlockChain chain = tiercel::hash_blocks(session->space(), prompt);

  tiercel::Reservation room = session->reserve(chain, session->match(chain).blocks());
  for (std::size_t block = 0; block < room.size(); ++block) {
    if (room.outcome(block) != tiercel::Reserved::kYes) continue;  // kExists, kBusy, ...: outcomes, not errors
    std::span<std::byte> bytes = room.writer(block).bytes();
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = kv_byte(block, i);
    if (auto done = room.writer(block).commit(); !done) return complain(done.error());
  }

  // The next turn of the conversation: the same prompt and 130 tokens more, which make two more full blocks.
  chain.append(std::vector<tiercel::TokenId>(130, 7));
  const std::size_t known = session->match(chain).blocks();
  tiercel::Load load = session->load(chain, known, 50ms);
  std::size_t right = 0;
  for (const tiercel::BlockRef& block : load.wait()) right += is_kv_of(right, block.bytes()) ? 1 : 0;

  std::printf("%zu of %zu blocks loaded, %zu with the bytes that were stored\n", known, chain.size(), right);
  return right == 10 && chain.size() == 12 ? 0 : 1;
}
