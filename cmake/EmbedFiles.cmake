# cmake -DOUTPUT=file.cc -DFOLDER=src/service/page -P EmbedFiles.cmake
# Writes a C++ source with assets() of service/http/assets.h: the bytes of the files of FOLDER, index.html as "/".
set(types_html "text/html; charset=utf-8")
set(types_css "text/css; charset=utf-8")
set(types_js "text/javascript; charset=utf-8")
set(types_svg "image/svg+xml")

file(GLOB files LIST_DIRECTORIES false "${FOLDER}/*")
list(SORT files)
set(arrays "")
set(rows "")
set(number 0)
foreach(file IN LISTS files)
  get_filename_component(name "${file}" NAME)
  get_filename_component(extension "${file}" LAST_EXT)
  string(SUBSTRING "${extension}" 1 -1 extension)
  if(NOT DEFINED types_${extension})
    message(FATAL_ERROR "${file}: no media type is known for .${extension}")
  endif()
  set(path "/${name}")
  if(name STREQUAL "index.html")
    set(path "/")
  endif()
  file(READ "${file}" hex HEX)
  string(LENGTH "${hex}" digits)
  math(EXPR bytes "${digits} / 2")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," values "${hex}")
  string(APPEND arrays "constexpr char kFile${number}[] = {${values}};\n")
  string(APPEND rows "    Asset{\"${path}\", \"${types_${extension}}\", std::string_view(kFile${number}, ${bytes})},\n")
  math(EXPR number "${number} + 1")
endforeach()
set(text "// Written by cmake/EmbedFiles.cmake.
#include \"service/http/assets.h\"

#include <array>

namespace tiercel::service {
namespace {
${arrays}
constexpr std::array<Asset, ${number}> kAssets = {{
${rows}}};
}  // namespace

std::span<const Asset> assets() noexcept { return kAssets; }

}  // namespace tiercel::service
")
file(WRITE "${OUTPUT}" "${text}")
