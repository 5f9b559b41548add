#include "recording/recording_lines.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <iterator>
#include <utility>

namespace tiercel {
namespace {

constexpr double kNsPerMs = 1e6;

/// Of the bytes in their order, as in the hash that they begin.
void append_hex(std::string& text, RecordedBlock block) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (std::size_t byte = 0; byte < sizeof(block); ++byte) {
    const auto value = static_cast<unsigned>(block >> (8 * byte) & 0xFFU);
    text += kDigits[value >> 4U];
    text += kDigits[value & 0xFU];
  }
}

/// A name as JSON, whatever bytes it has.
std::string json_text(std::string_view name) {
  return nlohmann::json(name).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

}  // namespace

void RecordingLines::begin_part(std::uint64_t unix_ms, std::uint64_t now_ns) {
  blocks_.clear();
  parents_.clear();
  part_ns_ = last_ns_ = now_ns;
  requests_in_part_ = 0;
  sources_in_part_ = 0;
  while (sources_.size() >= kSources) sources_.erase(sources_.begin());  // of the oldest sessions
  for (auto& [_, source] : sources_) {
    source.number = kNone;
    for (Open& open : source.open) open.request = kNone;
  }
  fmt::format_to(std::back_inserter(text_), "{{\"tiercel_recording\":{},\"unix_seconds\":{}.{:03}}}\n", kVersion,
                 unix_ms / 1'000, unix_ms % 1'000);
}

void RecordingLines::add(const RequestRing::Taken& taken) {
  using Kind = RequestRing::Kind;
  if (taken.entry.kind == Kind::kSession) return name_session(taken);
  if (taken.entry.kind == Kind::kSpace) return name_space(taken);
  if (taken.chain.empty()) return;
  Source& source = source_of(taken.entry);
  if (!belongs_to_earlier(taken.entry, source, taken.chain)) begin_request(taken.entry, source, taken.chain);
}

/// The text is the engine, a zero and the model.
void RecordingLines::name_session(const RequestRing::Taken& taken) {
  const std::string_view text = taken.text;
  const std::size_t end = std::min(text.find('\0'), text.size());
  sessions_[taken.entry.session] = {.engine = std::string(text.substr(0, end)),
                                    .model = std::string(text.substr(std::min(end + 1, text.size())))};
  if (sessions_.size() > kSessions) sessions_.erase(sessions_.begin());
}

void RecordingLines::name_space(const RequestRing::Taken& taken) {
  if (spaces_.size() >= kSpaces && !spaces_.contains(taken.entry.space)) return;
  spaces_[taken.entry.space] = {.tenant = taken.text, .block_tokens = taken.entry.block_tokens};
}

RecordingLines::Source& RecordingLines::source_of(const RequestRing::Entry& entry) {
  Source& source = sources_[{entry.session, entry.space}];
  if (source.number != kNone) return source;
  source.number = static_cast<std::uint32_t>(sources_in_part_++);
  const auto session = sessions_.find(entry.session);
  const auto space = spaces_.find(entry.space);
  const SessionName unnamed;
  const SessionName& name = session == sessions_.end() ? unnamed : session->second;
  const std::uint32_t tokens = space == spaces_.end() ? 0 : space->second.block_tokens;
  std::string hex;
  append_hex(hex, entry.space);
  fmt::format_to(
      std::back_inserter(text_),
      "{{\"source\":{},\"engine\":{},\"model\":{},\"tenant\":{},\"namespace\":\"{}\",\"block_tokens\":{}}}\n",
      source.number, json_text(name.engine), json_text(name.model),
      json_text(space == spaces_.end() ? std::string_view() : space->second.tenant), hex, tokens);
  return source;
}

template <class Fits>
RecordingLines::Open* RecordingLines::newest(Source& source, const Fits& fits) {
  const std::size_t count = std::min(source.opened, kOpen);
  for (std::size_t back = 1; back <= count; ++back) {
    Open& open = source.open[(source.opened - back) % kOpen];
    if (fits(open)) return &open;
  }
  return nullptr;
}

bool RecordingLines::belongs_to_earlier(const RequestRing::Entry& entry, Source& source, Chain chain) {
  const auto is_whole = [&](const Open& open) { return open.blocks == chain.size() && open.tail == chain.back(); };
  const auto within = [&](const Open& open, std::uint64_t ns) { return entry.now_ns <= open.asked_ns + ns; };
  switch (entry.kind) {
    case RequestRing::Kind::kMatch: {
      Open* open = newest(source, [&](const Open& one) {
        return is_whole(one) && !one.loaded && !one.stored && within(one, kAskedAgain_ns);
      });
      if (open == nullptr) return false;
      open->asked_ns = std::max(open->asked_ns, entry.now_ns);
      return true;
    }
    case RequestRing::Kind::kLoad: {  // of all that was matched, or of its first blocks
      Open* open = newest(source, [&](const Open& one) {
        return !one.loaded && !one.stored && within(one, kLoadFollows_ns) && (is_whole(one) || begins(chain, one));
      });
      if (open == nullptr) return false;
      open->loaded = true;
      return true;
    }
    default: {
      Open* open = newest(
          source, [&](const Open& one) { return one.blocks <= chain.size() && chain[one.blocks - 1] == one.tail; });
      if (open == nullptr) return blocks_.find(chain.back()).has_value();  // a part of a prompt
      open->stored = true;
      if (chain.size() > open->blocks) extend(*open, entry.now_ns, chain);
      return true;
    }
  }
}

/// Is the chain a beginning of what was asked for?
bool RecordingLines::begins(Chain chain, const Open& open) const {
  const auto last = blocks_.find(chain.back());
  const auto tail = blocks_.find(open.tail);
  if (!last || !tail || last->depth > tail->depth) return false;
  std::uint32_t at = tail->number;
  for (std::uint32_t depth = tail->depth; depth > last->depth; --depth) at = parents_[at];
  return at == last->number;
}

void RecordingLines::begin_request(const RequestRing::Entry& entry, Source& source, Chain chain) {
  source.open[source.opened++ % kOpen] = {.asked_ns = entry.now_ns,
                                          .tail = chain.back(),
                                          .blocks = chain.size(),
                                          .request = requests_in_part_++,
                                          .loaded = entry.kind == RequestRing::Kind::kLoad,
                                          .stored = entry.kind == RequestRing::Kind::kReserve};
  fmt::format_to(std::back_inserter(text_), "{{\"t\":{:.3f},\"source\":{}", since_part_ms(entry.now_ns), source.number);
  write_chain(chain);
  ++requests_;
}

/// What was answered, or of it as much as is stored by now.
void RecordingLines::extend(Open& open, std::uint64_t now_ns, Chain chain) {
  open.tail = chain.back();
  open.blocks = chain.size();
  if (open.request == kNone) return;  // of an earlier part
  fmt::format_to(std::back_inserter(text_), "{{\"t\":{:.3f},\"of\":{}", since_part_ms(now_ns), open.request);
  write_chain(chain);
}

/// A block is known with all before it: names stand for prefixes.
std::size_t RecordingLines::known_prefix(Chain chain) const {
  const auto is_known = [&](std::size_t blocks) {
    const auto place = blocks_.find(chain[blocks - 1]);
    return place && place->depth == blocks;
  };
  std::size_t known = 0;
  std::size_t unknown = chain.size() + 1;
  while (unknown - known > 1) {
    const std::size_t middle = known + (unknown - known) / 2;
    (is_known(middle) ? known : unknown) = middle;
  }
  return known;
}

void RecordingLines::write_chain(Chain chain) {
  const std::size_t known = known_prefix(chain);
  if (known > 0) {
    fmt::format_to(std::back_inserter(text_), ",\"known\":{},\"after\":{}", known,
                   blocks_.find(chain[known - 1])->number);
  }
  text_ += ",\"new\":\"";
  std::uint32_t parent = known > 0 ? blocks_.find(chain[known - 1])->number : kNone;
  for (std::size_t i = known; i < chain.size(); ++i) {
    if (blocks_.find(chain[i])) break;  // elsewhere in a chain: no hash of a prefix is; cut here, numbers stay right
    append_hex(text_, chain[i]);
    blocks_.add(chain[i], static_cast<std::uint32_t>(i + 1));
    parents_.push_back(std::exchange(parent, static_cast<std::uint32_t>(parents_.size())));
  }
  text_ += "\"}\n";
}

/// Callers of several threads may come out of order by a little; time in a recording never goes back.
double RecordingLines::since_part_ms(std::uint64_t now_ns) {
  last_ns_ = std::max(last_ns_, now_ns);
  return static_cast<double>(last_ns_ - part_ns_) / kNsPerMs;
}

}  // namespace tiercel
