// Checks: what can be said of one string of the configuration, and what several keys say together.
//
// Pure functions. A check of a string says what was expected, or nothing when it is right.
#pragma once

#include <string>

#include "config/keys.h"
#include "config/settings.h"
#include "config/value.h"

namespace penstock {

/// Letters, digits, `.`, `_`, `-`; 1 to 64 of them: agent.id and the names of lanes and drivers.
std::string name_check(const std::string& name);
/// host:port, [v6]:port.
std::string host_port_check(const std::string& text);
/// host:port on this machine only, or "off".
std::string listen_check(const std::string& text);
/// Known placeholders only: {agent} {driver} {stream} {lane} {key}.
std::string template_check(const std::string& text);

/// What no single key can say. `root` gives the places.
void check_together(const Settings& settings, const Value& root, Reading& reading);

}  // namespace penstock
