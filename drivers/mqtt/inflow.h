// Inflow: what lies between the broker's PUBLISH and our acknowledgement of it.
//
// take() turns PUBLISH packets into records, submit() hands all that were taken since to the Outlet as one group, and
// release() gives the acknowledgements whose records are on disk, in the order the messages came (MQTT-4.6.0-2).
// While the Outlet is full, groups wait here; thirsty() says whether more may be read. QoS 1 is never dropped.
//
// Threads: the gate's only. A crash loses what is in here; none of it was acknowledged, so the broker sends it again.
//
// QoS 2 will need its packet ids in a StateChange of the same group; until then a QoS 2 message of an old session is
// taken like QoS 1: at least once.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "drivers/driver.h"
#include "drivers/mqtt/packet.h"

namespace penstock::mqtt {

struct InflowSettings {
  Version version = Version::v5;
  std::string stream = "{topic}";        // template of a record's stream
  bool keep_retained = true;             // false: what the broker replays at subscription is not recorded
  bool drop_qos0_when_busy = false;      // on_busy = "drop"
  std::size_t waiting_messages = 5'000;  // the most that wait for room in the Outlet
  std::size_t waiting_bytes = 4 << 20;   // the same in bytes, and one read
  std::size_t unacknowledged = 65'535;   // the most without acknowledgement: there are no more packet ids
};

class Inflow {
 public:
  Inflow(InflowSettings settings, Outlet& outlet);
  Inflow(const Inflow&) = delete;
  Inflow& operator=(const Inflow&) = delete;

  /// One PUBLISH, whole. `rejected`: malformed, the connection has to end.
  Result<void> take(const FixedHeader& header, std::string_view body);
  /// One PUBLISH of which only the address was kept, because it is too large to be a record.
  void take_too_large(std::uint8_t qos, std::uint16_t packet_id);
  /// A PUBREL: answered by release().
  void take_pubrel(std::uint16_t packet_id);

  /// Hands to the Outlet what was taken, and what waits, as far as there is room. An error (`transient`, `broken`)
  /// means that the Outlet takes nothing any more.
  Result<void> submit();
  /// Appends the acknowledgements that may leave now; gives their number.
  std::size_t release(std::string& out);

  /// More may be read from the broker.
  bool thirsty() const;
  /// Something waits for room in the Outlet.
  bool waiting() const { return !waiting_.empty() || dropped_ > 0; }
  /// Nothing waits, neither for room nor for the disk.
  bool idle() const { return waiting_.empty() && unacknowledged_.empty() && taken_.messages.empty(); }

  /// The messages that would be lost if all ended now: QoS 0 that the Outlet has not taken. Nobody sends them again.
  std::uint64_t left_behind() const;

  /// The connection has ended: its acknowledgements are forgotten, and what waits with QoS 1, for the broker will send
  /// it again. QoS 0 that waits is kept: nobody sends it again.
  void forget_connection();

 private:
  // What the Outlet still has to be given for a message: the next of its batch's records, a refusal, or nothing.
  enum class Owes : std::uint8_t { record, refusal, nothing };
  struct Message {
    std::uint16_t packet_id;
    std::uint8_t qos;
    Owes owes;
  };
  struct Batch {
    std::vector<Record> records;
    std::vector<Message> messages;  // in order of arrival
    std::size_t bytes = 0;
    bool refusals = false;  // some message owes one
    Ticket ticket = 0;      // of its last part that was taken
  };
  struct Unacknowledged {
    Ticket ticket;
    std::uint16_t packet_id;
    PacketType answer;
  };

  void fill_record(Record& record) const;
  static std::optional<std::uint64_t> sent_once(const Batch& batch);
  /// True when all of it was taken.
  Result<bool> submit(Batch& batch);
  Result<bool> submit_one_by_one(Batch& batch);
  static void append(Batch& to, Batch from);
  /// Takes out the messages of which `leave` is true; gives their number.
  template <class Leave>
  static std::uint64_t take_out(Batch& batch, Leave leave);
  void expect_acknowledgements(const Batch& batch);
  Result<void> tell_dropped();
  void weigh_waiting();

  const InflowSettings settings_;
  std::vector<std::string> stream_parts_;  // of the template: what stands before, between and after the topics
  Outlet& outlet_;
  const std::size_t max_record_bytes_;
  Publish publish_;
  std::vector<StateChange> no_changes_;
  Batch taken_;
  std::deque<Batch> waiting_;
  std::size_t waiting_messages_ = 0;
  std::size_t waiting_bytes_ = 0;
  std::uint64_t dropped_ = 0;  // QoS 0 given up and not yet told
  std::deque<Unacknowledged> unacknowledged_;
};

}  // namespace penstock::mqtt
