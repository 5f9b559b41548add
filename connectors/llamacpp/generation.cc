#include "connectors/llamacpp/generation.h"

#include <utility>

namespace tiercel::llamacpp {

Generation::News Generation::wait(std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, limit, [&] { return !text_.empty() || finish_ != Finish::kNone; });
  return {.text = std::exchange(text_, {}), .finish = finish_};
}

Timings Generation::timings() const {
  const std::lock_guard lock(mutex_);
  return timings_;
}

std::vector<TokenId> Generation::tokens() const {
  const std::lock_guard lock(mutex_);
  return tokens_;
}

std::string Generation::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

void Generation::push(TokenId token, std::string_view text) {
  {
    const std::lock_guard lock(mutex_);
    tokens_.push_back(token);
    text_.append(text);
  }
  if (!text.empty()) changed_.notify_one();
}

void Generation::push(std::string_view text) {
  if (text.empty()) return;
  {
    const std::lock_guard lock(mutex_);
    text_.append(text);
  }
  changed_.notify_one();
}

void Generation::finish(Finish finish, const Timings& timings, std::string error) {
  {
    const std::lock_guard lock(mutex_);
    finish_ = finish;
    timings_ = timings;
    error_ = std::move(error);
  }
  changed_.notify_one();
}

}  // namespace tiercel::llamacpp
