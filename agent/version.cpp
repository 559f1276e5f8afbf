#include "agent/version.h"

namespace penstock {

const char* version() { return PENSTOCK_VERSION; }

}  // namespace penstock
