#include "agent/demo/view.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace penstock {
namespace {

constexpr const char* kPlain = "\033[0m";
constexpr const char* kBold = "\033[1m";
constexpr const char* kDim = "\033[2m";
constexpr const char* kRed = "\033[31m";
constexpr const char* kGreen = "\033[32m";

/// A line put together piece by piece, cut at the width of the terminal. Colours and the bytes of a character beyond the
/// first one take no room.
class Line {
 public:
  explicit Line(const DemoLook& look) : look_(look) {}

  Line& add(std::string_view text, const char* colour = nullptr) {
    if (colour != nullptr && look_.colour) text_ += colour;
    for (std::size_t n = 0; n < text.size();) {
      std::size_t next = n + 1;
      while (next < text.size() && (static_cast<unsigned char>(text[next]) & 0xc0) == 0x80) ++next;
      if (used_ == look_.columns) break;
      // What comes from outside (log, driver states) must not move the cursor.
      bool control = static_cast<unsigned char>(text[n]) < 0x20 || text[n] == 0x7f;
      text_ += control ? std::string_view(" ") : text.substr(n, next - n);
      ++used_;
      n = next;
    }
    if (colour != nullptr && look_.colour) text_ += kPlain;
    return *this;
  }
  Line& label(std::string_view name) { return add(fmt::format(" {:<10}", name), kDim); }
  std::string take() { return std::move(text_); }

 private:
  const DemoLook& look_;
  std::string text_;
  std::size_t used_ = 0;
};

/// `values` drawn in `width` characters: each shows the largest of its share.
std::string sparkline(const std::vector<std::uint64_t>& values, std::size_t width, bool unicode) {
  static constexpr const char* kBlocks[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  static constexpr const char* kLetters[] = {" ", ".", ".", ":", ":", "|", "|", "#", "#"};
  std::string text;
  if (values.empty()) return text;
  std::uint64_t most = std::max<std::uint64_t>(*std::max_element(values.begin(), values.end()), 1);
  for (std::size_t n = 0; n < width; ++n) {
    std::size_t from = n * values.size() / width;
    std::size_t to = std::max(from + 1, (n + 1) * values.size() / width);
    std::uint64_t value = *std::max_element(values.begin() + static_cast<std::ptrdiff_t>(from),
                                            values.begin() + static_cast<std::ptrdiff_t>(to));
    std::size_t height = value == 0 ? 0 : 1 + static_cast<std::size_t>(7 * value / most);
    text += unicode ? kBlocks[height] : kLetters[height];
  }
  return text;
}

/// How many of `width` characters have gone by.
std::size_t share_of(std::chrono::milliseconds at, std::chrono::milliseconds whole, std::size_t width) {
  if (whole.count() <= 0) return width;
  auto part = std::clamp<std::int64_t>(at.count(), 0, whole.count());
  return static_cast<std::size_t>(part) * width / static_cast<std::size_t>(whole.count());
}

void add_schedule(Line& line, std::chrono::milliseconds at, const Timetable& timetable, std::size_t width,
                  bool unicode) {
  std::size_t now = share_of(at, timetable.whole(), width);
  for (std::size_t n = 0; n < width; ++n) {
    auto time = timetable.whole() * (2 * n + 1) / (2 * width);
    bool up = timetable.up(std::chrono::duration_cast<std::chrono::milliseconds>(time));
    bool past = n < now;
    const char* mark = unicode ? (!up ? "╌" : past ? "━" : "─") : (!up ? "x" : past ? "=" : "-");
    line.add(mark, !past ? kDim : up ? kGreen : kRed);
  }
}

std::string in_seconds(std::chrono::milliseconds time) { return fmt::format("{} s", (time.count() + 999) / 1000); }

std::string head_of(const DemoSnapshot& snapshot, const Timetable& timetable) {
  if (snapshot.stage == DemoSnapshot::Stage::emptying) return "the sensors are off, the queue is emptied";
  return fmt::format("{} of {}", on_the_clock(snapshot.at), on_the_clock(timetable.whole()));
}

Line link_line(const DemoSnapshot& snapshot, const Timetable& timetable, const DemoLook& look) {
  Line line(look);
  line.label("link").add(snapshot.link_up ? "up" : "CUT", snapshot.link_up ? kGreen : kRed);
  if (snapshot.stage == DemoSnapshot::Stage::running) {
    if (auto change = timetable.until_change(snapshot.at)) {
      line.add(fmt::format(", {} in {}", snapshot.link_up ? "cut" : "back", in_seconds(*change)));
    }
  }
  return line;
}

}  // namespace

std::uint64_t DemoSnapshot::waiting() const {
  std::uint64_t sum = 0;
  for (const auto& lane : lanes) sum += lane.waiting;
  return sum;
}

std::vector<std::string> draw(const DemoSnapshot& snapshot, const Timetable& timetable, const DemoLook& look) {
  std::vector<std::string> lines;
  auto push = [&](Line line) { lines.push_back(line.take()); };
  std::size_t room = look.columns > 12 ? look.columns - 12 : 1;  // beside a label
  std::size_t width = std::min<std::size_t>(room, 60);

  push(Line(look).add(" penstock demo", kBold).add("  " + head_of(snapshot, timetable)));
  push(Line(look));
  for (const auto& driver : snapshot.drivers) {
    push(Line(look).label(driver.name).add(fmt::format("{:>9} records  {}", grouped(driver.records), driver.state)));
  }
  push(Line(look));
  push(Line(look).label("lane").add(fmt::format("{:>9} {:>12} {:>12}", "waiting", "on disk", "in Kafka"), kDim));
  for (const auto& lane : snapshot.lanes) {
    push(Line(look).label("").add(fmt::format("{:>9} {:>12} {:>12}  {}", grouped(lane.waiting), grouped(lane.durable),
                                              grouped(lane.delivered), lane.name)));
  }
  push(Line(look));
  push(link_line(snapshot, timetable, look));
  Line schedule(look);
  schedule.label("");
  add_schedule(schedule, snapshot.at, timetable, width, look.unicode);
  push(std::move(schedule));
  std::size_t so_far = std::max<std::size_t>(share_of(snapshot.at, timetable.whole(), width), 1);
  push(Line(look).label("backlog").add(sparkline(snapshot.backlog, so_far, look.unicode)));
  push(Line(look));
  push(Line(look)
           .label("sent")
           .add(fmt::format("{:>9}", grouped(snapshot.sent)), kBold)
           .add(fmt::format(" {:>8.0f} a second", snapshot.sent_rate)));
  push(Line(look)
           .label("received")
           .add(fmt::format("{:>9}", grouped(snapshot.received)), kBold)
           .add(fmt::format(" {:>8.0f} a second, and {} of the agent's own", snapshot.received_rate,
                            grouped(snapshot.own))));
  push(Line(look).label("").add(fmt::format("{:>9} repeats skipped", grouped(snapshot.repeats)), kDim));
  push(Line(look).label("disk").add(fmt::format("{} of {}, memory {}", in_bytes(snapshot.stored_bytes),
                                                in_bytes(snapshot.capacity_bytes), in_bytes(snapshot.memory_bytes))));
  for (const auto& message : snapshot.messages) push(Line(look).add(" ").add(message, kDim));
  return lines;
}

std::string plain_line(const DemoSnapshot& snapshot, const Timetable& timetable) {
  std::string head = snapshot.stage == DemoSnapshot::Stage::running ? head_of(snapshot, timetable) : "emptying";
  return fmt::format("{:<14}  link {:<3}  waiting {:>7}  sent {:>8} ({:.0f}/s)  received {:>8} ({:.0f}/s)", head,
                     snapshot.link_up ? "up" : "CUT", grouped(snapshot.waiting()), grouped(snapshot.sent),
                     snapshot.sent_rate, grouped(snapshot.received), snapshot.received_rate);
}

std::string grouped(std::uint64_t number) {
  std::string digits = fmt::format("{}", number);
  for (std::size_t n = digits.size(); n > 3; n -= 3) digits.insert(n - 3, ",");
  return digits;
}

std::string in_bytes(std::uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024;
  const char* unit = "KiB";
  for (const char* next : {"MiB", "GiB", "TiB"}) {
    if (value < 1000) break;
    value /= 1024;
    unit = next;
  }
  return fmt::format("{:.{}f} {}", value, value < 10 ? 1 : 0, unit);
}

std::string on_the_clock(std::chrono::milliseconds time) {
  auto seconds = time.count() / 1000;
  if (seconds >= 3600) return fmt::format("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
  return fmt::format("{:02}:{:02}", seconds / 60, seconds % 60);
}

}  // namespace penstock
