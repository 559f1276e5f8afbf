// The file `suspect` beside a store's data: "something that may be damage was met; look at all of it before you open it".
//
// It is written when LMDB or the system says that the data cannot be trusted, also by a signal's handler, when there is
// no other way to tell the next life.
#pragma once

namespace penstock {

inline constexpr const char* kSuspectName = "suspect";

/// Any thread; async-signal-safe (signal-safety(7)). `why`: one line. That it cannot be written is no error: the disk, or
/// the store, may be gone.
void mark_suspect(const char* store_directory, const char* why) noexcept;

}  // namespace penstock
