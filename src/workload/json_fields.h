// JsonFields: the numbers of one JSON object, each with a sentence when it is missing or not what it should be. Wraps a
// parsed object without a JSON header; valid as long as the line's object. One thread.
#pragma once

#include <tiercel/result.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel {

class JsonFields {
 public:
  /// kInvalidArgument: not JSON, or not an object; the message has no place in the file.
  [[nodiscard]] static Result<JsonFields> parse(std::string_view line);
  /// Of an array: its items under these names, as many as there are; more are left out.
  [[nodiscard]] static Result<JsonFields> parse_array(std::string_view line, std::span<const char* const> names);
  JsonFields(JsonFields&&) noexcept;
  JsonFields& operator=(JsonFields&&) noexcept;
  ~JsonFields();

  /// A number from 0 to 2^32-1.
  [[nodiscard]] Result<std::uint32_t> count(const char* name) const;
  /// A number from 0 to 10^12 (fractions too), times `ns_per_unit`.
  [[nodiscard]] Result<std::uint64_t> time_ns(const char* name, double ns_per_unit) const;
  [[nodiscard]] bool has(const char* name) const;
  [[nodiscard]] bool is_null(const char* name) const;
  [[nodiscard]] Result<std::string> text(const char* name) const;
  [[nodiscard]] bool is_text(const char* name, std::string_view text) const;
  /// Whole numbers from 0 to 2^64-1, put in place of what `ids` held.
  [[nodiscard]] Status ids(const char* name, std::vector<std::uint64_t>& ids) const;
  /// Names that are whole numbers or texts, as texts ("7" and 7 are one name).
  [[nodiscard]] Status names(const char* name, std::vector<std::string>& names) const;
  [[nodiscard]] Result<std::string> name(const char* name) const;
  /// How many items an array has.
  [[nodiscard]] Result<std::size_t> items(const char* name) const;
  /// The objects of an array.
  [[nodiscard]] Result<std::vector<JsonFields>> objects(const char* name) const;

 private:
  class Object;
  explicit JsonFields(std::unique_ptr<Object> object);
  std::unique_ptr<Object> object_;
};

}  // namespace tiercel
