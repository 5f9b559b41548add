#include "connectors/llamacpp/model_text.h"

#include <array>

namespace tiercel::llamacpp {

ModelText::ModelText(const llama_model* model) : model_(model), vocab_(llama_model_get_vocab(model)) {
  const char* text = llama_model_chat_template(model, nullptr);
  const llama_chat_message probe{.role = "user", .content = "x"};
  if (text != nullptr && llama_chat_apply_template(text, &probe, 1, true, nullptr, 0) >= 0) {
    template_ = text;
    own_template_ = true;
  } else {
    template_ = "chatml";
  }
}

std::vector<TokenId> ModelText::tokenize(const std::string& text) const {
  const auto length = static_cast<std::int32_t>(text.size());
  std::vector<TokenId> tokens(text.size() + 8);
  std::int32_t count =
      llama_tokenize(vocab_, text.data(), length, tokens.data(), static_cast<std::int32_t>(tokens.size()), true, true);
  if (count < 0) {  // the answer is then the room needed, negated
    tokens.resize(static_cast<std::size_t>(-count));
    count = llama_tokenize(vocab_, text.data(), length, tokens.data(), -count, true, true);
  }
  tokens.resize(static_cast<std::size_t>(count < 0 ? 0 : count));
  return tokens;
}

std::string ModelText::piece(TokenId token) const {
  std::array<char, 64> small{};
  const std::int32_t n = llama_token_to_piece(vocab_, token, small.data(), small.size(), 0, false);
  if (n >= 0) return {small.data(), static_cast<std::size_t>(n)};
  std::string large(static_cast<std::size_t>(-n), '\0');
  llama_token_to_piece(vocab_, token, large.data(), -n, 0, false);
  return large;
}

Result<std::string> ModelText::chat_prompt(std::span<const ChatMessage> messages) const {
  std::vector<llama_chat_message> chat;
  chat.reserve(messages.size());
  for (const ChatMessage& message : messages) chat.push_back({message.role.c_str(), message.content.c_str()});
  const std::int32_t length = llama_chat_apply_template(template_.c_str(), chat.data(), chat.size(), true, nullptr, 0);
  if (length < 0) return fail(ErrorCode::kUnsupported, "the model's chat template cannot express these messages");
  std::string prompt(static_cast<std::size_t>(length), '\0');
  llama_chat_apply_template(template_.c_str(), chat.data(), chat.size(), true, prompt.data(), length);
  return prompt;
}

std::string ModelText::model_name() const {
  std::array<char, 256> name{};
  if (llama_model_meta_val_str(model_, "general.name", name.data(), name.size()) < 0) return {};
  return name.data();
}

}  // namespace tiercel::llamacpp
