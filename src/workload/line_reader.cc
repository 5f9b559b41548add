#include "workload/line_reader.h"

#include "base/try.h"

#include <fmt/format.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

namespace tiercel {
namespace {

constexpr std::size_t kBufferBytes = 128U << 10U;
constexpr std::array<unsigned char, 4> kZstdMagic = {0x28, 0xB5, 0x2F, 0xFD};
constexpr int kMaxWindowLog = 27;

struct CloseFile {
  void operator()(std::FILE* file) const noexcept { (void)std::fclose(file); }
};
struct FreeStream {
  void operator()(ZSTD_DStream* stream) const noexcept { (void)ZSTD_freeDStream(stream); }
};

}  // namespace

class LineReader::State {
 public:
  State(std::string path, std::unique_ptr<std::FILE, CloseFile> file)
      : path_(std::move(path)), file_(std::move(file)) {}

  [[nodiscard]] Status begin() {
    TIERCEL_TRY(read_raw());
    if (raw_end_ < kZstdMagic.size() || std::memcmp(raw_.data(), kZstdMagic.data(), kZstdMagic.size()) != 0) return {};
    stream_.reset(ZSTD_createDStream());
    if (!stream_) return fail(ErrorCode::kLimit, "no memory for decompression");
    (void)ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax, kMaxWindowLog);
    return {};
  }

  [[nodiscard]] Result<std::optional<std::string_view>> next() {
    line_.clear();
    for (;;) {
      const char* start = text_.data() + text_at_;
      const auto* end = static_cast<const char*>(std::memchr(start, '\n', text_end_ - text_at_));
      const std::size_t count = end == nullptr ? text_end_ - text_at_ : static_cast<std::size_t>(end - start);
      if (line_.size() + count > kMaxLineBytes) {
        ++number_;
        return wrong(fmt::format("a line of more than {} MiB", kMaxLineBytes >> 20U));
      }
      if (end != nullptr && line_.empty()) {
        text_at_ += count + 1;
        ++number_;
        return without_return({start, count});
      }
      line_.append(start, count);
      text_at_ += count + (end != nullptr ? 1 : 0);
      if (end == nullptr) {
        TIERCEL_TRY_ASSIGN(const bool more, read_text());
        if (more) continue;
        if (line_.empty()) return std::nullopt;
      }
      ++number_;
      return without_return(line_);
    }
  }

  [[nodiscard]] tl::unexpected<Error> wrong(std::string_view what) const {
    return fail(ErrorCode::kInvalidArgument, fmt::format("{}:{}: {}", path_, number_, what));
  }
  [[nodiscard]] std::uint64_t line_number() const noexcept { return number_; }
  [[nodiscard]] bool is_cut_off() const noexcept { return cut_off_; }

 private:
  static std::string_view without_return(std::string_view line) {
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
  }

  Status read_raw() {
    raw_at_ = 0;
    raw_end_ = std::fread(raw_.data(), 1, raw_.size(), file_.get());
    if (raw_end_ == 0 && std::ferror(file_.get()) != 0) {
      return fail(ErrorCode::kIo, fmt::format("{}: {}", path_, std::strerror(errno)), errno);
    }
    return {};
  }

  /// False at the end.
  Result<bool> read_text() {
    text_at_ = text_end_ = 0;
    for (;;) {
      if (raw_at_ == raw_end_) TIERCEL_TRY(read_raw());
      const bool at_end = raw_at_ == raw_end_;
      if (!stream_) {
        text_end_ = raw_end_ - raw_at_;
        std::memcpy(text_.data(), raw_.data() + raw_at_, text_end_);
        raw_at_ = raw_end_;
        return text_end_ > 0;
      }
      if (at_end && frame_ended_) return false;
      ZSTD_inBuffer in{.src = raw_.data(), .size = raw_end_, .pos = raw_at_};
      ZSTD_outBuffer out{.dst = text_.data(), .size = text_.size(), .pos = 0};
      const std::size_t left = ZSTD_decompressStream(stream_.get(), &out, &in);
      if (ZSTD_isError(left) != 0U) {
        return fail(ErrorCode::kCorrupt, fmt::format("{}: decompression failed behind line {}: {}", path_, number_,
                                                     ZSTD_getErrorName(left)));
      }
      frame_ended_ = left == 0;
      raw_at_ = in.pos;
      text_end_ = out.pos;
      if (text_end_ > 0) return true;
      if (at_end && !frame_ended_) {
        cut_off_ = true;
        return fail(ErrorCode::kCorrupt,
                    number_ == 0 ? fmt::format("{}: the compressed file is cut off in its first line", path_)
                                 : fmt::format("{}: the compressed file is cut off behind line {}", path_, number_));
      }
    }
  }

  std::string path_;
  std::unique_ptr<std::FILE, CloseFile> file_;
  std::unique_ptr<ZSTD_DStream, FreeStream> stream_;  // none: the file is plain
  bool frame_ended_ = false;
  bool cut_off_ = false;
  std::vector<char> raw_ = std::vector<char>(kBufferBytes);
  std::size_t raw_at_ = 0;
  std::size_t raw_end_ = 0;
  std::vector<char> text_ = std::vector<char>(kBufferBytes);
  std::size_t text_at_ = 0;
  std::size_t text_end_ = 0;
  std::string line_;  // of a line that spans buffers
  std::uint64_t number_ = 0;
};

LineReader::LineReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
LineReader::LineReader(LineReader&&) noexcept = default;
LineReader& LineReader::operator=(LineReader&&) noexcept = default;
LineReader::~LineReader() = default;

Result<LineReader> LineReader::open(const std::string& path) {
  std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "rbe"));
  if (!file) return fail(ErrorCode::kIo, fmt::format("{}: {}", path, std::strerror(errno)), errno);
  auto state = std::make_unique<State>(path, std::move(file));
  TIERCEL_TRY(state->begin());
  return LineReader(std::move(state));
}

Result<std::optional<std::string_view>> LineReader::next() { return state_->next(); }
bool LineReader::is_cut_off() const noexcept { return state_->is_cut_off(); }
std::uint64_t LineReader::line_number() const noexcept { return state_->line_number(); }
tl::unexpected<Error> LineReader::wrong(std::string_view what) const { return state_->wrong(what); }

}  // namespace tiercel
