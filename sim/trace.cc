#include "sim/trace.h"

#include "base/check.h"

#include <fmt/args.h>
#include <fmt/format.h>

#include <algorithm>

namespace tiercel::sim {

void Trace::mix(std::uint64_t word) noexcept {
  hash_ = (hash_ ^ word) * 0x9E37'79B9'7F4A'7C15U;
  hash_ ^= hash_ >> 32U;
}

void Trace::event(std::string_view sentence, std::initializer_list<std::uint64_t> numbers) {
  TIERCEL_CHECK(numbers.size() <= kNumbers, "an event of the trace has at most six numbers");
  Event& event = kept_[count_ % kKept];
  event = {.number = ++count_, .now_ns = clock_.now_ns(), .sentence = sentence};
  std::ranges::copy(numbers, event.numbers.begin());
  mix(event.now_ns);
  for (const char c : sentence) hash_ = (hash_ ^ static_cast<unsigned char>(c)) * 0x100'0000'01B3U;
  for (const std::uint64_t number : numbers) mix(number);
  if (live_ != nullptr) std::fputs(line(event).c_str(), live_);
}

std::string Trace::line(const Event& event) {
  fmt::dynamic_format_arg_store<fmt::format_context> numbers;
  for (const std::uint64_t number : event.numbers) numbers.push_back(number);
  return fmt::format("{:>7} {:>15.6f} ms  {}\n", event.number, static_cast<double>(event.now_ns) / 1e6,
                     fmt::vformat(event.sentence, numbers));
}

std::string Trace::last() const {
  std::string text;
  for (std::uint64_t i = count_ - std::min<std::uint64_t>(count_, kKept); i < count_; ++i) {
    text += line(kept_[i % kKept]);
  }
  return text;
}

}  // namespace tiercel::sim
