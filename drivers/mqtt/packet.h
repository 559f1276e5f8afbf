// MQTT control packets, as far as the gate must understand them: MQTT 3.1.1 and 5.0 (OASIS),
// sections 2.1, 3.2, 3.3, 3.14.
//
// Pure functions over bytes that are not trusted. Nothing here reads past what it was given, and views point into it.
// An error is always `rejected`: the peer broke the protocol and the connection has to end.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "buffer/result.h"

namespace penstock::mqtt {

enum class Version : std::uint8_t { v3_1_1 = 4, v5 = 5 };

enum class PacketType : std::uint8_t {
  connect = 1,
  connack = 2,
  publish = 3,
  puback = 4,
  pubrec = 5,
  pubrel = 6,
  pubcomp = 7,
  subscribe = 8,
  suback = 9,
  unsubscribe = 10,
  unsuback = 11,
  pingreq = 12,
  pingresp = 13,
  disconnect = 14,
  auth = 15,
};

/// Section 2.1: one byte of type and flags, then 1 to 4 bytes of remaining length.
struct FixedHeader {
  std::uint8_t first = 0;
  std::uint8_t length = 0;      // bytes of the fixed header itself: 2 to 5
  std::uint32_t remaining = 0;  // bytes that follow it, at most 268,435,455

  PacketType type() const { return static_cast<PacketType>(first >> 4); }
  // of a PUBLISH
  bool duplicate() const { return (first & 8) != 0; }
  std::uint8_t qos() const { return (first >> 1) & 3; }
  bool retained() const { return (first & 1) != 0; }
  std::size_t size() const { return std::size_t{length} + remaining; }
};

/// The fixed header at the start of `bytes`; nothing when more bytes are needed to tell.
Result<std::optional<FixedHeader>> read_fixed_header(std::string_view bytes);

/// Where an answer to a PUBLISH goes, readable before the whole of it is there.
struct PublishAddress {
  std::string_view topic;
  std::uint16_t packet_id = 0;  // 0 at QoS 0
  std::size_t length = 0;       // bytes read of the body
};
/// From the first bytes of the body; nothing when more are needed. 5 + 65,535 bytes are always enough.
Result<std::optional<PublishAddress>> read_publish_address(const FixedHeader& header, std::string_view body);

struct UserProperty {
  std::string_view name;
  std::string_view value;
};

struct Publish {
  std::string_view topic;
  std::uint16_t packet_id = 0;
  std::uint8_t qos = 0;
  bool duplicate = false;
  bool retained = false;
  std::string_view content_type;
  std::vector<UserProperty> user_properties;  // in the order sent; a name may come twice
  std::string_view payload;
};
/// The whole body of a PUBLISH. `publish` is overwritten, its vector's memory used again.
Result<void> parse_publish(const FixedHeader& header, std::string_view body, Version version, Publish& publish);

struct Connack {
  bool session_present = false;
  std::uint8_t reason = 0;                  // 0: accepted
  std::optional<std::uint16_t> keep_alive;  // the server's wish, seconds; 5.0 only
  std::string_view reason_string;           // 5.0 only
};
Result<Connack> parse_connack(std::string_view body, Version version);

struct Disconnect {
  std::uint8_t reason = 0;
  std::string_view reason_string;
};
/// A DISCONNECT by the server, 5.0 only.
Result<Disconnect> parse_disconnect(std::string_view body);

/// The packet id at the start of a PUBACK, PUBREC, PUBREL, PUBCOMP.
Result<std::uint16_t> parse_packet_id(std::string_view body);

/// A reason code of CONNACK, DISCONNECT or SUBACK in words: "bad user name or password".
std::string reason_in_words(std::uint8_t reason, Version version);

/// Appends a PUBACK, PUBREC, PUBREL or PUBCOMP with reason "success": four bytes in both versions.
void append_acknowledgement(std::string& out, PacketType type, std::uint16_t packet_id);
void append_pingreq(std::string& out);
void append_pingresp(std::string& out);

}  // namespace penstock::mqtt
