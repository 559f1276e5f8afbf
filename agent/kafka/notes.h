// Notes: small things the sink likes to find again after a restart: where its last checkpoint lies. Advice, not truth:
// a note may be old or lost, and everything still works, only a start costs more bytes.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace penstock {

class Notes {
 public:
  virtual ~Notes() = default;

  /// From the forwarder's thread only, both. Names and values are at most 100 bytes.
  virtual std::optional<std::string> get(std::string_view name) const = 0;
  /// Never waits: kept with some later commit of the store, or lost with a crash before it.
  virtual void set(std::string_view name, std::string value) = 0;
};

}  // namespace penstock
