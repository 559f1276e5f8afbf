// Control: the unix socket by which `penstock status` and others talk to the running agent. One line of JSON asks,
// {"command": "status"}, one line of JSON answers; a connection may ask many times.
//
// Whoever may open the socket (0660) may ask. One thread; the handler runs in it. At most 16 connections; a line is at
// most 64 KiB, but for one peer at a time, whose line may have `large_line_bytes` (records to import; the next such peer
// is read when that line is whole); a peer that is silent in the middle of a line, or does not read its answer, is cut
// off after 10 s. So is one that waits that long for its turn with a large line.
// A crash leaves the socket's file; the next start replaces it (the store's lock says that nobody else uses it).
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "buffer/result.h"

namespace penstock {

/// An answer, or a call that will give it: it is called in the server's thread, soon and then at least every 50 ms, until
/// it does. Others are answered meanwhile; what else the same peer asks waits.
struct ControlAnswer {
  using Later = std::function<std::optional<std::string>()>;
  ControlAnswer(std::string now) : text(std::move(now)) {}
  ControlAnswer(Later call) : later(std::move(call)) {}

  std::string text;
  Later later;  // empty: `text` is the answer
};

class ControlServer {
 public:
  /// A line without its end in, a line without its end out.
  using Handler = std::function<ControlAnswer(const std::string& line)>;

  static Result<std::unique_ptr<ControlServer>> open(const std::filesystem::path& path, Handler handler,
                                                     std::size_t large_line_bytes = 64 << 10);
  /// Takes the socket's file away.
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

 private:
  struct Inside;
  explicit ControlServer(std::unique_ptr<Inside> inside);
  std::unique_ptr<Inside> inside_;
};

/// Asks one line and gives the answer, of at most 256 MiB. `transient`: nobody answers there.
Result<std::string> ask_control(const std::filesystem::path& path, const std::string& line,
                                std::chrono::milliseconds timeout = std::chrono::milliseconds(5000));

/// Where the socket of an agent is: in systemd's RUNTIME_DIRECTORY, else in its state directory.
std::filesystem::path control_path(const std::filesystem::path& state_directory);
/// Where to look for it from outside: the one in the state directory if there is one, else systemd's.
std::filesystem::path find_control(const std::filesystem::path& state_directory);

}  // namespace penstock
