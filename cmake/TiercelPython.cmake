# The Python package, for the Python of build/venv (tools/setup) or the one that builds a wheel. Without nanobind there it
# is left out.
set(TIERCEL_PYTHON_EXECUTABLE "${PROJECT_SOURCE_DIR}/build/venv/bin/python" CACHE FILEPATH
  "the Python that the extension is built for")
set(found 0)
if(NOT SKBUILD)
  execute_process(COMMAND "${TIERCEL_PYTHON_EXECUTABLE}" -m nanobind --cmake_dir
    RESULT_VARIABLE found OUTPUT_QUIET ERROR_QUIET)
endif()
if(found EQUAL 0)
  add_subdirectory(python)
else()
  message(STATUS "nanobind was not found: the Python package is left out (tools/setup installs it)")
endif()
