// LogCauses: how often the log writes a line of the same cause: once in kQuietNs, and then with the count of those that
// were left out in between. Pure: time comes as an argument. At most kMost causes are known; where more come, the one
// that was written longest ago is forgotten. One thread at a time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace tiercel {

class LogCauses {
 public:
  static constexpr std::uint64_t kQuietNs = 10'000'000'000;
  static constexpr std::size_t kMost = 256;

  /// Whether a line of this cause is written now, and how many were left out since the last one.
  [[nodiscard]] std::optional<std::uint64_t> write(std::string_view cause, std::uint64_t now_ns);
  void clear() { causes_.clear(); }
  [[nodiscard]] std::size_t size() const noexcept { return causes_.size(); }

 private:
  struct Cause {
    std::uint64_t written_ns = 0;
    std::uint64_t left_out = 0;
  };
  std::map<std::string, Cause, std::less<>> causes_;
};

}  // namespace tiercel
