// `tiercel status`: what /status says, as lines or as it is.
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/status_client.h"
#include "cli/status_text.h"

namespace tiercel::cli {

int run_status(std::span<const std::string> words) {
  std::string url = "http://" + HttpConfig{}.listen;
  bool json = false;
  bool help = false;
  Arguments arguments("tiercel status [--url URL] [--json]",
                      "What a running service holds and does. Exit status 0: it answers and is well, 1: it answers and "
                      "is not, 2: it does not answer.");
  arguments.app().add_option("--url", url, "address of the live page [" + url + "]");
  arguments.app().add_flag("--json", json, "the service's own JSON in place of lines");
  if (Status status = arguments.parse(words, help); !status) return complain(status.error(), kUsageStatus);
  if (help) {
    say(arguments.help());
    return 0;
  }
  const auto fetched = fetch_status(url);
  if (!fetched) return complain(fetched.error(), 2);
  const auto text = status_text(*fetched);
  if (!text) return complain(text.error(), 2);
  say(json ? *fetched + "\n" : *text);
  return fetched->find(R"("health":{"state":"ok")") != std::string::npos ? 0 : 1;
}

}  // namespace tiercel::cli
