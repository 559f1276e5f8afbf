"""What the brokers of the rig are told: their properties, and for the listeners with TLS certificates and a password."""
import random
import subprocess
import sys

SECURED = ("ssl", "mtls", "sasl")


def properties(directory, node, nodes, more, zookeeper=None):
    copies = len(nodes)
    secured = [name for name in SECURED if name in node]
    return "\n".join(f"{key}={value}" for key, value in {
        **(zookeeper_properties(node, zookeeper) if zookeeper else quorum_properties(node, nodes)),
        "listeners": ",".join(f"{name.upper()}://127.0.0.1:{node[name]}" for name in ("client", "internal", "controller", *secured) if name in node),
        "advertised.listeners": ",".join([f"CLIENT://127.0.0.1:{node.get('relay', node['client'])}", f"INTERNAL://127.0.0.1:{node['internal']}",
                                          *(f"{name.upper()}://localhost:{node[name]}" for name in secured)]),
        "listener.security.protocol.map": "CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,MTLS:SSL,SASL:SASL_SSL",
        "inter.broker.listener.name": "INTERNAL",
        "log.dirs": directory / f"broker-{node['id']}" / "data",
        "num.partitions": 1,
        "default.replication.factor": copies,
        "min.insync.replicas": min(2, copies),
        "offsets.topic.num.partitions": 1,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.num.partitions": 2,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": min(2, copies),
        "transaction.max.timeout.ms": 900000,
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
        "group.initial.rebalance.delay.ms": 0,
        "unclean.leader.election.enable": "false",
        "auto.create.topics.enable": "true",
        "num.network.threads": 2,
        "num.io.threads": 2,
        "background.threads": 2,
        "log.cleaner.dedupe.buffer.size": 4 << 20,
        **(secured_properties(directory / "tls") if secured else {}),
        **more,
    }.items()) + "\n"


def quorum_properties(node, nodes):
    return {
        "process.roles": "broker,controller",
        "node.id": node["id"],
        "controller.quorum.voters": ",".join(f"{other['id']}@127.0.0.1:{other['controller']}" for other in nodes),
        "controller.listener.names": "CONTROLLER",
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        "controller.quorum.election.timeout.ms": 500,
        "controller.quorum.fetch.timeout.ms": 1500,
        "initial.broker.registration.timeout.ms": 120000,
    }


def zookeeper_properties(node, port):
    return {
        "broker.id": node["id"],
        "zookeeper.connect": f"127.0.0.1:{port}",
        "zookeeper.connection.timeout.ms": 60000,  # it starts at the same time
        "zookeeper.session.timeout.ms": 3000,  # a broker that was killed cannot come back before that
    }


def secured_properties(tls):
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": tls / "broker.pem",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": tls / "ca.pem",
        "listener.name.mtls.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "SCRAM-SHA-256,PLAIN",
        "listener.name.sasl.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule required "
                                                     f'user_agent="{(tls / "password").read_text()}";',
        "listener.name.sasl.scram-sha-256.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",  # the brokers themselves, and who comes without a name
    }


def openssl(tls, *words, text=""):
    done = subprocess.run(["openssl", *words], cwd=tls, input=text, capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        sys.exit(f"rig: openssl {' '.join(words)}: {done.stderr}")


def make_certificates(tls):
    """An authority, and what it vouches for: the brokers (as localhost, by name only) and the client `agent`. And another
    authority that vouches for nobody here. A password for SASL."""
    tls.mkdir(exist_ok=True)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for name in ("ca", "other-ca"):
        openssl(tls, "req", "-x509", *key, "-days", "7", "-subj", f"/CN=penstock test {name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    for name, subject, more in (("broker", "localhost", "subjectAltName=DNS:localhost\n"), ("agent", "agent", "")):
        openssl(tls, "req", "-new", *key, "-subj", f"/CN={subject}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl(tls, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "7",
                "-extfile", "/dev/stdin", "-out", f"{name}.crt", text="basicConstraints=critical,CA:FALSE\n" + more)
    (tls / "broker.pem").write_text((tls / "broker.key").read_text() + (tls / "broker.crt").read_text())
    (tls / "password").write_text("%032x" % random.getrandbits(128))
