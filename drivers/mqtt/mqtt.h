// The mqtt driver: subscribes at a broker and puts every message into the queue, acknowledged only when it is on disk.
//
// Session (Paho) and Gate share the work: drivers/mqtt/gate.h says how. A record's stream comes from the topic, its
// payload is the message's, untouched; content type and user properties of MQTT 5 become content type and headers.
//
// Threads: run() in the supervisor's thread, one more for the Gate, Paho's own. A crash loses nothing that was
// acknowledged; the broker sends again what was not, so that a message may come twice (QoS 1), each a record of its
// own.
#pragma once

#include <memory>
#include <string>

#include "config/settings.h"
#include "drivers/driver.h"
#include "drivers/mqtt/settings.h"
#include "drivers/table.h"

namespace penstock {

/// `settings` are as the key table lets them pass; `client_id` may not be empty.
std::unique_ptr<Driver> make_mqtt_driver(std::string name, MqttSettings settings, OnBusy on_busy);

DriverType mqtt_driver();

}  // namespace penstock
