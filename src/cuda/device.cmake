# libtiercel_cuda.so: all of src/cuda with the CUDA runtime inside, loaded at run time; its tests and its benchmark.
if(NOT CMAKE_CUDA_COMPILER AND EXISTS /usr/local/cuda/bin/nvcc)
  set(CMAKE_CUDA_COMPILER /usr/local/cuda/bin/nvcc CACHE FILEPATH "nvcc")
endif()
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES "80-real;90-real;90-virtual" CACHE STRING "GPUs to compile for")
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
# Kernels are apart from the settings of the C++ compiler, which nvcc does not know. CMake 3.25 has no flag for C++20 in
# this compiler; what kernels include is C++17.
set(CMAKE_CUDA_STANDARD 17)
function(tiercel_kernels name)
  add_library(${name} STATIC ${ARGN})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${name} PUBLIC CUDA::cudart_static PRIVATE tl::expected)
  target_compile_options(${name} PRIVATE "-Xcompiler=-Wall,-Wextra,-Wno-missing-field-initializers")
endfunction()
tiercel_kernels(tiercel_cuda_kernels stage_kernel.cu stage_kernel.h)
# What tests let run beside the copies.
tiercel_kernels(tiercel_cuda_writer testing/writer_kernel.cu testing/writer_kernel.h)

tiercel_module(cuda_device APART
  SOURCES cuda_device.cc cuda_result.cc
  HEADERS cuda_device.h cuda_handles.h cuda_result.h
  DEPS cuda
  LIBS tiercel_cuda_kernels CUDA::cudart_static)

add_library(tiercel_cuda_library SHARED library.cc)
set_target_properties(tiercel_cuda_library PROPERTIES OUTPUT_NAME tiercel_cuda)
target_link_libraries(tiercel_cuda_library PRIVATE $<BUILD_INTERFACE:tiercel_settings> tiercel_cuda_device)
target_link_options(tiercel_cuda_library PRIVATE -Wl,--exclude-libs,ALL)
install(TARGETS tiercel_cuda_library COMPONENT programs)

# On a machine without a GPU they say so and are skipped. tools/gpu_run takes them to one that has one.
tiercel_test(cuda_gpu_test
  SOURCES gpu_contract_test.cc gpu_order_test.cc
  DEPS cuda_device
  LIBS tiercel_cuda_writer
  LABELS gpu TIMEOUT 600)
tiercel_test(cuda_gpu_dead_context_test
  SOURCES gpu_dead_context_test.cc
  DEPS cuda_device
  LABELS gpu)
if(TIERCEL_TESTS)
  add_dependencies(cuda_gpu_test tiercel_cuda_library)
endif()

add_subdirectory(bench)
