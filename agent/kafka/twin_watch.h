// TwinWatch: is there another living agent with our id? Decides from what lies newest among our checkpoints, and since when.
//
// One that this store wrote, or none, is no reason to wait. A foreign one is the mark of a copy of this store (or of a
// stranger with our name). A living agent writes a checkpoint at least once in a status interval; so a copy whose
// checkpoints move is alive, and one whose checkpoint has stood still for long is not.
//
// Plain values, told everything, time included; one thread. Nothing of it outlives the process.
#pragma once

#include <cstdint>
#include <optional>

#include "buffer/clock.h"

namespace penstock {

class TwinWatch {
 public:
  enum class Answer { go, wait, duplicate };
  /// The newest checkpoint of our id.
  struct Seen {
    bool foreign = false;
    std::int64_t offset = 0;
  };

  /// `still`: how long a foreign checkpoint must be seen to stand still.
  explicit TwinWatch(BootTime still) : still_(still) {}

  /// What was read up to the end of the partition at `now`. `duplicate` is for ever.
  Answer look(const std::optional<Seen>& newest, BootTime now);

  /// The end of the partition cannot be read: the time until the next look() says nothing.
  void lost_sight() { looked_.reset(); }

 private:
  const BootTime still_;
  std::optional<std::int64_t> watched_;  // offset of the foreign checkpoint
  BootTime seen_still_{};
  std::optional<BootTime> looked_;  // last
  bool duplicate_ = false;
};

}  // namespace penstock
