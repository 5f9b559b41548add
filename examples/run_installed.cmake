# Installs the component "library" of BUILD into WORK/prefix, builds EXAMPLE against it in WORK/build and runs it.
file(REMOVE_RECURSE "${WORK}")
get_filename_component(name "${EXAMPLE}" NAME)
execute_process(COMMAND_ERROR_IS_FATAL ANY
  COMMAND "${CMAKE_COMMAND}" --install "${BUILD}" --component library --prefix "${WORK}/prefix")
execute_process(COMMAND_ERROR_IS_FATAL ANY
  COMMAND "${CMAKE_COMMAND}" -G Ninja -S "${EXAMPLE}" -B "${WORK}/build" "-DCMAKE_PREFIX_PATH=${WORK}/prefix"
    "-DCMAKE_CXX_COMPILER=${COMPILER}" "-DCMAKE_CXX_FLAGS=${FLAGS}" -DCMAKE_BUILD_TYPE=RelWithDebInfo)
execute_process(COMMAND_ERROR_IS_FATAL ANY COMMAND "${CMAKE_COMMAND}" --build "${WORK}/build")
execute_process(COMMAND_ERROR_IS_FATAL ANY COMMAND "${WORK}/build/${name}")
