// Secret: a password or token. It can be compared and used, and never printed by accident.
#pragma once

#include <ostream>
#include <string>
#include <utility>

namespace penstock {

class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string text) : text_(std::move(text)) {}

  /// The one way to its text: hand it to the library that asks for it, and to nothing that writes.
  const std::string& reveal() const { return text_; }
  bool empty() const { return text_.empty(); }
  bool operator==(const Secret&) const = default;

  friend std::ostream& operator<<(std::ostream& out, const Secret& secret) {
    return out << (secret.empty() ? "" : "***");
  }

 private:
  std::string text_;
};

}  // namespace penstock
