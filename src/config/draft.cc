#include "config/draft.h"

#include "config/setting_value.h"

#include <utility>

namespace tiercel::config {

Draft::Draft(Config base) : config_(std::move(base)), places_(settings().size()) {}

Status Draft::set_number(const Setting& setting, std::uint64_t number, std::string_view place) {
  if (auto status = check_number(setting, number); !status) {
    return tl::unexpected(at_place(place, std::move(status).error()));
  }
  setting.set_number(config_, number);
  places_[index_of(setting)] = place;
  return {};
}

Status Draft::set_text(const Setting& setting, std::string text, std::string_view place) {
  if (auto status = check_text(setting, text); !status) {
    return tl::unexpected(at_place(place, std::move(status).error()));
  }
  setting.text(config_) = std::move(text);
  places_[index_of(setting)] = place;
  return {};
}

Status Draft::set_list(const Setting& setting, std::vector<std::string> list, std::string_view place) {
  if (auto status = check_list(setting, list); !status) {
    return tl::unexpected(at_place(place, std::move(status).error()));
  }
  setting.list(config_) = std::move(list);
  places_[index_of(setting)] = place;
  return {};
}

void Draft::add_tenant(const std::string& name, std::string_view place) {
  config_.tenants.try_emplace(name);
  tenant_places_[tenant_key(name)] = place;
}

void Draft::set_tenant(const std::string& name, const TenantSetting& setting, const TierShare& share,
                       std::string_view place) {
  config_.tenants[name].*setting.share = share;
  tenant_places_[tenant_key(name, setting.key)] = place;
}

Result<Config> Draft::finish() const {
  if (auto violation = first_violation(config_)) {
    if (violation->setting == nullptr) {
      // Of a value that nobody gave here the tenant's table is the place.
      auto place = tenant_places_.find(violation->tenant_key);
      if (place == tenant_places_.end()) {
        place = tenant_places_.find(violation->tenant_key.substr(0, violation->tenant_key.rfind('.')));
      }
      return tl::unexpected(
          at_place(place == tenant_places_.end() ? std::string_view() : place->second, std::move(violation->error)));
    }
    return tl::unexpected(at_place(places_[index_of(*violation->setting)], std::move(violation->error)));
  }
  return config_;
}

Error at_place(std::string_view place, Error error) {
  if (!place.empty()) error.message = std::string(place) + ": " + error.message;
  return error;
}

}  // namespace tiercel::config
