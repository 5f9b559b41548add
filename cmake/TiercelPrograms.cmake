# Installs the programs that were built. They find libtiercel beside them, and libllama, which no system package brings,
# in a folder of Tiercel's own, where it is in nobody's way.
set_target_properties(tiercel-program PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
install(TARGETS tiercel-program COMPONENT programs)
if(TARGET tiercel-llama)
  set_target_properties(tiercel-llama PROPERTIES
    INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR};$ORIGIN/../${CMAKE_INSTALL_LIBDIR}/tiercel")
  install(TARGETS tiercel-llama COMPONENT programs)
  install(DIRECTORY "${PROJECT_SOURCE_DIR}/build/third_party/llama/lib/" DESTINATION "${CMAKE_INSTALL_LIBDIR}/tiercel"
    COMPONENT programs FILES_MATCHING PATTERN "*.so*" PATTERN "cmake" EXCLUDE)
endif()
