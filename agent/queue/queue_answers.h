// What is answered about a queue: {"command": "queue.list"}, "queue.peek", "queue.gaps", "queue.dead_letters"; and what is
// done in it: "queue.retry", "queue.discard". docs/operations.md has the members.
//
// The running agent answers so over its control socket, and a command that has opened the store of a stopped agent asks
// the same functions. A page has at most about 1 MiB of records, and one record at least.
#pragma once

#include <string>

#include "buffer/store.h"

namespace penstock {

/// One line of JSON for a request whose command begins with "queue."; {"error": why} when it is not understood.
/// Any thread; changes nothing.
std::string answer_queue(const Store& store, const std::string& line);

/// The command is one that changes the queue...
bool changes_queue(const std::string& command);
/// ...and this does it and answers in the same way: the writer's thread.
std::string change_queue(Store& store, const std::string& line);

/// {"error": why, "fault": "rejected"}
std::string answer_error(const Error& error);

}  // namespace penstock
