// Assets: the files of the live page (src/service/page), which the build puts into the library as they are.
#pragma once

#include <span>
#include <string_view>

namespace tiercel::service {

struct Asset {
  std::string_view path;  ///< "/", "/page.css"
  std::string_view type;  ///< "text/css; charset=utf-8"
  std::string_view bytes;
};

[[nodiscard]] std::span<const Asset> assets() noexcept;

}  // namespace tiercel::service
