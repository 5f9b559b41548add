// Recorder: the RequestSink that writes a recording (docs/formats.md). Calls go into a bounded ring on their own
// threads; one task of an executor makes lines of them, and frames of the lines.
//
// A call costs its thread one lock and about 1 ns a block (bench/recording_bench.cc). A full ring sheds calls and
// counts them. A frame is written when it holds 256 KiB of lines or is a second old; what a killed process loses is
// what no frame has. After a write that failed, a new part begins: nothing in it leans on what was lost. Safe from any
// thread, but for close().
#pragma once

#include "base/clock.h"
#include "base/executor.h"
#include "base/mutex.h"
#include "model/request_sink.h"
#include "recording/recording_lines.h"
#include "recording/recording_output.h"
#include "recording/request_ring.h"

#include <tiercel/result.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

namespace tiercel {

class Recorder final : public RequestSink {
 public:
  struct Parts {
    std::unique_ptr<RecordingOutput> output;
    Executor& executor;  ///< outlives the recorder; one thread of it is the writer's while there is something to write
    const Clock& clock;  ///< so does it
    std::function<std::uint64_t()> unix_ms;
    std::uint64_t max_bytes = UINT64_MAX;
    std::size_t ring_words = std::size_t{1} << 20U;
  };
  /// Begins a part: what cannot be written is known at once.
  [[nodiscard]] static Result<std::unique_ptr<Recorder>> begin(Parts parts);
  ~Recorder() override;

  [[nodiscard]] std::uint32_t open_session(std::string_view engine, std::string_view model) noexcept override;
  void name_space(const Space& space) noexcept override;
  void called(const Call& call, const Space& space, std::span<const BlockHash> chain) noexcept override;
  [[nodiscard]] RequestSinkFigures figures() const noexcept override;

  /// Writes what has come and takes no more. Waits for the writer, at most 10 s. Idempotent; one caller's.
  void close() noexcept;

 private:
  struct FreeContext {
    void operator()(void* context) const noexcept;
  };
  explicit Recorder(Parts parts, std::unique_ptr<void, FreeContext> compression);
  [[nodiscard]] bool is_over() const noexcept;
  void heed(RequestRing::Pushed pushed) noexcept;
  void work() noexcept;
  void take_all();
  void flush();
  [[nodiscard]] Status write_frame();
  void begin_part();
  void lose(ErrorCode code, std::string_view why);

  const std::unique_ptr<RecordingOutput> output_;
  Executor& executor_;
  const Clock& clock_;
  const std::function<std::uint64_t()> unix_ms_;
  const std::uint64_t max_bytes_;
  RequestRing ring_;
  Mutex names_mutex_;  // before the ring's
  std::unordered_set<RecordedBlock> named_ TIERCEL_GUARDED_BY(names_mutex_);
  std::atomic<std::uint32_t> sessions_{0};
  std::atomic<bool> closing_{false};  // close (release), writer and callers (acquire)
  // Figures: relaxed.
  std::atomic<bool> full_{false};
  std::atomic<std::uint64_t> requests_{0};
  std::atomic<std::uint64_t> shed_{0};
  std::atomic<std::uint64_t> bytes_{0};
  std::atomic<std::uint64_t> errors_{0};
  // The writer's.
  RequestRing::Taken taken_;
  RecordingLines lines_;
  bool lost_ = false;  // a frame: the next begins a part
  std::uint64_t frame_begun_ns_ = 0;
  std::vector<std::byte> frame_;
  const std::unique_ptr<void, FreeContext> compression_;
};

struct RecordingConfig {
  std::string file{};                                ///< the key recording.file
  std::uint64_t max_size = std::uint64_t{1} << 30U;  ///< of that file; then recording ends
};

/// To recording.file, with a thread of its own. Errors name the key and the file.
[[nodiscard]] Result<std::shared_ptr<Recorder>> open_recorder(const RecordingConfig& config);

}  // namespace tiercel
