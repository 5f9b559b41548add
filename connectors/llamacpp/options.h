// The command line of tiercel-llama: its own flags, and through tiercel::take_flags those of the cache.
//
// Pure: reads arguments, answers with everything or with a sentence that names the flag, the value and what is valid.
#pragma once

#include "connectors/llamacpp/engine.h"

#include <tiercel/config.h>

#include <chrono>
#include <span>
#include <string>
#include <string_view>

namespace tiercel::llamacpp {

/// Of --service: default_socket_path(); and the service that this user's engines start for themselves.
inline constexpr std::string_view kDefaultService = "default";
inline constexpr std::string_view kPrivateService = "auto";

struct ServerOptions {
  EngineOptions engine;
  Config cache;
  bool cache_on = true;
  std::string service;  ///< socket of the node service that keeps the blocks, or one of these two; empty: own cache
  std::string host = "127.0.0.1";
  int port = 8080;
  std::string port_file;   ///< the port is written there once it is known
  std::string model_name;  ///< empty: the file's name without .gguf
  std::string api_key;
  std::chrono::seconds drain{30};
  bool help = false;
  bool version = false;
};

/// `arguments` without the program's name.
[[nodiscard]] Result<ServerOptions> read_options(std::span<const std::string> arguments);

[[nodiscard]] std::string help_text();

/// Where digests of model files are kept when no flag says so: $XDG_CACHE_HOME/tiercel, else ~/.cache/tiercel.
[[nodiscard]] std::string default_digest_directory();

/// Does only this machine reach a socket bound to `host`?
[[nodiscard]] bool is_loopback(const std::string& host);

}  // namespace tiercel::llamacpp
