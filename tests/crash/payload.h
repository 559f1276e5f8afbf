// What the record with a given sequence of a lane holds: the same in every life, so that anyone can check it.
#pragma once

#include <cstdint>
#include <string>

namespace penstock {

inline std::string payload_of(const std::string& lane, std::uint64_t sequence) {
  std::uint64_t mixed = sequence * 0x9e37'79b9'7f4a'7c15 + lane.size();
  std::string text = lane + ' ' + std::to_string(sequence) + ' ';
  std::size_t size = mixed % 97 == 0 ? 5'000 + mixed % 7'000 : mixed % 200;
  while (text.size() < size) {
    mixed = mixed * 6'364'136'223'846'793'005 + 1'442'695'040'888'963'407;
    text += static_cast<char>(mixed >> 56);
  }
  return text;
}

}  // namespace penstock
