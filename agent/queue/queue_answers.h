// What is answered about a queue: {"command": "queue.list"}, "queue.peek", "queue.gaps". docs/operations.md has the members.
//
// The running agent answers so over its control socket, and a command that has opened the store of a stopped agent asks
// the same function. Any thread; changes nothing. A page has at most about 1 MiB of records, and one record at least.
#pragma once

#include <string>

#include "buffer/store.h"

namespace penstock {

/// One line of JSON for a request whose command begins with "queue."; {"error": why} when it is not understood.
std::string answer_queue(const Store& store, const std::string& line);

/// {"error": why, "fault": "rejected"}
std::string answer_error(const Error& error);

}  // namespace penstock
