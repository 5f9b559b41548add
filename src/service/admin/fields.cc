#include "service/admin/fields.h"

#include "config/nearest.h"
#include "config/setting_value.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace tiercel::service {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::string_view, 3> kNeeds = {"a text", "true or false", "a whole number"};

std::string list_of(std::span<const Field> known) {
  if (known.empty()) return "this call takes no fields";
  std::string list = "this call takes ";
  for (std::size_t i = 0; i < known.size(); ++i) list += fmt::format("{}\"{}\"", i == 0 ? "" : ", ", known[i].name);
  return list;
}

/// Takes the events of nlohmann's parser; the first violation is the error.
class Reader final : public nlohmann::json_sax<Json> {
 public:
  explicit Reader(std::span<const Field> known) : known_(known) {}

  bool null() override { return take("null", std::nullopt); }
  bool boolean(bool value) override { return take(value ? "true" : "false", Fields::Value(value)); }
  bool number_unsigned(number_unsigned_t value) override {
    return take(fmt::format("{}", value), Fields::Value(std::uint64_t{value}));
  }
  bool number_integer(number_integer_t value) override { return wrong(fmt::format("{}", value)); }
  bool number_float(number_float_t, const string_t& text) override { return wrong(text); }
  bool string(string_t& text) override {
    const std::string shown = fmt::format("\"{}\"", config::shown(text));
    return take(shown, Fields::Value(std::move(text)));
  }
  bool binary(binary_t&) override { return wrong("binary data"); }
  bool start_object(std::size_t) override {
    if (field_ != nullptr || inside_) return wrong("an object");
    inside_ = true;
    return true;
  }
  bool end_object() override { return true; }
  bool start_array(std::size_t) override { return wrong("a list"); }
  bool end_array() override { return true; }

  bool key(string_t& name) override {
    const auto found = std::ranges::find(known_, std::string_view(name), &Field::name);
    if (found == known_.end()) {
      std::vector<std::string> names;
      for (const Field& field : known_) names.emplace_back(field.name);
      return complain(fmt::format("unknown field \"{}\"{}; {}", config::shown(name), config::did_you_mean(name, names),
                                  list_of(known_)));
    }
    field_ = &*found;
    return seen_.insert_or_assign(name, true).second || complain(fmt::format("{}: stands twice", name));
  }

  bool parse_error(std::size_t at, const std::string&, const nlohmann::detail::exception&) override {
    return complain(fmt::format("the body is no JSON: it breaks at byte {}", at));
  }

  Fields::Values values;
  std::string error;

 private:
  bool complain(std::string message) {
    if (error.empty()) error = std::move(message);
    return false;
  }
  bool wrong(const std::string& shown) {
    if (field_ == nullptr) return complain(fmt::format("the body is {}; a call takes one JSON object", shown));
    return complain(
        fmt::format("{}: needs {}, not {}", field_->name, kNeeds[static_cast<std::size_t>(field_->kind)], shown));
  }
  bool take(const std::string& shown, std::optional<Fields::Value> value) {
    if (field_ == nullptr) return wrong(shown);
    if (value) {
      if (value->index() != static_cast<std::size_t>(field_->kind)) return wrong(shown);
      values.insert_or_assign(std::string(field_->name), std::move(*value));
    }
    field_ = nullptr;
    return true;
  }

  const std::span<const Field> known_;
  const Field* field_ = nullptr;  // whose value comes next
  bool inside_ = false;
  std::map<std::string, bool> seen_;
};

std::optional<unsigned> digit(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A' + 10);
  return std::nullopt;
}

}  // namespace

Result<Fields> Fields::parse(std::string_view body, std::span<const Field> known) {
  Fields fields;
  if (body.size() > kMostBytes) {
    return fail(ErrorCode::kLimit,
                fmt::format("the body has {} bytes; an admin call has at most {}", body.size(), kMostBytes));
  }
  if (body.find_first_not_of(" \t\r\n") == std::string_view::npos) return fields;
  Reader reader(known);
  if (!Json::sax_parse(body, &reader)) {
    return fail(ErrorCode::kInvalidArgument, reader.error.empty() ? "the body is no JSON" : reader.error);
  }
  fields.values_ = std::move(reader.values);
  return fields;
}

std::optional<std::string> Fields::text(std::string_view name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? std::nullopt : std::optional(std::get<std::string>(found->second));
}

bool Fields::truth(std::string_view name) const {
  const auto found = values_.find(name);
  return found != values_.end() && std::get<bool>(found->second);
}

std::optional<std::uint64_t> Fields::number(std::string_view name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? std::nullopt : std::optional(std::get<std::uint64_t>(found->second));
}

Result<BlockHash> Fields::hash(std::string_view name) const {
  const std::string digits = text(name).value_or("");
  BlockHash hash;
  bool good = digits.size() == 2 * hash.bytes.size();
  for (std::size_t i = 0; good && i < hash.bytes.size(); ++i) {
    const auto high = digit(digits[2 * i]);
    const auto low = digit(digits[2 * i + 1]);
    good = high && low;
    if (good) hash.bytes[i] = static_cast<std::byte>(*high << 4U | *low);
  }
  if (good) return hash;
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("{}: \"{}\" is no hash; needs 64 hexadecimal digits", name, config::shown(digits)));
}

}  // namespace tiercel::service
