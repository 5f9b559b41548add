// RecordingLines: calls of sessions as the lines of a recording (docs/formats.md), which say what requests there were.
//
// A request is a prompt that a session asks the cache about: a match begins one, and so does a load or a reserve that
// no match came before. The load and the reserves that follow for the same prompt belong to it; a reserve of a longer
// chain extends it by what was answered. Blocks get numbers in a part, so that a prompt whose beginning was recorded
// before names that by one number.
//
// Pure: no IO, no clock. One thread. Bounded: begin a new part when is_full() says so; sessions, namespaces and open
// requests beyond the limits below push out the oldest.
#pragma once

#include "recording/known_blocks.h"
#include "recording/request_ring.h"

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tiercel {

class RecordingLines {
 public:
  static constexpr std::uint32_t kVersion = 1;
  static constexpr std::size_t kSessions = 1024;
  static constexpr std::size_t kSpaces = 4096;
  static constexpr std::size_t kSources = 4096;  ///< pairs of both, in a part
  static constexpr std::size_t kOpen = 64;       ///< requests of a source that later calls may belong to
  static constexpr std::uint64_t kAskedAgain_ns = 1'000'000'000;    ///< a match so soon again is of the same request
  static constexpr std::uint64_t kLoadFollows_ns = 60'000'000'000;  ///< so long a load belongs to its match

  explicit RecordingLines(std::size_t most_blocks = std::size_t{1} << 20U) : most_blocks_(most_blocks) {}

  /// Numbers mean nothing from here on. The first call of all.
  void begin_part(std::uint64_t unix_ms, std::uint64_t now_ns);
  /// Enough is remembered for one part.
  [[nodiscard]] bool is_full() const noexcept { return blocks_.size() >= most_blocks_ || sources_in_part_ >= kSources; }
  void add(const RequestRing::Taken& taken);

  /// Whole lines so far, with their ends; clear() takes them.
  [[nodiscard]] const std::string& text() const noexcept { return text_; }
  [[nodiscard]] std::uint64_t requests() const noexcept { return requests_; }  ///< in text()
  void clear() noexcept {
    text_.clear();
    requests_ = 0;
  }

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;
  using Chain = std::span<const RecordedBlock>;
  struct SessionName {
    std::string engine;
    std::string model;
  };
  struct SpaceName {
    std::string tenant;
    std::uint32_t block_tokens = 0;
  };
  /// A request that later calls may belong to.
  struct Open {
    std::uint64_t asked_ns = 0;
    RecordedBlock tail = 0;
    std::size_t blocks = 0;
    std::uint32_t request = kNone;  // in this part
    bool loaded = false;
    bool stored = false;
  };
  struct Source {
    std::uint32_t number = kNone;  // in this part
    std::array<Open, kOpen> open{};
    std::size_t opened = 0;  // ever; the newest is open[(opened - 1) % kOpen]
  };

  void name_session(const RequestRing::Taken& taken);
  void name_space(const RequestRing::Taken& taken);
  [[nodiscard]] Source& source_of(const RequestRing::Entry& entry);
  template <class Fits>
  [[nodiscard]] static Open* newest(Source& source, const Fits& fits);
  [[nodiscard]] bool belongs_to_earlier(const RequestRing::Entry& entry, Source& source, Chain chain);
  [[nodiscard]] bool begins(Chain chain, const Open& open) const;
  void begin_request(const RequestRing::Entry& entry, Source& source, Chain chain);
  void extend(Open& open, std::uint64_t now_ns, Chain chain);
  [[nodiscard]] std::size_t known_prefix(Chain chain) const;
  void write_chain(Chain chain);
  [[nodiscard]] double since_part_ms(std::uint64_t now_ns);

  const std::size_t most_blocks_;
  std::string text_;
  std::uint64_t requests_ = 0;
  KnownBlocks blocks_;
  std::vector<std::uint32_t> parents_;  // by number
  std::map<std::uint32_t, SessionName> sessions_;
  std::map<RecordedBlock, SpaceName> spaces_;
  std::map<std::pair<std::uint32_t, RecordedBlock>, Source> sources_;
  std::size_t sources_in_part_ = 0;
  std::uint32_t requests_in_part_ = 0;
  std::uint64_t part_ns_ = 0;
  std::uint64_t last_ns_ = 0;
};

}  // namespace tiercel
