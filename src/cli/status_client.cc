#include "cli/status_client.h"

#include <fmt/format.h>
#include <httplib.h>

#include <regex>

namespace tiercel::cli {
namespace {
constexpr int kPatienceSeconds = 5;
}  // namespace

Result<std::string> fetch_status(const std::string& url) {
  static const std::regex kUrl(R"(http://(\[[0-9a-fA-F:.]+\]|[^/:\[\]]+)(?::([0-9]{1,5}))?/?)");
  std::smatch parts;
  if (!std::regex_match(url, parts, kUrl)) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("--url: \"{}\" is not an address such as http://127.0.0.1:9800", url));
  }
  std::string host = parts[1];
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  httplib::Client client(host, parts[2].matched ? std::stoi(parts[2]) : 80);
  client.set_connection_timeout(kPatienceSeconds);
  client.set_read_timeout(kPatienceSeconds);
  const auto answer = client.Get("/status");
  if (!answer) {
    return fail(ErrorCode::kIo,
                fmt::format("nobody answers at {}; is `tiercel serve` running, and is this its http.listen "
                            "(--url names another)?",
                            url));
  }
  if (answer->status != 200) {
    return fail(ErrorCode::kIo, fmt::format("{} answers {}: {}", url, answer->status, answer->body.substr(0, 300)));
  }
  return answer->body;
}

}  // namespace tiercel::cli
