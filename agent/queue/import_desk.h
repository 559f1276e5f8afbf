// Import: takes records of historical data over the control protocol, each request once.
//
// {"command": "import.begin", "file"} tells the position kept for the file, {"command": "import", "file", "lane", "from",
// "to", "records"} stores the records and the new position in one commit, if the position kept is still "from". What is
// asked again after a lost answer is answered without being done again. What a request says as "file" and as position is
// the client's; at most kMostStateNameBytes and kMostStateValueBytes.
//
// An import never makes the queue give anything up: with less than a sixteenth of the capacity left it is told to wait,
// whatever `when_full` says.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "agent/daemon/control.h"
#include "agent/daemon/outlet.h"
#include "agent/queue/record_json.h"

namespace penstock {

/// The driver whose states are the positions, and whose name records have that name no other.
inline constexpr const char* kImportDriver = "import";

/// In the running agent. The control server's thread calls ask() and what it returns; all outlive the server.
class ImportDesk {
 public:
  ImportDesk(const Store& store, Intake& intake, Writer& writer, const Disk& disk, const Clock& clock,
             std::size_t max_record_bytes);

  /// A request whose command begins with "import". The answer comes when the commit is durable, or after a second
  /// with {"wait": why}: then the same is asked again.
  ControlAnswer ask(const std::string& command, const std::string& line);

 private:
  struct Asked;
  std::optional<std::string> turn(Asked& asked);
  Result<Ticket> offer(Asked& asked, Lane lane);

  const Store& store_;
  Intake& intake_;
  Writer& writer_;
  const Disk& disk_;
  const Clock& clock_;
  const std::size_t max_record_bytes_;
  std::map<Lane, std::unique_ptr<DriverOutlet>> outlets_;
  Ticket last_ = 0;  // of the last put: until it is durable nobody knows the position
};

/// The same for a store that this process has opened: one thread, and every commit is synced.
std::string import_into(Store& store, const Clock& clock, std::size_t max_record_bytes, const std::string& command,
                        const std::string& line);

}  // namespace penstock
