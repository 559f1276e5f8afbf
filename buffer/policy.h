// What the store does when it is full: a word of the configuration that the store and its settings share.
#pragma once

namespace penstock {

enum class WhenFull { evict_oldest, reject_newest, block };

}  // namespace penstock
