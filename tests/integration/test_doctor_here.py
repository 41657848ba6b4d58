"""Findings of `doctor` about the settings, this machine, the registry and a broker that answers less than others: each
fault injected into the real client, with a server that has it where no service of the stack can be made to."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from confluent_kafka import Producer
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from consumer.observe import Health, Metrics, serve
from consumer.operations.doctor import Finding, examine, here, kafka
from consumer.operations.doctor.examine import Part
from consumer.settings import Settings

TOPIC = "shop.public.t"
NOWHERE = {"dsn": "postgresql://nobody@127.0.0.1:1/none"}


def found(look: Callable[[Settings], Iterator[Finding]], **sections: Any) -> dict[str, Finding]:
    """The findings of one part by check."""
    table = {"topic": TOPIC, "text": "{{ title }}"}
    settings = Settings.model_validate({"tables": [table], "store": NOWHERE, **sections})
    return {finding.check: finding for finding in examine(settings, [Part("asked", look)])}


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ([], "Add an entry to `tables`"),
        ([{"topic": TOPIC, "text": "{{ title"}], "text"),
        ([{"topic": TOPIC, "text": "x", "when": "{{ status =! 1 }}"}], "when"),
        ([{"topic": TOPIC, "text": "x", "columns": {"price": "nmeric"}}], "numeric"),
    ],
)
def test_settings_that_cannot_be_used(tables: list[dict[str, Any]], told: str) -> None:
    wrong = found(here.tables, tables=tables)["settings"]
    assert wrong.verdict == "fail"
    assert told in f"{wrong.what} {wrong.fix}", wrong
    assert wrong.fix
    assert found(here.tables)["settings"].verdict == "pass"


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """The URL of a server that says the same to everybody."""

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "told"),
    [(401, "registry.user"), (403, "registry.token"), (500, "registry.url"), (404, "registry.url")],
)
def test_a_registry_that_refuses_or_is_none(status: int, told: str) -> None:
    avro = [{"topic": TOPIC, "text": "x", "format": "avro"}]
    with answering(status, b"<html>no</html>") as url:
        refused = found(here.registry, tables=avro, registry={"url": url})["registry"]
    assert (refused.verdict, told in refused.fix) == ("fail", True), refused


def test_an_address_that_is_not_this_machines() -> None:
    wrong = found(here.port, http={"listen": "192.0.2.1:9464"})["http"]
    assert (wrong.verdict, "http.listen" in wrong.fix) == ("fail", True)


def test_a_consumer_that_is_not_ready() -> None:
    health = Health()
    with serve("127.0.0.1:0", Metrics(), health, clock=lambda: 0.0) as consumer:
        listen = {"listen": f"127.0.0.1:{consumer.port}"}
        waits = found(here.port, http=listen)["http"]
        assert (waits.verdict, "store: not yet" in waits.what, "log" in waits.fix) == ("warn", True, True)
        for name in ("assigned", "model", "store"):
            health.set_ready(name, True, "")
        assert found(here.port, http=listen)["http"].verdict == "pass"


class _Skewed(socketserver.BaseRequestHandler):
    """Passes everything on; in the answers each time of these years, in microseconds, is another one."""

    server: _Proxy

    def handle(self) -> None:
        with socket.create_connection(self.server.to) as there:
            threading.Thread(target=self._forward, args=(self.request, there, False), daemon=True).start()
            self._forward(there, self.request, True)

    def _forward(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(re.sub(rb"1[7-9]\d{14}", self._moved, data) if answers else data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other side has gone

    def _moved(self, found: re.Match[bytes]) -> bytes:
        return b"%d" % (int(found[0]) + self.server.ahead_us)


class _Proxy(socketserver.ThreadingTCPServer):
    daemon_threads = True
    to: tuple[str, int]
    ahead_us: int


@contextmanager
def clock_ahead(dsn: str, seconds: float) -> Iterator[str]:
    """The DSN of the same server, with a clock that is so many seconds ahead."""
    parts = conninfo_to_dict(dsn)
    with _Proxy(("127.0.0.1", 0), _Skewed) as proxy:
        proxy.to, proxy.ahead_us = (str(parts["host"]), int(str(parts["port"]))), int(seconds * 1e6)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield make_conninfo(dsn, port=proxy.server_address[1])
        proxy.shutdown()


@pytest.mark.parametrize(("ahead", "verdict"), [(-40.0, "fail"), (40.0, "fail"), (-10.0, "warn"), (10.0, "warn")])
def test_clocks_that_differ(server: str, ahead: float, verdict: str) -> None:
    with clock_ahead(server, ahead) as dsn:
        store = found(here.store_clock, store={"dsn": dsn})["clock of the store"]
        source = found(here.source_clock, source={"dsn": dsn})["clock of the source"]
    for finding in (store, source):
        assert (finding.verdict, "NTP" in finding.fix) == (verdict, True), finding
        assert ("ahead of" in finding.what) is (ahead > 0)


def test_a_broker_that_tells_neither_groups_nor_settings() -> None:
    """The client's own mock broker: as one whose ACLs hide them."""
    producer = Producer({"bootstrap.servers": "ignored", "test.mock.num.brokers": 1, "log_level": 0})
    (broker,) = producer.list_topics(timeout=30).brokers.values()
    producer.produce(TOPIC, b"x")
    assert producer.flush(30) == 0
    blind = found(kafka.look, kafka={"bootstrap_servers": f"{broker.host}:{broker.port}"})
    assert (blind["group"].verdict, bool(blind["group"].fix)) == ("fail", True)
    assert (blind[f"topic {TOPIC}"].verdict, "DescribeConfigs" in blind[f"topic {TOPIC}"].fix) == ("warn", True)
    assert (blind["heartbeat shop"].verdict, "heartbeat.action.query" in blind["heartbeat shop"].fix) == ("fail", True)
