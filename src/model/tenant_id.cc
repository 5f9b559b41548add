#include "model/tenant_id.h"

#include "model/namespace.h"
#include "model/sha256.h"

#include <algorithm>

namespace tiercel {

TenantId tenant_id(std::string_view name) {
  Sha256 sha;
  sha.text("tiercel tenant 1");
  sha.text(name.empty() ? kDefaultTenant : name);
  const BlockHash whole = sha.finish();
  TenantId id;
  std::copy_n(whole.bytes.begin(), id.bytes.size(), id.bytes.begin());
  return id;
}

}  // namespace tiercel
