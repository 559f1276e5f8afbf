// The numbers and ids by which a record is known for ever: (agent, epoch, lane, sequence).
//
// Plain values; safe in any thread. A Sequence can be compared and asked for the next one, never added to;
// it is given by the store's writer alone and means nothing across epochs.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

namespace penstock {

/// The place of a record in its lane: 1, 2, 3...; 0 is "none yet".
class Sequence {
 public:
  constexpr Sequence() = default;
  constexpr explicit Sequence(std::uint64_t value) : value_(value) {}

  constexpr std::uint64_t value() const { return value_; }
  constexpr Sequence next() const { return Sequence(value_ + 1); }
  /// The one before; that of 0 is 0.
  constexpr Sequence previous() const { return Sequence(value_ == 0 ? 0 : value_ - 1); }
  constexpr auto operator<=>(const Sequence&) const = default;

  static constexpr Sequence max() { return Sequence(std::numeric_limits<std::uint64_t>::max()); }

 private:
  std::uint64_t value_ = 0;
};

/// How many records lie in first..last, both included; 0 when last < first.
constexpr std::uint64_t count_between(Sequence first, Sequence last) {
  return last < first ? 0 : last.value() - first.value() + 1;
}

/// The number of a lane in one store; its name is kept there for ever.
enum class Lane : std::uint16_t {};
constexpr std::uint16_t number(Lane lane) { return static_cast<std::uint16_t>(lane); }

/// 128 random bits. The tag keeps an epoch from being taken for a run.
template <class Tag>
struct Id {
  std::array<std::uint8_t, 16> bytes{};

  auto operator<=>(const Id&) const = default;
  bool none() const { return *this == Id{}; }

  /// 32 lower-case hexadecimal digits.
  std::string hex() const {
    static constexpr char digits[] = "0123456789abcdef";
    std::string text;
    text.reserve(2 * bytes.size());
    for (auto byte : bytes) {
      text += digits[byte >> 4];
      text += digits[byte & 15];
    }
    return text;
  }

  /// From exactly 32 hexadecimal digits, dashes between them ignored (as /proc writes a boot id).
  static std::optional<Id> from_hex(std::string_view text) {
    Id id;
    std::size_t digits = 0;
    for (char c : text) {
      if (c == '-') continue;
      int value = c >= '0' && c <= '9'   ? c - '0'
                  : c >= 'a' && c <= 'f' ? c - 'a' + 10
                  : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                         : -1;
      if (value < 0 || digits == 32) return std::nullopt;
      id.bytes[digits / 2] = static_cast<std::uint8_t>(id.bytes[digits / 2] << 4 | value);
      ++digits;
    }
    if (digits != 32) return std::nullopt;
    return id;
  }
};

/// Fills 16 bytes from the kernel's random source (getrandom(2)); the process ends if there is none.
std::array<std::uint8_t, 16> random_bytes();

using Epoch = Id<struct EpochTag>;  // drawn when a store is created or forked
using Run = Id<struct RunTag>;      // drawn at every open of the store
using Boot = Id<struct BootTag>;    // the kernel's boot id

/// A dead letter: by the name that its record has for ever.
struct DeadLetterId {
  Epoch epoch;
  Lane lane{};
  Sequence sequence;
  auto operator<=>(const DeadLetterId&) const = default;
};

template <class IdType>
IdType draw() {
  return IdType{random_bytes()};
}

}  // namespace penstock
