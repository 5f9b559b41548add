// cuda_check: an error of the CUDA runtime as a Status: the call, the error's name and its text.
//
// TIERCEL_CUDA_TRY(cudaStreamCreate(&stream)); passes it on. Codes: kOutOfMemory, kUnsupported (no driver, no GPU, an
// older driver), else kIo. Nothing relies on the runtime's "last error".
#pragma once

#include "base/try.h"

#include <tiercel/result.h>

#include <cuda_runtime_api.h>

namespace tiercel::gpu {

[[nodiscard]] Status cuda_check(cudaError_t error, const char* call);

}  // namespace tiercel::gpu

#define TIERCEL_CUDA_TRY(call) TIERCEL_TRY(::tiercel::gpu::cuda_check((call), #call))
