// Fields: the body of an admin call: one flat JSON object of texts, truths and whole numbers.
//
// Everything about it is checked here: that it is such an object, that the call knows each field and takes values of
// its kind, that none stands twice. Errors are sentences that name the field, the value and what would be valid.
// A field that is null is as if it were not there. Immutable after parse().
#pragma once

#include <tiercel/block.h>
#include <tiercel/result.h>

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

namespace tiercel::service {

enum class FieldKind : std::uint8_t { kText, kTruth, kNumber };

struct Field {
  std::string_view name;
  FieldKind kind = FieldKind::kText;
};

class Fields {
 public:
  static constexpr std::size_t kMostBytes = 8192;

  /// An empty body is an empty object.
  [[nodiscard]] static Result<Fields> parse(std::string_view body, std::span<const Field> known);

  [[nodiscard]] bool has(std::string_view name) const { return values_.find(name) != values_.end(); }
  [[nodiscard]] std::optional<std::string> text(std::string_view name) const;
  /// False where it is not there.
  [[nodiscard]] bool truth(std::string_view name) const;
  [[nodiscard]] std::optional<std::uint64_t> number(std::string_view name) const;
  /// A text of 64 hexadecimal digits.
  [[nodiscard]] Result<BlockHash> hash(std::string_view name) const;

  using Value = std::variant<std::string, bool, std::uint64_t>;
  using Values = std::map<std::string, Value, std::less<>>;

 private:
  Values values_;
};

}  // namespace tiercel::service
