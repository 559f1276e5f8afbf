#include "buffer/store_inside.h"
#include "buffer/suspect.h"

namespace penstock {

Result<bool> Store::Inside::look() {
  auto exists = directory.has_store();
  if (!exists || !*exists) return exists;
  auto manifest = directory.read();
  if (!manifest) return manifest.error();
  MendSettings with{settings.capacity_bytes, {}, clock.wall(), settings.progress};
  for (const auto& lane : settings.lanes) with.lanes.push_back(lane.name);
  auto done = mend(directory, *manifest, with);
  if (!done) return done.error();
  mended = std::move(*done);
  if (!mended) return true;
  state.given_up[static_cast<std::size_t>(Cause::damaged)] += mended->lost;
  return directory.has_store();
}

Error Store::Inside::distrust(DatabaseCode code, std::string what) const {
  what += ": " + text_of(code);
  if (is_damage(code)) mark_suspect(directory.path().c_str(), what.c_str());
  return broken(std::move(what));
}

}  // namespace penstock
