"""A broker that demands TLS and a login: the properties of the settings reach it, and nothing goes on without them."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka import Consumer, KafkaError

from consumer.errors import Exit, Retry, Stop
from consumer.local import ports
from consumer.local.artifacts import default_cache, ensure
from consumer.local.java import LOCALE, LOG4J2, Java, properties
from consumer.local.versions import KAFKA_SETTINGS
from consumer.source import Broker
from consumer.source.client import fault_of
from tests.stacks import local_only

pytestmark = [pytest.mark.stack, local_only]

CERTIFICATES = Path(__file__).parents[1] / "contract" / "certificates"
PASSWORD = "canary-of-the-broker"
LOGIN = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "bob", "sasl.password": PASSWORD}
TRUST = {"ssl.ca.location": str(CERTIFICATES / "authority.pem")}


class Ports(NamedTuple):
    """`secure` demands TLS and a login, `plain` neither."""

    secure: int
    plain: int


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    folder = tmp_path_factory.mktemp("secure")
    secure, plain, controller = ports.choose(("kafka", "connect", "controller"), {}, {}, set()).values()
    config, logging = folder / "kafka.properties", folder / "log4j2.properties"
    logging.write_text(LOG4J2)
    config.write_text(_config(folder / "data", secure, plain, controller))
    java = Java(ensure(default_cache(), lambda *_: None, avro=False, mariadb=False).classpath, logging)
    with (folder / "log").open("wb") as log:
        form = [*java.command("kafka.tools.StorageTool", heap_mib=128), "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ"]
        subprocess.run([*form, "-c", config], env=LOCALE, stdout=log, stderr=log, check=True)
        process = subprocess.Popen(
            [*java.command("kafka.Kafka", heap_mib=256), config], env=LOCALE, stdout=log, stderr=log
        )
        try:
            deadline = time.monotonic() + 120
            while not (ports.listening(secure) and ports.listening(plain)):
                assert process.poll() is None, (folder / "log").read_text()[-3000:]
                assert time.monotonic() < deadline, (folder / "log").read_text()[-3000:]
                time.sleep(0.1)
            yield Ports(secure, plain)
        finally:
            process.kill()
            process.wait()


def _config(data: Path, secure: int, plain: int, controller: int) -> str:
    return properties(
        KAFKA_SETTINGS
        | {
            "log.dirs": str(data),
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"SECURE://localhost:{secure},BROKER://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"SECURE://localhost:{secure},BROKER://127.0.0.1:{plain}",
            "listener.security.protocol.map": "SECURE:SASL_SSL,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(CERTIFICATES / "server.pem"),
            "listener.name.secure.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule "
            f'required user_bob="{PASSWORD}";',
        }
    )


def reached(servers: str, given: Mapping[str, str]) -> str:
    """How a group member with these properties fares: "reached", or the fault that its first error is."""
    faults: list[Retry | Stop] = []

    def heard(error: KafkaError) -> None:
        faults.append(fault_of(error, servers))

    broker = Broker(servers, given)
    member = Consumer(broker.consumer_config("secure", heard))
    try:
        broker.check()
        return "reached"
    except Retry:
        deadline = time.monotonic() + 60
        while not faults and time.monotonic() < deadline:
            member.poll(0.1)
        stops = [fault for fault in faults if isinstance(fault, Stop)]
        assert all(stop.exit_code is Exit.UNREACHABLE for stop in stops)
        told = " ".join(map(str, faults))
        assert PASSWORD not in told
        return "refused" if stops else "waits" if faults else "silent"
    finally:
        member.close()


@pytest.mark.semantics(
    "faults", "Kafka over TLS and SASL", "properties pass to the client; without trust or login nothing is read or sent"
)
def test_login_and_trust_pass_through_and_nothing_goes_on_without_them(broker: Ports) -> None:
    secure, plain = f"localhost:{broker.secure}", f"127.0.0.1:{broker.plain}"
    cases: dict[str, tuple[str, Mapping[str, str], set[str]]] = {
        "as it should be": (secure, LOGIN | TRUST, {"reached"}),
        "no TLS on either side": (plain, {}, {"reached"}),
        "a password that is wrong": (secure, LOGIN | TRUST | {"sasl.password": "wrong"}, {"refused"}),
        "another authority": (secure, LOGIN | {"ssl.ca.location": str(CERTIFICATES / "stranger.pem")}, {"waits"}),
        "another name": (f"127.0.0.1:{broker.secure}", LOGIN | TRUST, {"waits"}),
        "a broker that offers no TLS": (plain, LOGIN | TRUST, {"waits", "silent"}),
        "a client without TLS": (secure, {}, {"waits", "silent"}),
        "a client without a login": (secure, {"security.protocol": "SSL", **TRUST}, {"waits", "silent"}),
    }
    with ThreadPoolExecutor(len(cases)) as pool:
        found = {name: pool.submit(reached, where, given) for name, (where, given, _) in cases.items()}
        fared = {name: future.result() for name, future in found.items()}
    assert [(name, how) for name, how in fared.items() if how not in cases[name][2]] == []


def test_no_password_is_sent_to_who_does_not_speak_tls() -> None:
    """All that a listener hears of a client that was told to use TLS is the beginning of TLS."""
    heard = b""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            nonlocal heard
            connection, _ = listener.accept()
            with connection:
                heard = connection.recv(65536)
                connection.sendall(b"\x00" * 16)

        listening = threading.Thread(target=listen, daemon=True)
        listening.start()
        with pytest.raises(Retry):
            Broker(f"127.0.0.1:{listener.getsockname()[1]}", LOGIN | TRUST).check()
        listening.join(60)
    assert heard[:2] == b"\x16\x03", "no TLS handshake"
    assert PASSWORD.encode() not in heard
    assert b"bob" not in heard
