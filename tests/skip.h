// Skipping: a test case that cannot run here says so and why, and is counted as skipped.
//
//   if (!installed("mosquitto")) return skip("mosquitto is not installed");
//
// Where everything is demanded (PENSTOCK_DEMAND_E2E is set, as in CI) a skip is a failure.
#pragma once

#include <string>

namespace penstock {

/// In the thread of the test case, which must return right after it.
void skip(const std::string& why);

}  // namespace penstock
