// `tiercel top`: `tiercel status` again each second, in place. q or Ctrl-C ends it.
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/status_client.h"
#include "cli/status_text.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

namespace tiercel::cli {
namespace {

constexpr int kEveryMs = 1000;
constexpr const char* kEnter = "\x1b[?1049h\x1b[?25l";  // the other screen, no cursor
constexpr const char* kLeave = "\x1b[?25h\x1b[?1049l";
constexpr const char* kHome = "\x1b[H";
constexpr const char* kClearBelow = "\x1b[J";

/// The terminal as a screen with single keys, and as it was at the end.
class Screen {
 public:
  Screen() {
    keys_ = ::tcgetattr(STDIN_FILENO, &before_) == 0;
    if (keys_) {
      termios now = before_;
      now.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
      keys_ = ::tcsetattr(STDIN_FILENO, TCSANOW, &now) == 0;
    }
    say(kEnter);
  }
  ~Screen() {
    say(kLeave);
    if (keys_) (void)::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  [[nodiscard]] static TextSize size() {
    winsize size{};
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return {};
    return {.columns = size.ws_col, .rows = size.ws_row};
  }

  static void draw(const std::string& frame) {
    std::string text = kHome;
    for (const char c : frame) text += c == '\n' ? "\x1b[K\n" : std::string(1, c);  // what was longer before is gone
    say(text + kClearBelow);
  }

  /// Waits until the next frame is due. True: q was pressed, or the keys' end came.
  [[nodiscard]] bool ends() const {
    pollfd in{.fd = keys_ ? STDIN_FILENO : -1, .events = POLLIN, .revents = 0};
    if (::poll(&in, 1, kEveryMs) <= 0) return false;
    char key = 0;
    return ::read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q';
  }

 private:
  termios before_{};
  bool keys_ = false;
};

/// A frame, or why there is none: a service that is being started again comes back.
std::string frame_of(const std::string& url, const TextSize& size) {
  const auto fetched = fetch_status(url);
  if (!fetched) return fetched.error().message + "\n\ntrying again; q ends\n";
  const auto frame = top_frame(*fetched, size, url + "  last ten seconds  q ends");
  return frame ? *frame : frame.error().message + "\n";
}

int run_once(const std::string& url) {
  const auto fetched = fetch_status(url);
  if (!fetched) return complain(fetched.error(), 2);
  const auto frame = top_frame(*fetched, {}, url);
  if (!frame) return complain(frame.error(), 2);
  say(*frame);
  return 0;
}

}  // namespace

int run_top(std::span<const std::string> words) {
  std::string url = "http://" + HttpConfig{}.listen;
  bool help = false;
  Arguments arguments("tiercel top [--url URL]",
                      "A running service, live in the terminal; q or Ctrl-C ends. Without a terminal: one frame.");
  arguments.app().add_option("--url", url, "address of the live page [" + url + "]");
  if (Status status = arguments.parse(words, help); !status) return complain(status.error(), kUsageStatus);
  if (help) {
    say(arguments.help());
    return 0;
  }
  if (::isatty(STDOUT_FILENO) == 0) return run_once(url);
  const std::atomic<bool>& interrupted = watch_interrupts();
  const Screen screen;
  do {
    Screen::draw(frame_of(url, Screen::size()));
  } while (!screen.ends() && !interrupted.load());
  return 0;
}

}  // namespace tiercel::cli
