# Compiler settings shared by every target: C++20, warnings, sanitizers, ccache.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
# The shared library exports what carries TIERCEL_API and nothing else.
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "build type" FORCE)
endif()

option(TIERCEL_WERROR "treat warnings as errors" OFF)
option(TIERCEL_TESTS "build the tests" ON)
option(TIERCEL_BENCH "build the benchmarks" ON)
option(TIERCEL_FUZZ "build the libFuzzer targets (clang)" OFF)
option(TIERCEL_LLAMACPP "build the llama.cpp adapter and tiercel-llama" ON)
option(TIERCEL_PYTHON "build the Python package, where nanobind is found" OFF)
set(TIERCEL_SANITIZE "" CACHE STRING "value for -fsanitize=, for example address,undefined")

option(TIERCEL_CUDA "build the GPU copy engine (needs the CUDA toolkit)" OFF)
option(TIERCEL_PORTABLE "link all but libc, pthread and the driver statically" OFF)
option(TIERCEL_COVERAGE "count which lines the tests reach (gcc)" OFF)

# Paths below the source folder are hashed relative to it, so that a second clone finds what the first one compiled.
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(ccache_launcher env "CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}" CCACHE_NOHASHDIR=1 "${CCACHE_PROGRAM}")
  set(CMAKE_C_COMPILER_LAUNCHER ${ccache_launcher})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${ccache_launcher})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${ccache_launcher})
endif()

add_library(tiercel_settings INTERFACE)
target_compile_options(tiercel_settings INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wnon-virtual-dtor -Woverloaded-virtual
  -Wno-missing-field-initializers  # designated initialisers leave out what has a default
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>)
if(TIERCEL_WERROR)
  target_compile_options(tiercel_settings INTERFACE -Werror)
endif()
if(TIERCEL_SANITIZE)
  target_compile_options(tiercel_settings INTERFACE -fsanitize=${TIERCEL_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(tiercel_settings INTERFACE -fsanitize=${TIERCEL_SANITIZE})
  if(TIERCEL_SANITIZE MATCHES "undefined")
    target_compile_options(tiercel_settings INTERFACE -fno-sanitize-recover=all)
  endif()
endif()
if(TIERCEL_COVERAGE)
  target_compile_options(tiercel_settings INTERFACE --coverage -fprofile-update=atomic)
  target_link_options(tiercel_settings INTERFACE --coverage)
endif()
if(TIERCEL_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "TIERCEL_FUZZ needs clang (the preset fuzz chooses it); the compiler is ${CMAKE_CXX_COMPILER}")
  endif()
  target_compile_options(tiercel_settings INTERFACE -fsanitize=fuzzer-no-link)
endif()

find_package(Threads REQUIRED)

# What Debian has as a shared library alone is used as headers. ISA-L, cpp-httplib and prometheus-cpp have neither form
# there, so of the programs only those build portably that need none of them: the GPU part.
set(TIERCEL_FMT fmt::fmt)
set(TIERCEL_SPDLOG spdlog::spdlog)
if(TIERCEL_PORTABLE)
  set(TIERCEL_FMT fmt::fmt-header-only)
  add_library(tiercel_spdlog INTERFACE)
  target_compile_definitions(tiercel_spdlog INTERFACE SPDLOG_FMT_EXTERNAL)
  set(TIERCEL_SPDLOG tiercel_spdlog)
  set(CMAKE_FIND_LIBRARY_SUFFIXES .a .so)
  set(OPENSSL_USE_STATIC_LIBS ON)
  add_link_options(-static-libgcc -static-libstdc++ -Wl,--gc-sections -s)
  add_compile_options(-ffunction-sections -fdata-sections)
endif()
