# What people type. The work is in tools/ and CMakePresets.json; docs/testing.md says what each label holds.
#   make demo [KEEP=1]   from a fresh clone to a measured result
#   make test            everything that must pass: packages, libllama, model, build, tests
#   make fast            the tests to run while working (3 minutes)
#   make test-vllm       the connector in a real vLLM for CPUs (13 minutes; the first time it fetches 4 GB)
#   make soak            the long tests (the first time they fetch 8 GB)
#   make bench           the benchmarks, each beside its bound
#   make lint            format, clang-tidy, layers, names
#   make sanitize        unit and property tests under the address, undefined-behaviour and thread sanitizers
#   make cuda            the GPU part compiled, and its tests, which skip without a GPU; without nvcc a line and no more
#   make fuzz            each fuzz target for a few seconds
#   make coverage        which lines the fast tests reach
#   make install [PREFIX=/usr/local]

SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PREFIX ?= /usr/local
MODEL := build/models/SmolLM2-135M-Instruct.Q4_1.gguf
PYTHON := build/venv/bin/python
LLAMA_BIN := build/release/connectors/llamacpp

.PHONY: demo test test-vllm fast soak bench lint sanitize cuda fuzz coverage install setup

demo:
	@TIERCEL_STEP=1/4 tools/setup
	TIERCEL_STEP=2/4 tools/get_llama
	TIERCEL_STEP=2/4 tools/build release
	TIERCEL_STEP=3/4 tools/get_model
	$(PYTHON) bench/chat_load/demo.py --step '[4/4] ' --server-binary $(LLAMA_BIN)/tiercel-llama \
	  --service-binary build/release/src/cli/tiercel \
	  --equality-binary $(LLAMA_BIN)/tiercel-llama-equality --model $(MODEL) $(if $(KEEP),--keep)

setup:
	@tools/setup
	tools/get_llama
	tools/get_model

test: setup
	@tools/build dev
	ctest --preset dev

fast: setup
	@tools/build dev
	ctest --preset fast

test-vllm:
	@tools/setup
	tools/get_llama
	tools/get_vllm
	tools/build dev tiercel-python tiercel-python-stub tiercel-program
	ctest --preset vllm

soak: setup
	@tools/get_vllm
	tools/get_vllm newer
	tools/build dev
	ctest --preset soak

bench: setup
	@tools/get_llama --server
	tools/build release
	tools/bench

lint:
	@tools/setup
	tools/get_llama
	tools/lint

sanitize:
	@tools/setup
	tools/build asan-ubsan
	ctest --preset asan-ubsan
	tools/build tsan
	ctest --preset tsan

cuda:
	@if ! command -v nvcc >/dev/null && [[ ! -x /usr/local/cuda/bin/nvcc ]]; then
	  echo "cuda          no nvcc here: the GPU part is not compiled"
	  exit 0
	fi
	tools/setup
	tools/build cuda cuda_gpu_test cuda_gpu_dead_context_test cuda_plan_test cuda_grid_test tiercel_cuda_library tiercel-gpu-bench
	ctest --preset cuda

fuzz:
	@tools/setup
	tools/build fuzz
	ctest --preset fuzz

coverage:
	@tools/setup
	tools/build coverage
	ctest --preset coverage
	gcovr --root . --filter 'src/' --filter 'include/' --exclude '.*_test\.cc' --print-summary \
	  --html-details build/coverage/report.html build/coverage

install:
	@tools/setup
	tools/get_llama
	tools/build release
	cmake --install build/release --prefix '$(PREFIX)'
