// tiercel-llama: reads the command line, starts cache, engine and server, and ends them in order on SIGTERM or SIGINT.
#include "connectors/llamacpp/api_server.h"
#include "connectors/llamacpp/cache_side.h"
#include "connectors/llamacpp/engine.h"
#include "connectors/llamacpp/options.h"

#include <fmt/format.h>
#include <ggml.h>
#include <llama.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace tiercel::llamacpp {
namespace {

void say(const std::string& line) {
  std::fputs((line + "\n").c_str(), stdout);
  std::fflush(stdout);
}

int complain(const Error& error) {
  std::fputs(("error: " + error.message + "\n").c_str(), stderr);
  return 1;
}

/// libllama tells its whole life; its warnings and errors are what a person wants.
void log_llama(ggml_log_level level, const char* text, void*) {
  if (level == GGML_LOG_LEVEL_ERROR || level == GGML_LOG_LEVEL_WARN) std::fputs(text, stderr);
}

/// Blocks the signals that end the server in this thread and all that it starts; wait_for_end() takes them.
sigset_t block_end_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a disk file above the limit of this user is an error of the disk tier
  return signals;
}

std::string url_host(const std::string& host) { return host.find(':') == std::string::npos ? host : "[" + host + "]"; }

/// Whole or not at all: a reader that sees the file sees the port.
bool write_port_file(const std::string& path, int port) {
  const std::string part = path + ".part";
  std::ofstream(part) << port << "\n";
  return std::rename(part.c_str(), path.c_str()) == 0;
}

int serve(const ServerOptions& options) {
  const sigset_t signals = block_end_signals();
  llama_log_set(log_llama, nullptr);
  llama_backend_init();
  // Before the arena is touched, which takes a second for every few GiB.
  if (auto status = Engine::check(options.engine); !status) return complain(status.error());
  auto cache = CacheSide::open(options, say);
  if (!cache) return complain(cache.error());
  EngineOptions engine_options = options.engine;
  engine_options.log = say;
  engine_options.engine_id = fmt::format("llama-{}-{:04x}", getpid(), std::random_device{}() & 0xFFFFU);
  auto engine = Engine::start(engine_options, cache->opener());
  if (!engine) return complain(engine.error());

  ApiServerOptions api_options{.model_name = options.model_name, .api_key = options.api_key};
  api_options.loopback = is_loopback(options.host);
  // Every request that the engine may hold keeps a worker; the others parse, refuse and answer /health.
  api_options.http.workers = options.engine.slots + options.engine.queue_capacity + 16;
  api_options.cache_metrics = [&] { return cache->metrics(); };
  ApiServer api(**engine, api_options);
  auto port = api.http().bind(options.host, options.port);
  if (!port) return complain(port.error());

  say(fmt::format("tiercel-llama {}  model {}  slots {}  context {}", TIERCEL_VERSION, options.model_name,
                  options.engine.slots, (*engine)->context_tokens()));
  if (!(*engine)->text().own_template())
    say("the model's file has no chat template that llama.cpp knows: ChatML is used");
  say(fmt::format("OpenAI API on http://{}:{}/v1", url_host(options.host), *port));
  std::thread listener([&] { api.http().serve(); });
  if (!options.port_file.empty() && !write_port_file(options.port_file, *port)) {
    std::fputs(fmt::format("warning: --port-file: {} cannot be written\n", options.port_file).c_str(), stderr);
  }

  int signal = 0;
  sigwait(&signals, &signal);
  say(fmt::format("stopping: answers under way have {} s", options.drain.count()));
  api.http().close_after_replies();
  (*engine)->drain(options.drain);
  api.http().wait_for_replies(std::chrono::seconds(2));
  api.http().end();
  listener.join();
  engine->reset();
  cache->close();
  say("stopped");
  return 0;
}

int run(const std::vector<std::string>& arguments) {
  auto options = read_options(arguments);
  if (!options) return complain(options.error());
  if (options->help) {
    std::fputs(help_text().c_str(), stdout);
    return 0;
  }
  if (options->version) {
    say(fmt::format("tiercel-llama {}, llama.cpp {} ({})", TIERCEL_VERSION, llama_version(), TIERCEL_LLAMA_BUILD));
    return 0;
  }
  return serve(*options);
}

}  // namespace
}  // namespace tiercel::llamacpp

int main(int argc, char** argv) {
  try {
    return tiercel::llamacpp::run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& error) {
    std::fputs(fmt::format("error: {}\n", error.what()).c_str(), stderr);
    return 1;
  }
}
