#include "buffer/record.h"

namespace penstock {

const char* name_of(Cause cause) {
  switch (cause) {
    case Cause::evicted: return "evicted";
    case Cause::expired: return "expired";
    case Cause::too_large: return "too_large";
    case Cause::damaged: return "damaged";
    case Cause::dead_letter: return "dead_letter";
    case Cause::refused: return "refused";
    case Cause::discarded: return "discarded";
    case Cause::dead_letter_evicted: return "dead_letter_evicted";
  }
  return "unknown";
}

}  // namespace penstock
