#include "workload/json_fields.h"

#include "base/try.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <utility>

namespace tiercel {
namespace {

using Json = nlohmann::json;

constexpr double kLargestTime = 1e12;

tl::unexpected<Error> wrong(std::string message) { return fail(ErrorCode::kInvalidArgument, std::move(message)); }

/// The parser goes one level down the stack's memory for each bracket; nobody's trace nests deeper than this.
constexpr int kDeepest = 16;

Result<std::string> name_of(const Json& value, const char* field) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_integer()) return value.dump();
  return wrong(fmt::format("{} has something that is neither a whole number nor a text", field));
}

bool too_deep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (in_string) {
      if (c == '\\') ++at;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kDeepest) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

}  // namespace

class JsonFields::Object {
 public:
  Object(std::shared_ptr<const Json> whole, const Json* part) : whole_(std::move(whole)), part_(part) {}
  [[nodiscard]] const Json* find(const char* name) const {
    const auto found = part_->find(name);
    return found == part_->end() ? nullptr : &*found;
  }
  [[nodiscard]] const std::shared_ptr<const Json>& whole() const { return whole_; }

 private:
  std::shared_ptr<const Json> whole_;
  const Json* part_;
};

JsonFields::JsonFields(std::unique_ptr<Object> object) : object_(std::move(object)) {}
JsonFields::JsonFields(JsonFields&&) noexcept = default;
JsonFields& JsonFields::operator=(JsonFields&&) noexcept = default;
JsonFields::~JsonFields() = default;

Result<JsonFields> JsonFields::parse(std::string_view line) {
  if (too_deep(line)) return wrong(fmt::format("nested deeper than {} levels", kDeepest));
  auto json = std::make_shared<const Json>(Json::parse(line, nullptr, false));
  if (json->is_discarded()) return wrong("not JSON");
  if (!json->is_object()) return wrong("not a JSON object");
  const Json* part = json.get();
  return JsonFields(std::make_unique<Object>(std::move(json), part));
}

Result<JsonFields> JsonFields::parse_array(std::string_view line, std::span<const char* const> names) {
  if (too_deep(line)) return wrong(fmt::format("nested deeper than {} levels", kDeepest));
  Json items = Json::parse(line, nullptr, false);
  if (items.is_discarded()) return wrong("not JSON");
  if (!items.is_array()) return wrong("not a JSON array");
  auto json = std::make_shared<Json>(Json::object());
  for (std::size_t i = 0; i < names.size() && i < items.size(); ++i) (*json)[names[i]] = std::move(items[i]);
  const Json* part = json.get();
  return JsonFields(std::make_unique<Object>(std::move(json), part));
}

Result<std::uint32_t> JsonFields::count(const char* name) const {
  const Json* value = object_->find(name);
  if (value == nullptr) return wrong(fmt::format("{} is missing", name));
  if (!value->is_number_unsigned() || value->get<std::uint64_t>() > UINT32_MAX) {
    return wrong(fmt::format("{} is not a whole number from 0 to {}", name, UINT32_MAX));
  }
  return value->get<std::uint32_t>();
}

Result<std::uint64_t> JsonFields::time_ns(const char* name, double ns_per_unit) const {
  const Json* value = object_->find(name);
  if (value == nullptr) return wrong(fmt::format("{} is missing", name));
  if (!value->is_number()) return wrong(fmt::format("{} is not a number", name));
  const auto time = value->get<double>();
  if (!(time >= 0 && time <= kLargestTime && time * ns_per_unit < 9e18)) {
    return wrong(fmt::format("{} is not a time from the start", name));
  }
  return static_cast<std::uint64_t>(time * ns_per_unit);
}

bool JsonFields::has(const char* name) const { return object_->find(name) != nullptr; }

bool JsonFields::is_null(const char* name) const {
  const Json* value = object_->find(name);
  return value == nullptr || value->is_null();
}

Result<std::string> JsonFields::text(const char* name) const {
  const Json* value = object_->find(name);
  if (value == nullptr) return wrong(fmt::format("{} is missing", name));
  if (!value->is_string()) return wrong(fmt::format("{} is not a text", name));
  return value->get<std::string>();
}

bool JsonFields::is_text(const char* name, std::string_view text) const {
  const Json* value = object_->find(name);
  return value != nullptr && value->is_string() && value->get_ref<const std::string&>() == text;
}

Status JsonFields::ids(const char* name, std::vector<std::uint64_t>& ids) const {
  ids.clear();
  const Json* value = object_->find(name);
  if (value == nullptr) return wrong(fmt::format("{} is missing", name));
  if (!value->is_array()) return wrong(fmt::format("{} is not an array", name));
  for (const Json& id : *value) {
    if (!id.is_number_unsigned()) return wrong(fmt::format("{} has something that is not a whole number from 0", name));
    ids.push_back(id.get<std::uint64_t>());
  }
  return {};
}

Status JsonFields::names(const char* name, std::vector<std::string>& names) const {
  names.clear();
  const Json* value = object_->find(name);
  if (value == nullptr) return wrong(fmt::format("{} is missing", name));
  if (!value->is_array()) return wrong(fmt::format("{} is not an array", name));
  for (const Json& item : *value) {
    TIERCEL_TRY_ASSIGN(names.emplace_back(), name_of(item, name));
  }
  return {};
}

Result<std::string> JsonFields::name(const char* name) const {
  const Json* value = object_->find(name);
  if (value == nullptr) return wrong(fmt::format("{} is missing", name));
  return name_of(*value, name);
}

Result<std::size_t> JsonFields::items(const char* name) const {
  const Json* value = object_->find(name);
  if (value == nullptr) return wrong(fmt::format("{} is missing", name));
  if (!value->is_array()) return wrong(fmt::format("{} is not an array", name));
  return value->size();
}

Result<std::vector<JsonFields>> JsonFields::objects(const char* name) const {
  const Json* value = object_->find(name);
  if (value == nullptr) return wrong(fmt::format("{} is missing", name));
  if (!value->is_array()) return wrong(fmt::format("{} is not an array", name));
  std::vector<JsonFields> objects;
  for (const Json& part : *value) {
    if (!part.is_object()) return wrong(fmt::format("{} has something that is not an object", name));
    objects.push_back(JsonFields(std::make_unique<Object>(object_->whole(), &part)));
  }
  return objects;
}

}  // namespace tiercel
