#include "drivers/mqtt/packet.h"

#include <fmt/format.h>

namespace penstock::mqtt {
namespace {

// Reads forward through bytes that are not trusted; once something was missing every later read gives nothing.
class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : rest_(bytes) {}

  bool ok() const { return ok_; }
  bool empty() const { return rest_.empty(); }
  std::string_view rest() const { return rest_; }

  std::string_view take(std::size_t count) {
    if (!ok_ || rest_.size() < count) return fail();
    std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  std::uint8_t u8() {
    std::string_view byte = take(1);
    return ok_ ? static_cast<std::uint8_t>(byte[0]) : std::uint8_t{0};
  }
  std::uint16_t u16() {
    std::string_view bytes = take(2);
    if (!ok_) return 0;
    return static_cast<std::uint16_t>(static_cast<std::uint8_t>(bytes[0]) << 8 | static_cast<std::uint8_t>(bytes[1]));
  }
  std::string_view text() {
    std::uint16_t length = u16();
    return take(length);
  }
  // Section 1.5.5: seven bits a byte, low ones first, at most four bytes.
  std::uint32_t variable() {
    std::uint32_t value = 0;
    for (int shift = 0; shift <= 21; shift += 7) {
      std::uint8_t byte = u8();
      value |= std::uint32_t{byte & 127u} << shift;
      if (byte < 128) return ok_ ? value : 0;
    }
    fail();
    return 0;
  }

 private:
  std::string_view fail() {
    ok_ = false;
    rest_ = {};
    return {};
  }
  std::string_view rest_;
  bool ok_ = true;
};

// Section 2.2.2.2 of MQTT 5: what follows a property's identifier.
enum class PropertyForm { none, byte, two_bytes, four_bytes, variable, text, two_texts };

PropertyForm form_of(std::uint32_t identifier) {
  switch (identifier) {
    case 0x01:
    case 0x17:
    case 0x19:
    case 0x24:
    case 0x25:
    case 0x28:
    case 0x29:
    case 0x2A: return PropertyForm::byte;
    case 0x13:
    case 0x21:
    case 0x22:
    case 0x23: return PropertyForm::two_bytes;
    case 0x02:
    case 0x11:
    case 0x18:
    case 0x27: return PropertyForm::four_bytes;
    case 0x0B: return PropertyForm::variable;
    case 0x03:
    case 0x08:
    case 0x09:
    case 0x12:
    case 0x15:
    case 0x16:
    case 0x1A:
    case 0x1C:
    case 0x1F: return PropertyForm::text;
    case 0x26: return PropertyForm::two_texts;
    default: return PropertyForm::none;
  }
}

constexpr std::uint32_t kContentType = 0x03, kServerKeepAlive = 0x13, kReasonString = 0x1F, kTopicAlias = 0x23,
                        kUserProperty = 0x26;

// Calls `each(identifier, first text or number as bytes, second text)` for every property; false when malformed.
template <class Each>
bool read_properties(Cursor& cursor, Each each) {
  std::uint32_t length = cursor.variable();
  Cursor inside(cursor.take(length));
  if (!cursor.ok()) return false;
  while (!inside.empty()) {
    std::uint32_t identifier = inside.variable();
    std::string_view value, second;
    switch (form_of(identifier)) {
      case PropertyForm::none: return false;
      case PropertyForm::byte: value = inside.take(1); break;
      case PropertyForm::two_bytes: value = inside.take(2); break;
      case PropertyForm::four_bytes: value = inside.take(4); break;
      case PropertyForm::variable: inside.variable(); break;
      case PropertyForm::text: value = inside.text(); break;
      case PropertyForm::two_texts:
        value = inside.text();
        second = inside.text();
        break;
    }
    if (!inside.ok()) return false;
    each(identifier, value, second);
  }
  return true;
}

Error malformed(const char* packet, std::string_view why) {
  return rejected(fmt::format("malformed {} from the broker: {}", packet, why));
}

}  // namespace

Result<std::optional<FixedHeader>> read_fixed_header(std::string_view bytes) {
  FixedHeader header;
  if (bytes.size() < 2) return std::optional<FixedHeader>();
  header.first = static_cast<std::uint8_t>(bytes[0]);
  if ((header.first >> 4) == 0) return rejected("a packet of type 0 from the broker: not MQTT, or out of step");
  for (std::uint8_t i = 0; i < 4; ++i) {
    if (bytes.size() < 2u + i) return std::optional<FixedHeader>();
    auto byte = static_cast<std::uint8_t>(bytes[1u + i]);
    header.remaining |= std::uint32_t{byte & 127u} << (7 * i);
    if (byte < 128) {
      header.length = static_cast<std::uint8_t>(2 + i);
      return std::optional<FixedHeader>(header);
    }
  }
  return rejected("a packet with a length of more than four bytes from the broker: not MQTT, or out of step");
}

Result<std::optional<PublishAddress>> read_publish_address(const FixedHeader& header, std::string_view body) {
  if (header.qos() == 3) return malformed("PUBLISH", "QoS 3");
  Cursor cursor(body.substr(0, header.remaining));
  PublishAddress address;
  address.topic = cursor.text();
  if (header.qos() > 0) address.packet_id = cursor.u16();
  if (!cursor.ok()) {
    if (body.size() >= header.remaining) return malformed("PUBLISH", "its topic does not fit in it");
    return std::optional<PublishAddress>();
  }
  if (header.qos() > 0 && address.packet_id == 0) return malformed("PUBLISH", "packet id 0");
  address.length = 2 + address.topic.size() + (header.qos() > 0 ? 2 : 0);
  return std::optional<PublishAddress>(address);
}

Result<void> parse_publish(const FixedHeader& header, std::string_view body, Version version, Publish& publish) {
  publish.user_properties.clear();
  publish.content_type = {};
  publish.qos = header.qos();
  publish.duplicate = header.duplicate();
  publish.retained = header.retained();
  publish.packet_id = 0;
  if (publish.qos == 3) return malformed("PUBLISH", "QoS 3");

  Cursor cursor(body);
  publish.topic = cursor.text();
  if (publish.qos > 0) publish.packet_id = cursor.u16();
  if (!cursor.ok()) return malformed("PUBLISH", "its topic does not fit in it");
  if (publish.qos > 0 && publish.packet_id == 0) return malformed("PUBLISH", "packet id 0");
  if (version == Version::v5) {
    bool alias = false;
    bool read = read_properties(cursor, [&](std::uint32_t identifier, std::string_view value, std::string_view second) {
      if (identifier == kUserProperty) publish.user_properties.push_back({value, second});
      if (identifier == kContentType) publish.content_type = value;
      if (identifier == kTopicAlias) alias = true;
    });
    if (!read) return malformed("PUBLISH", "its properties cannot be read");
    // Our CONNECT allows no aliases, so the broker may not use any (3.3.2.3.4).
    if (alias) return malformed("PUBLISH", "a topic alias, although none are allowed");
  }
  if (publish.topic.empty()) return malformed("PUBLISH", "an empty topic");
  publish.payload = cursor.rest();
  return {};
}

Result<Connack> parse_connack(std::string_view body, Version version) {
  Connack connack;
  Cursor cursor(body);
  connack.session_present = (cursor.u8() & 1) != 0;
  connack.reason = cursor.u8();
  if (!cursor.ok()) return malformed("CONNACK", "too short");
  // A 5.0 client that meets an older broker gets an answer without properties.
  if (version == Version::v5 && !cursor.empty()) {
    bool read = read_properties(cursor, [&](std::uint32_t identifier, std::string_view value, std::string_view) {
      if (identifier == kServerKeepAlive) connack.keep_alive = Cursor(value).u16();
      if (identifier == kReasonString) connack.reason_string = value;
    });
    if (!read) return malformed("CONNACK", "its properties cannot be read");
  }
  return connack;
}

Result<Disconnect> parse_disconnect(std::string_view body) {
  Disconnect disconnect;
  if (body.empty()) return disconnect;
  Cursor cursor(body);
  disconnect.reason = cursor.u8();
  if (cursor.empty()) return disconnect;
  bool read = read_properties(cursor, [&](std::uint32_t identifier, std::string_view value, std::string_view) {
    if (identifier == kReasonString) disconnect.reason_string = value;
  });
  if (!read) return malformed("DISCONNECT", "its properties cannot be read");
  return disconnect;
}

Result<std::uint16_t> parse_packet_id(std::string_view body) {
  Cursor cursor(body);
  std::uint16_t packet_id = cursor.u16();
  if (!cursor.ok() || packet_id == 0) return malformed("acknowledgement", "no packet id");
  return packet_id;
}

std::string reason_in_words(std::uint8_t reason, Version version) {
  if (version == Version::v3_1_1 || (reason > 0 && reason < 6)) {  // MQTT 3.1.1, table 3.1
    switch (reason) {
      case 0: return "accepted";
      case 1: return "the broker does not speak this protocol version";
      case 2: return "client id not allowed";
      case 3: return "server unavailable";
      case 4: return "bad user name or password";
      case 5: return "not authorised";
      case 0x80: return "refused";
      default: return fmt::format("reason {}", reason);
    }
  }
  switch (reason) {  // MQTT 5.0, section 2.4
    case 0x00: return "success";
    case 0x04: return "disconnect with will";
    case 0x80: return "unspecified error";
    case 0x81: return "malformed packet";
    case 0x82: return "protocol error";
    case 0x83: return "implementation specific error";
    case 0x84: return "the broker does not speak this protocol version";
    case 0x85: return "client id not allowed";
    case 0x86: return "bad user name or password";
    case 0x87: return "not authorised";
    case 0x88: return "server unavailable";
    case 0x89: return "server busy";
    case 0x8A: return "banned";
    case 0x8B: return "server shutting down";
    case 0x8C: return "bad authentication method";
    case 0x8D: return "keep alive timeout";
    case 0x8E: return "session taken over: another client has the same client id";
    case 0x8F: return "topic filter invalid";
    case 0x90: return "topic name invalid";
    case 0x91: return "packet identifier in use";
    case 0x93: return "receive maximum exceeded";
    case 0x94: return "topic alias invalid";
    case 0x95: return "packet too large";
    case 0x96: return "message rate too high";
    case 0x97: return "quota exceeded";
    case 0x98: return "administrative action";
    case 0x99: return "payload format invalid";
    case 0x9A: return "retain not supported";
    case 0x9B: return "QoS not supported";
    case 0x9C: return "use another server";
    case 0x9D: return "server moved";
    case 0x9E: return "shared subscriptions not supported";
    case 0x9F: return "connection rate exceeded";
    case 0xA0: return "maximum connect time";
    case 0xA1: return "subscription identifiers not supported";
    case 0xA2: return "wildcard subscriptions not supported";
    default: return fmt::format("reason 0x{:02x}", reason);
  }
}

void append_acknowledgement(std::string& out, PacketType type, std::uint16_t packet_id) {
  // PUBREL's flags are 0010 (3.6.1), those of the others 0000.
  auto first = static_cast<unsigned>(type) << 4 | (type == PacketType::pubrel ? 2u : 0u);
  const char packet[] = {static_cast<char>(first), 2, static_cast<char>(packet_id >> 8),
                         static_cast<char>(packet_id & 255)};
  out.append(packet, sizeof packet);
}

void append_pingreq(std::string& out) { out.append("\xC0\x00", 2); }

void append_pingresp(std::string& out) { out.append("\xD0\x00", 2); }

}  // namespace penstock::mqtt
