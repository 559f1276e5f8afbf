#include "agent/kafka/twin_watch.h"

#include <utility>

namespace penstock {

TwinWatch::Answer TwinWatch::look(const std::optional<Seen>& newest, BootTime now) {
  auto before = std::exchange(looked_, now);
  if (duplicate_) return Answer::duplicate;
  if (!newest || !newest->foreign) {
    watched_.reset();
    return Answer::go;
  }
  if (watched_ && newest->offset > *watched_) {
    duplicate_ = true;
    return Answer::duplicate;
  }
  if (watched_ != newest->offset) {  // an offset that sinks is a topic made anew
    watched_ = newest->offset;
    seen_still_ = {};
  } else if (before) {
    seen_still_ += now - *before;
  }
  return seen_still_ >= still_ ? Answer::go : Answer::wait;
}

}  // namespace penstock
