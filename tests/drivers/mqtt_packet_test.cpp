#include "drivers/mqtt/packet.h"

#include "tests/catch.h"
#include "tests/fakes/mqtt_wire.h"

namespace penstock {
namespace {
namespace mqtt_packet_test {

using mqtt::FixedHeader;
using mqtt::Publish;
using mqtt::Version;

std::string bytes(std::initializer_list<int> list) {
  std::string text;
  for (int value : list) text += static_cast<char>(value);
  return text;
}

struct Parsed {
  bool ok = false;
  Publish publish;
};
// What a caller does with a whole packet, which outlives the result.
Parsed parse(const std::string& packet, Version version) {
  Parsed parsed;
  auto header = mqtt::read_fixed_header(packet);
  if (!header.ok() || !*header || (*header)->size() != packet.size()) return parsed;
  parsed.ok =
      mqtt::parse_publish(**header, std::string_view(packet).substr((*header)->length), version, parsed.publish).ok();
  return parsed;
}

TEST_CASE("a fixed header is read at every length of its size field, and not before it is whole", "[mqtt]") {
  for (std::uint32_t remaining : {0u, 1u, 127u, 128u, 16'383u, 16'384u, 2'097'151u, 2'097'152u, 268'435'455u}) {
    std::string packet = "\x30" + wire::variable(remaining);
    for (std::size_t cut = 0; cut < packet.size(); ++cut) {
      auto header = mqtt::read_fixed_header(packet.substr(0, cut));
      REQUIRE(header.ok());
      CHECK_FALSE(header->has_value());
    }
    auto header = mqtt::read_fixed_header(packet + "more");
    REQUIRE(header.ok());
    REQUIRE(header->has_value());
    CHECK((*header)->remaining == remaining);
    CHECK((*header)->length == packet.size());
  }
  CHECK_FALSE(mqtt::read_fixed_header(bytes({0x30, 255, 255, 255, 255})).ok());
  CHECK_FALSE(mqtt::read_fixed_header(bytes({0x00, 0})).ok());
}

TEST_CASE("a PUBLISH is read with topic, id, flags, properties and payload", "[mqtt]") {
  std::string properties = bytes({0x01, 1}) + bytes({0x02, 0, 0, 0, 9}) + bytes({0x0B, 0x80, 0x01}) + "\x03" +
                           wire::text("text/plain") + "\x08" + wire::text("answer") + "\x09" + wire::text("corr") +
                           "\x26" + wire::text("a") + wire::text("1") + "\x26" + wire::text("a") + wire::text("");
  const std::string packet = wire::publish("plant/a", "payload", 1, 258, properties, true, true);
  auto parsed = parse(packet, Version::v5);
  REQUIRE(parsed.ok);
  CHECK(parsed.publish.topic == "plant/a");
  CHECK(parsed.publish.packet_id == 258);
  CHECK(parsed.publish.qos == 1);
  CHECK(parsed.publish.retained);
  CHECK(parsed.publish.duplicate);
  CHECK(parsed.publish.content_type == "text/plain");
  REQUIRE(parsed.publish.user_properties.size() == 2);
  CHECK(parsed.publish.user_properties[0].value == "1");
  CHECK(parsed.publish.user_properties[1].name == "a");
  CHECK(parsed.publish.user_properties[1].value.empty());
  CHECK(parsed.publish.payload == "payload");

  const std::string least = wire::publish("t", "", 0, 0, std::nullopt);
  auto old = parse(least, Version::v3_1_1);
  REQUIRE(old.ok);
  CHECK(old.publish.packet_id == 0);
  CHECK(old.publish.payload.empty());
}

TEST_CASE("a PUBLISH cut at any byte is malformed or a shorter payload, and is never read past its end", "[mqtt]") {
  std::string properties = "\x03" + wire::text("ct") + "\x26" + wire::text("name") + wire::text("value");
  for (auto version : {Version::v5, Version::v3_1_1}) {
    auto kept = version == Version::v5 ? std::optional(properties) : std::nullopt;
    std::string whole = wire::publish("plant/a", "payload", 1, 7, kept);
    std::string body = whole.substr(2);
    std::size_t before_payload = body.size() - 7;
    for (std::size_t cut = 0; cut < body.size(); ++cut) {
      // A copy of exactly that size, so that a sanitizer sees a read past it.
      std::vector<char> exact(body.begin(), body.begin() + static_cast<std::ptrdiff_t>(cut));
      FixedHeader header{0x32, 2, static_cast<std::uint32_t>(cut)};
      Publish publish;
      bool ok = mqtt::parse_publish(header, {exact.data(), exact.size()}, version, publish).ok();
      CAPTURE(cut);
      CHECK(ok == (cut >= before_payload));
      if (ok) CHECK(publish.payload == std::string_view("payload").substr(0, cut - before_payload));
    }
  }
}

TEST_CASE("what MQTT forbids in a PUBLISH is refused", "[mqtt]") {
  CHECK_FALSE(parse(wire::publish("a", "x", 1, 0), Version::v5).ok);                            // packet id 0
  CHECK_FALSE(parse(wire::publish("a", "x", 3, 1), Version::v5).ok);                            // QoS 3
  CHECK_FALSE(parse(wire::publish("", "x", 1, 1), Version::v5).ok);                             // no topic
  CHECK_FALSE(parse(wire::publish("a", "x", 1, 1, bytes({0x23, 0, 1})), Version::v5).ok);       // an alias
  CHECK_FALSE(parse(wire::publish("a", "x", 1, 1, bytes({0x7F, 0})), Version::v5).ok);          // unknown property
  CHECK_FALSE(parse(wire::publish("a", "x", 1, 1, bytes({0x03, 0, 9, 'x'})), Version::v5).ok);  // text too long
  CHECK_FALSE(parse(wire::publish("a", "x", 1, 1, bytes({0x0B, 255, 255, 255, 255})), Version::v5).ok);
  CHECK_FALSE(parse(wire::packet(0x30, wire::text("a") + bytes({5, 0x01})), Version::v5).ok);  // properties too long
}

TEST_CASE("the address of a PUBLISH is known from its first bytes", "[mqtt]") {
  std::string packet = wire::publish("plant/large", std::string(1'000, 'x'), 1, 513);
  auto header = **mqtt::read_fixed_header(packet);
  std::string_view body = std::string_view(packet).substr(header.length);
  for (std::size_t cut = 0; cut < 15; ++cut) {
    auto address = mqtt::read_publish_address(header, body.substr(0, cut));
    REQUIRE(address.ok());
    CHECK_FALSE(address->has_value());
  }
  auto address = mqtt::read_publish_address(header, body.substr(0, 15));
  REQUIRE(address.ok());
  REQUIRE(address->has_value());
  CHECK((*address)->topic == "plant/large");
  CHECK((*address)->packet_id == 513);
  CHECK((*address)->length == 15);
  // The topic is longer than the packet says it is.
  CHECK_FALSE(mqtt::read_publish_address(FixedHeader{0x32, 2, 10}, body).ok());
}

TEST_CASE("CONNACK and DISCONNECT give their reasons in words", "[mqtt]") {
  std::string properties = bytes({0x13, 0, 17}) + "\x1F" + wire::text("go away");
  std::string connack = wire::connack(0x86, true, properties).substr(2);
  auto parsed = mqtt::parse_connack(connack, Version::v5);
  REQUIRE(parsed.ok());
  CHECK(parsed->session_present);
  CHECK(*parsed->keep_alive == 17);
  CHECK(parsed->reason_string == "go away");
  CHECK(mqtt::reason_in_words(parsed->reason, Version::v5) == "bad user name or password");
  CHECK(mqtt::reason_in_words(5, Version::v3_1_1) == "not authorised");
  // An old broker answers a 5.0 client in its own way.
  CHECK(mqtt::reason_in_words(mqtt::parse_connack(bytes({0, 1}), Version::v5)->reason, Version::v5) ==
        "the broker does not speak this protocol version");
  for (std::size_t cut = 0; cut < 2; ++cut) CHECK_FALSE(mqtt::parse_connack(connack.substr(0, cut), Version::v5).ok());
  for (std::size_t cut = 3; cut < connack.size(); ++cut) {
    CHECK_FALSE(mqtt::parse_connack(connack.substr(0, cut), Version::v5).ok());
  }
  CHECK(mqtt::parse_disconnect("")->reason == 0);
  CHECK(mqtt::reason_in_words(mqtt::parse_disconnect(bytes({0x8E}))->reason, Version::v5).find("taken over") !=
        std::string::npos);
  CHECK_FALSE(mqtt::parse_disconnect(bytes({0x8E, 5})).ok());
  CHECK_FALSE(mqtt::parse_packet_id(bytes({0})).ok());
  CHECK_FALSE(mqtt::parse_packet_id(bytes({0, 0})).ok());
}

TEST_CASE("acknowledgements are four bytes", "[mqtt]") {
  std::string out;
  mqtt::append_acknowledgement(out, mqtt::PacketType::puback, 0x1234);
  mqtt::append_acknowledgement(out, mqtt::PacketType::pubrel, 1);
  CHECK(out == bytes({0x40, 2, 0x12, 0x34, 0x62, 2, 0, 1}));
}

}  // namespace mqtt_packet_test
}  // namespace
}  // namespace penstock
