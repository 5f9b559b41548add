#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace tiercel {

void check_failed(const char* expression, const char* file, int line, const char* what) noexcept {
  std::fprintf(stderr, "%s:%d: broken invariant: %s (%s)\n", file, line, what, expression);
  std::abort();
}

}  // namespace tiercel
