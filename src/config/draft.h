// Draft: a Config while it is being read, with the place each value came from.
//
// Every value is checked on its own when it is set; finish() checks them against each other and answers the Config,
// with the place of the offending key in the error. One thread at a time.
#pragma once

#include "config/setting.h"
#include "config/tenants.h"

#include <tiercel/result.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::config {

class Draft {
 public:
  explicit Draft(Config base);

  /// `place` names the source for errors ("/etc/tiercel.toml:12"), or is empty.
  [[nodiscard]] Status set_number(const Setting& setting, std::uint64_t number, std::string_view place);
  [[nodiscard]] Status set_text(const Setting& setting, std::string text, std::string_view place);
  [[nodiscard]] Status set_list(const Setting& setting, std::vector<std::string> list, std::string_view place);

  /// A table of a tenant: known from here on, with what it had.
  void add_tenant(const std::string& name, std::string_view place);
  void set_tenant(const std::string& name, const TenantSetting& setting, const TierShare& share,
                  std::string_view place);

  [[nodiscard]] Result<Config> finish() const;

 private:
  Config config_;
  std::vector<std::string> places_;                   // by index_of(setting)
  std::map<std::string, std::string> tenant_places_;  // by tenant_key()
};

/// `error` with "PLACE: " before its message, if there is a place.
[[nodiscard]] Error at_place(std::string_view place, Error error);

/// A rule between settings that a Config breaks.
struct Violation {
  const Setting* setting = nullptr;  ///< the one to change; null: `tenant_key` says which
  Error error;
  std::string tenant_key{};
};

/// Checks a Config against the table and its rules; empty: it is valid.
[[nodiscard]] std::optional<Violation> first_violation(const Config& config);

/// Reads TOML into a draft, without the rules between settings. Both report the place in their errors.
[[nodiscard]] Status read_toml(std::string_view text, std::string_view origin, Draft& draft);
[[nodiscard]] Status read_config_file(const std::string& path, Draft& draft);

}  // namespace tiercel::config
