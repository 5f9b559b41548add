#include "transfer/gpu_copy_engine.h"

#include "base/log.h"
#include "base/try.h"
#include "transfer/host_copy_engine.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <string>
#include <vector>

namespace tiercel {
namespace {

constexpr const char* kLibraryName = "libtiercel_cuda.so";

/// The folder of the program or library that this code lies in, with a slash; empty if it cannot be told.
std::string own_folder() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr) return {};
  const std::string path = info.dli_fname;
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string{} : path.substr(0, slash + 1);
}

Result<const CudaLibrary*> find_library(const std::string& library) {
  std::vector<std::string> places = {library};
  if (library.empty()) places = {own_folder() + kLibraryName, kLibraryName};
  std::string why;
  for (const std::string& place : places) {
    // Never closed: the CUDA runtime inside ends with the process.
    void* handle = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (handle == nullptr) {
      why = dlerror();
      continue;
    }
    const auto* found = static_cast<const CudaLibrary*>(dlsym(handle, "tiercel_cuda_library"));
    if (found == nullptr) {
      return fail(ErrorCode::kUnsupported, fmt::format("{} is not a GPU library of Tiercel", place));
    }
    if (found->build_mark != build_mark()) {
      return fail(ErrorCode::kUnsupported,
                  fmt::format("{} is of another build ({}; this is {})", place, found->build_mark, build_mark()));
    }
    return found;
  }
  return fail(ErrorCode::kUnsupported, fmt::format("no GPU library: {}", why));
}

}  // namespace

std::string build_mark() {
  return fmt::format("{} {} {} {}", __VERSION__, sizeof(CopyJob), sizeof(GpuCopyOptions), sizeof(Error));
}

Result<std::unique_ptr<GpuCopyEngine>> open_gpu_copy_engine(Executor& executor, const Clock& clock,
                                                            const GpuCopyOptions& options, const std::string& library) {
  TIERCEL_TRY_ASSIGN(const CudaLibrary* found, find_library(library));
  return found->open(executor, clock, options);
}

std::unique_ptr<CopyEngine> open_copy_engine(Executor& executor, const Clock& clock, const GpuCopyOptions& options,
                                             const std::string& library) {
  auto gpu = open_gpu_copy_engine(executor, clock, options, library);
  if (gpu) return std::move(*gpu);
  log_line(LogLevel::kInfo, "no_gpu", fmt::format("copies run on the CPU: {}", gpu.error().message));
  return std::make_unique<HostCopyEngine>(executor, HostCopyOptions{.max_jobs = options.max_jobs});
}

}  // namespace tiercel
