# The one library that programs link: libtiercel.so, made of all modules of src/, and what `cmake --install` installs so
# that find_package(tiercel) gives tiercel::tiercel. Inside the project tiercel::tiercel is the same target: connectors
# and programs link it and nothing else of src/, so they can use public symbols only.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
find_package(tl-expected REQUIRED)

get_property(modules GLOBAL PROPERTY TIERCEL_MODULES)
# The modules' objects, not their archives: a public function that no module calls is part of the library too. The
# archives are linked behind them for the foreign libraries that they bring.
list(TRANSFORM modules REPLACE "(.+)" "$<TARGET_OBJECTS:\\1>" OUTPUT_VARIABLE objects)
add_library(tiercel SHARED ${objects})
add_library(tiercel::tiercel ALIAS tiercel)
target_link_libraries(tiercel PRIVATE $<BUILD_INTERFACE:tiercel_settings> ${modules} PUBLIC tl::expected)
target_include_directories(tiercel INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(tiercel INTERFACE cxx_std_20)
set_target_properties(tiercel PROPERTIES LINKER_LANGUAGE CXX
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})

set(package_folder "${CMAKE_INSTALL_LIBDIR}/cmake/tiercel")
file(CONFIGURE OUTPUT tiercel-config.cmake @ONLY CONTENT [[
# find_package(tiercel) gives tiercel::tiercel.
include(CMakeFindDependencyMacro)
find_dependency(tl-expected)
include("${CMAKE_CURRENT_LIST_DIR}/tiercel-targets.cmake")
]])
write_basic_package_version_file(tiercel-config-version.cmake COMPATIBILITY SameMinorVersion)

# The component "library" is what a program needs that embeds a cache; the rest of the project adds its programs.
install(TARGETS tiercel EXPORT tiercel-targets COMPONENT library)
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/tiercel" TYPE INCLUDE COMPONENT library)
install(EXPORT tiercel-targets NAMESPACE tiercel:: DESTINATION ${package_folder} COMPONENT library)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/tiercel-config.cmake" "${CMAKE_CURRENT_BINARY_DIR}/tiercel-config-version.cmake"
  DESTINATION ${package_folder} COMPONENT library)
