#include "model/sha256.h"

#include "base/check.h"

#include <openssl/evp.h>

#include <bit>
#include <memory>
#include <utility>

namespace tiercel {
namespace {

static_assert(std::endian::native == std::endian::little, "the canonical form is written from memory as it lies");

struct FreeContext {
  void operator()(EVP_MD_CTX* context) const noexcept { EVP_MD_CTX_free(context); }
};

struct ThreadContext {
  std::unique_ptr<EVP_MD_CTX, FreeContext> context{EVP_MD_CTX_new()};
  bool in_use = false;
};

ThreadContext& thread_context() {
  thread_local ThreadContext context;
  return context;
}

const EVP_MD* sha256() {
  static const EVP_MD* md =
      EVP_MD_fetch(nullptr, "SHA256", nullptr);  // fetched once: the lookup costs more than a block
  return md;
}

}  // namespace

Sha256::Sha256() : context_(thread_context().context.get()) {
  TIERCEL_CHECK(!std::exchange(thread_context().in_use, true), "two digests at once on one thread");
  TIERCEL_CHECK(context_ != nullptr && EVP_DigestInit_ex2(context_, sha256(), nullptr) == 1, "SHA-256 is available");
}

Sha256::~Sha256() { thread_context().in_use = false; }

void Sha256::raw(std::span<const std::byte> bytes) {
  TIERCEL_CHECK(EVP_DigestUpdate(context_, bytes.data(), bytes.size()) == 1, "SHA-256 update");
}

void Sha256::u32(std::uint32_t value) { raw(std::as_bytes(std::span(&value, 1))); }

void Sha256::u64(std::uint64_t value) { raw(std::as_bytes(std::span(&value, 1))); }

void Sha256::text(std::string_view value) {
  u64(value.size());
  raw(std::as_bytes(std::span(value.data(), value.size())));
}

BlockHash Sha256::finish() {
  BlockHash hash;
  unsigned length = 0;
  TIERCEL_CHECK(EVP_DigestFinal_ex(context_, reinterpret_cast<unsigned char*>(hash.bytes.data()), &length) == 1 &&
                    length == hash.bytes.size(),
                "SHA-256 final");
  return hash;
}

}  // namespace tiercel
