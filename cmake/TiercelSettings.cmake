# Compiler settings shared by every target: C++20, warnings, sanitizers, ccache.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "build type" FORCE)
endif()

option(TIERCEL_WERROR "treat warnings as errors" OFF)
option(TIERCEL_TESTS "build the tests" ON)
option(TIERCEL_BENCH "build the benchmarks" ON)
option(TIERCEL_FUZZ "build the libFuzzer targets (clang)" OFF)
option(TIERCEL_LLAMACPP "build the llama.cpp adapter and tiercel-llama" ON)
set(TIERCEL_SANITIZE "" CACHE STRING "value for -fsanitize=, for example address,undefined")

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_C_COMPILER_LAUNCHER "${CCACHE_PROGRAM}")
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CCACHE_PROGRAM}")
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

find_package(Threads REQUIRED)
