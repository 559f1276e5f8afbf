// The version of this program, as CMake's project() has it.
#pragma once

namespace penstock {

const char* version();

}  // namespace penstock
