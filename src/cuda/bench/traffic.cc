#include "cuda/bench/traffic.h"

#include "cuda/bench/stopwatch.h"

namespace tiercel::gpu {

Beside::Beside(const Traffic& traffic) : traffic_(traffic), thread_([this] { work(); }) {
  while (rounds_.load() == 0) std::this_thread::yield();  // warm
  begin_ = std::chrono::steady_clock::now();
  first_ = rounds_.load();
}

double Beside::stop() {
  stopping_.store(true);
  thread_.join();
  const std::chrono::duration<double> passed = last_ - begin_;
  return static_cast<double>((rounds_.load() - first_) * traffic_.bytes) / passed.count();
}

void Beside::work() {
  bench_must(cudaSetDevice(0));
  while (!stopping_.load()) {
    traffic_.once();
    last_ = std::chrono::steady_clock::now();
    rounds_.fetch_add(1);
  }
}

std::vector<double> small_copies(const CudaStream& stream, std::byte* gpu, std::byte* host, double seconds,
                                 SmallCopies direction) {
  const bool out = direction == SmallCopies::kOut;
  std::vector<double> times;
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() < seconds) {
    times.push_back(seconds_of([&] {
      bench_must(out ? cudaMemcpyAsync(host, gpu, 4096, cudaMemcpyDeviceToHost, stream.get())
                     : cudaMemcpyAsync(gpu, host, 4096, cudaMemcpyHostToDevice, stream.get()));
      while (cudaStreamQuery(stream.get()) == cudaErrorNotReady) {
      }
    }));
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  return times;
}

}  // namespace tiercel::gpu
