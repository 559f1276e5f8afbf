#include "agent/demo/screen.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace penstock {
namespace {

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

bool locale_is_utf8() {
  std::string locale;
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    locale = environment(name);
    if (!locale.empty()) break;
  }
  std::transform(locale.begin(), locale.end(), locale.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return locale.find("utf-8") != std::string::npos || locale.find("utf8") != std::string::npos;
}

struct Size {
  std::size_t columns = 80, rows = 24;
};

Size size_of(std::FILE* terminal) {
  winsize window{};
  if (ioctl(fileno(terminal), TIOCGWINSZ, &window) != 0 || window.ws_col == 0 || window.ws_row == 0) return {};
  return {window.ws_col, window.ws_row};
}

constexpr const char* kHideCursor = "\033[?25l";
constexpr const char* kShowCursor = "\033[?25h";
constexpr const char* kClearScreen = "\033[2J\033[H";
constexpr const char* kClearRestOfLine = "\033[K";
constexpr const char* kClearBelow = "\033[J";

}  // namespace

Screen::Screen(std::FILE* out, const Timetable& timetable) : out_(out), timetable_(timetable) {
  terminal_ = isatty(fileno(out)) == 1 && environment("TERM") != "dumb";
  look_.colour = environment("NO_COLOR").empty();
  look_.unicode = locale_is_utf8();
}

Screen::~Screen() {
  if (drawn_ == 0) return;
  std::fputs(kShowCursor, out_);
  std::fflush(out_);
}

bool Screen::show(const DemoSnapshot& snapshot) {
  if (terminal_) {
    draw_in_place(snapshot);
  } else {
    auto now = std::chrono::steady_clock::now();
    if (last_plain_ && now < *last_plain_ + std::chrono::seconds(1)) return true;
    last_plain_ = now;
    std::fputs((plain_line(snapshot, timetable_) + "\n").c_str(), out_);
  }
  return std::fflush(out_) == 0;
}

void Screen::finish(const DemoSnapshot& snapshot) {
  last_plain_.reset();
  show(snapshot);
}

void Screen::draw_in_place(const DemoSnapshot& snapshot) {
  Size size = size_of(out_);
  bool resized = drawn_ != 0 && size.columns != look_.columns;
  look_.columns = size.columns;
  auto lines = draw(snapshot, timetable_, look_);
  if (lines.size() >= size.rows) lines.resize(size.rows - 1);  // what does not fit cannot be drawn over

  std::string text = kHideCursor;
  if (resized) {
    text += kClearScreen;  // the old frame was broken at other places
  } else if (drawn_ != 0) {
    text += fmt::format("\r\033[{}A", drawn_);
  }
  for (const auto& line : lines) text += line + kClearRestOfLine + "\n";
  text += kClearBelow;
  std::fputs(text.c_str(), out_);
  drawn_ = lines.size();
}

}  // namespace penstock
