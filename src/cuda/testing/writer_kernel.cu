#include "cuda/testing/writer_kernel.h"

namespace tiercel::gpu {
namespace {

__global__ void write_words(std::uint32_t* to, std::uint64_t words, std::uint32_t seed, std::uint64_t delay_cycles) {
  const long long begin = clock64();
  while (static_cast<std::uint64_t>(clock64() - begin) < delay_cycles) {
  }
  const std::uint64_t step = std::uint64_t{gridDim.x} * blockDim.x;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < words; i += step) {
    to[i] = written_word(seed, i);
  }
}

__global__ void check_words(const std::uint32_t* at, std::uint64_t words, std::uint32_t seed,
                            unsigned long long* wrong) {
  const std::uint64_t step = std::uint64_t{gridDim.x} * blockDim.x;
  unsigned long long count = 0;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < words; i += step) {
    count += at[i] != written_word(seed, i) ? 1 : 0;
  }
  if (count != 0) atomicAdd(wrong, count);
}

}  // namespace

cudaError_t launch_writer(std::uint32_t* to, std::uint64_t words, std::uint32_t seed, std::uint64_t delay_cycles,
                          cudaStream_t stream) noexcept {
  write_words<<<32, 256, 0, stream>>>(to, words, seed, delay_cycles);
  return cudaGetLastError();
}

cudaError_t launch_checker(const std::uint32_t* words_at, std::uint64_t words, std::uint32_t seed,
                           unsigned long long* wrong, cudaStream_t stream) noexcept {
  check_words<<<32, 256, 0, stream>>>(words_at, words, seed, wrong);
  return cudaGetLastError();
}

}  // namespace tiercel::gpu
