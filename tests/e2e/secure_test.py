#!/usr/bin/env python3
"""Kafka behind TLS, client certificates and SASL: what is right delivers; what is wrong says so, keeps its queue, and tells no secret.

  secure_test.py [--kafka 3.9|4]

All agents of the test run side by side on one cluster. SCRAM wants Kafka 3.9 here: librdkafka before 2.6.1 (Debian 12) cannot
authenticate by SCRAM at Kafka 4 (see docs/operations.md), so there it is left out.
"""
import argparse
import re

from harness import Kafka, expect, need, run, stage, wait_until, wire
from rows import prove, start_agent


class Case:
    """One agent, with what it was given to authenticate itself."""

    def __init__(self, kafka, folder, parts, name, listener, **properties):
        self.name = name
        self.topic = f"secure.{name}"
        for user in ("agent", "CN=agent"):
            wire.allow(kafka.ports[1], user, "transactional-id", f"penstock-{name}")
        self.penstock, self.rows = start_agent(kafka, folder, parts, name, self.topic, listener, broker_address_family='"v4"', **properties)
        self.rows.give(300)

    def kafka_status(self):
        return (self.penstock.status() or {"kafka": {}})["kafka"]


def test(arguments):
    with stage() as (folder, parts):
        kafka = Kafka(folder, version=arguments.kafka, secure=True)
        parts.append(kafka)
        kafka.start()
        for user in ("agent", "CN=agent"):
            for prefix in ("secure.", "penstock."):
                wire.allow(kafka.ports[1], user, "topic", prefix, prefix=True)
        tls = kafka.folder / "tls"
        password = (tls / "password").read_text()
        (folder / "wrong").write_text("this-is-not-the-password")

        def case(name, listener, **properties):
            return Case(kafka, folder, parts, name, listener, **properties)
        kafka.listeners["other name"] = kafka.listeners["ssl"].replace("localhost", "127.0.0.1")
        ca = {"security_protocol": '"ssl"', "ssl_ca_location": f'"{tls}/ca.pem"'}
        other_ca = {**ca, "ssl_ca_location": f'"{tls}/other-ca.pem"'}
        certificate = {**ca, "ssl_certificate_location": f'"{tls}/agent.crt"', "ssl_key_location": f'"{tls}/agent.key"'}

        def sasl(mechanism, file):
            return {**ca, "security_protocol": '"sasl_ssl"', "sasl_mechanism": f'"{mechanism}"', "sasl_username": '"agent"',
                    "sasl_password": f'{{ file = "{file}" }}'}
        mechanisms = ["PLAIN", "SCRAM-SHA-256"] if arguments.kafka == "3.9" else ["PLAIN"]
        right = [case("tls", "ssl", **ca), case("certificate", "mtls", **certificate)]
        right += [case(mechanism.lower(), "sasl", **sasl(mechanism, tls / "password")) for mechanism in mechanisms]
        # What is wrong, and the words for it.
        wrong = [(case("wrong-ca", "ssl", **other_ca), "certificate verify failed"),
                 (case("wrong-host-name", "other name", **ca), "certificate verify failed"),
                 (case("no-certificate", "mtls", **ca), "certificate required|bad certificate|handshake|[Dd]isconnected"),
                 (case("wrong-password", "sasl", **sasl(mechanisms[-1], folder / "wrong")), "[Aa]uthentication")]

        for one in right:
            one.rows.wait_drained()
            prove(kafka, one.penstock, one.rows, one.topic)
        for one, words in wrong:
            wait_until(lambda: re.search(words, one.kafka_status().get("error", "")),
                       lambda: f"{one.name}: \"{words}\" in the status: {one.kafka_status()}", 60)
            told = [line for line in one.penstock.call("status", "-c", str(one.penstock.config)).stdout.splitlines() if line.startswith("kafka")]
            expect(len(told) == 1 and re.search(words, told[0]) is not None, f"{one.name}: one clear line: {told[0]}")
            lane = one.penstock.status()["lanes"][0]
            expect(lane["delivered"] == 0 and lane["backlog_records"] >= 300, f"{one.name}: the queue keeps all of {lane['last']}")

        # What was wrong is put right: the agent goes on with the queue it has.
        mended = wrong[-1][0]
        expect(mended.penstock.terminate() == 0, "penstock ends with 0 after SIGTERM")
        (folder / "wrong").write_text(password)
        mended.penstock.start()
        mended.rows.wait_drained()
        prove(kafka, mended.penstock, mended.rows, mended.topic)

        key = (tls / "agent.key").read_text().splitlines()[1]
        for penstock in [one.penstock for one in right + [one for one, _ in wrong]]:
            seen = penstock.output()
            if penstock.alive():
                seen += "".join(penstock.call("status", *words, "-c", str(penstock.config)).stdout for words in ((), ("--json",)))
            expect(not any(secret in seen for secret in (password, "this-is-not-the-password", key)), "no secret in log and status")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka", default="3.9", choices=["4", "3.9"])
    given = parser.parse_args()
    need("kcat", "java", "openssl")
    run(lambda: test(given))
