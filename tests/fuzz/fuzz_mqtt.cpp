// MQTT from the broker's side: the stream of packets as the gate cuts it, every parser on every packet.
//
// The first byte picks the version. Claims beside "does not crash": what is read lies within the packet, and the address
// of a PUBLISH read early is the one that the whole packet has.
#include <cstdint>
#include <cstdlib>

#include "drivers/mqtt/packet.h"

namespace {

using namespace penstock;

void demand(bool holds) {
  if (!holds) std::abort();
}

bool within(std::string_view part, std::string_view whole) {
  return part.empty() || (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  auto version = (data[0] & 1) != 0 ? mqtt::Version::v5 : mqtt::Version::v3_1_1;
  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  mqtt::Publish publish;
  while (true) {
    auto header = mqtt::read_fixed_header(rest);
    if (!header.ok() || !*header) return 0;
    const mqtt::FixedHeader& packet = **header;
    std::string_view body = rest.substr(packet.length, packet.remaining);
    bool whole = body.size() == packet.remaining;
    if (packet.type() == mqtt::PacketType::publish) {
      auto address = mqtt::read_publish_address(packet, body);
      if (address.ok() && *address) {
        demand(within((*address)->topic, body));
        demand((*address)->length <= body.size());
      }
      if (whole && mqtt::parse_publish(packet, body, version, publish).ok()) {
        demand(address.ok() && *address);
        demand((*address)->topic == publish.topic && (*address)->packet_id == publish.packet_id);
        demand(within(publish.payload, body) && within(publish.content_type, body) && !publish.topic.empty());
        demand((publish.qos == 0) == (publish.packet_id == 0));
        for (const auto& each : publish.user_properties) demand(within(each.name, body) && within(each.value, body));
      }
    }
    if (auto connack = mqtt::parse_connack(body, version); connack.ok()) {
      demand(within(connack->reason_string, body));
      demand(!mqtt::reason_in_words(connack->reason, version).empty());
    }
    if (auto disconnect = mqtt::parse_disconnect(body); disconnect.ok()) {
      demand(within(disconnect->reason_string, body));
      demand(!mqtt::reason_in_words(disconnect->reason, version).empty());
    }
    (void)mqtt::parse_packet_id(body).ok();
    if (!whole) return 0;
    rest.remove_prefix(packet.size());
  }
}
