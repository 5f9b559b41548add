#include "cuda/cuda_result.h"

#include <fmt/format.h>

#include <string_view>

namespace tiercel::gpu {

Status cuda_check(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return {};
  (void)cudaGetLastError();  // not for the next one who asks
  ErrorCode code = ErrorCode::kIo;
  if (error == cudaErrorMemoryAllocation) code = ErrorCode::kOutOfMemory;
  if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver || error == cudaErrorInvalidDevice ||
      error == cudaErrorSystemDriverMismatch || error == cudaErrorCompatNotSupportedOnDevice ||
      error == cudaErrorInitializationError) {
    code = ErrorCode::kUnsupported;
  }
  const std::string_view text = call;
  return fail(code, fmt::format("{}: {} ({})", text.substr(0, text.find('(')), cudaGetErrorName(error),
                                cudaGetErrorString(error)));
}

}  // namespace tiercel::gpu
