// ModelText: what a model's vocabulary and chat template do with text. Borrows the model; const and safe from several
// threads. Errors are sentences for the client.
#pragma once

#include <tiercel/block.h>
#include <tiercel/result.h>

#include <llama.h>

#include <span>
#include <string>
#include <vector>

namespace tiercel::llamacpp {

struct ChatMessage {
  std::string role;
  std::string content;
};

class ModelText {
 public:
  explicit ModelText(const llama_model* model);

  /// The tokens of a prompt, begin token included where the model wants one. Special tokens in the text are taken as
  /// such, as a chat template needs.
  [[nodiscard]] std::vector<TokenId> tokenize(const std::string& text) const;
  /// The bytes of a token; empty for control tokens. May end inside a UTF-8 character.
  [[nodiscard]] std::string piece(TokenId token) const;
  /// The prompt that the model's chat template makes of a conversation, up to where the assistant begins.
  [[nodiscard]] Result<std::string> chat_prompt(std::span<const ChatMessage> messages) const;

  [[nodiscard]] bool is_end(TokenId token) const { return llama_vocab_is_eog(vocab_, token); }
  [[nodiscard]] std::int32_t vocabulary_size() const { return llama_vocab_n_tokens(vocab_); }
  /// "SmolLM2 135M Instruct" from the file's metadata; may be empty.
  [[nodiscard]] std::string model_name() const;
  /// Has the file a chat template that libllama knows? Otherwise ChatML is used.
  [[nodiscard]] bool own_template() const { return own_template_; }

 private:
  const llama_model* model_;
  const llama_vocab* vocab_;
  std::string template_;
  bool own_template_ = false;
};

}  // namespace tiercel::llamacpp
