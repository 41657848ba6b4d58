"""The HTTP side: `/metrics`, `/healthz`, `/readyz`, on a small threaded server of the standard library.

Other rooms may add routes; everything else is answered 404 in JSON. Requests are not logged.
"""

from __future__ import annotations

import errno
import json
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import MappingProxyType
from typing import Any

from prometheus_client.exposition import choose_encoder

from consumer.errors import Exit, Stop
from consumer.observe.catalogue import Metrics
from consumer.observe.exposition import Exposition
from consumer.observe.health import Health, Report
from consumer.observe.logging import error_text, get_logger

_PORTS_TRIED = 100
_JSON = "application/json; charset=utf-8"
_log = get_logger("observe")


@dataclass(frozen=True)
class Response:
    """What a route answers."""

    status: int
    content_type: str
    body: bytes


Route = Callable[[str], Response]
"""Takes the request's Accept header."""


def json_response(status: int, body: Mapping[str, object]) -> Response:
    """A JSON answer, ended by a newline for the terminal."""
    return Response(status, _JSON, (json.dumps(body) + "\n").encode())


def observe_routes(metrics: Metrics, health: Health, clock: Callable[[], float]) -> dict[str, Route]:
    """The three routes of the contract. `clock` is the one whose times `health` is fed with."""

    exposition = Exposition(metrics.registry)

    def metrics_page(accept: str) -> Response:
        _, content_type = choose_encoder(accept)
        openmetrics = content_type.startswith("application/openmetrics-text")
        return Response(HTTPStatus.OK, content_type, exposition.page(openmetrics=openmetrics))

    def answer(report: Report) -> Response:
        return json_response(HTTPStatus.OK if report.ok else HTTPStatus.SERVICE_UNAVAILABLE, report.body())

    return {
        "/metrics": metrics_page,
        "/healthz": lambda _: answer(health.live(clock())),
        "/readyz": lambda _: answer(health.ready(clock())),
    }


class HttpServer:
    """Serves routes from its own thread until `close`; a context manager.

    `moved`: the wanted port was taken, `url` has another.
    """

    def __init__(self, listen: str, routes: Mapping[str, Route]) -> None:
        """Bind `listen` (`host:port`) and start. A taken port: the next free one. Stop: the address cannot be used."""
        host, port = _split(listen)
        self._server = _bind(host, port, routes)
        self.host, self.port = host, int(self._server.server_address[1])
        self._thread = Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="http", daemon=True
        )
        self._thread.start()
        self.moved = port not in (0, self.port)

    @property
    def url(self) -> str:
        """`http://host:port`, with the port that was really bound."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    def check(self) -> None:
        """Raise Stop if the serving thread has died: a process that nobody can ask how it is must not go on."""
        if not self._thread.is_alive():
            raise Stop(
                f"Nothing answers at {self.url} any more.",
                "The thread that served metrics and health has died.",
                "Start the process again; the lines above may say why.",
                exit_code=Exit.FAILED,
            )

    def close(self) -> None:
        """Stop serving and free the port; safe to call twice."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> HttpServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(listen: str, metrics: Metrics, health: Health, clock: Callable[[], float] = time.monotonic) -> HttpServer:
    """Start `/metrics`, `/healthz` and `/readyz` on `listen`; `clock` is the one `health` is fed with."""
    return HttpServer(listen, observe_routes(metrics, health, clock))


def _split(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise Stop(
            f"The address to listen on, {listen!r}, is not host:port.",
            "A port is a number from 0 to 65535.",
            "Set http.listen, for example to 127.0.0.1:9464.",
            exit_code=Exit.USAGE,
        )
    return host.strip("[]") or "127.0.0.1", int(port)


def _bind(host: str, port: int, routes: Mapping[str, Route]) -> _Server:
    last = port if port == 0 else min(port + _PORTS_TRIED, 65535)
    for candidate in range(port, last + 1):
        try:
            return _Server(host, candidate, routes)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and candidate < last:
                continue
            raise Stop(
                f"The HTTP server cannot listen on {host}:{candidate}.",
                f"The system says: {error.strerror or error_text(error)}.",
                "Set http.listen to an address of this machine and a free port.",
                exit_code=Exit.USAGE,
            ) from error
    raise AssertionError("the range of ports is never empty")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, routes: Mapping[str, Route]) -> None:
        self.routes = dict(routes)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind without HTTPServer's look-up of the host's full name, which can block on DNS for seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "embed-consumer", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news, and a traceback on stderr never is."""
        _log.debug("an HTTP request failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "embed-consumer"
    sys_version = ""
    timeout = 10  # seconds for a client to send its request

    def do_GET(self) -> None:
        """Answer a GET, and a HEAD without its body; `Server-Timing` says what the page took of the processor."""
        begun = time.thread_time()
        route = self.server.routes.get(self.path.partition("?")[0])
        if route is None:
            known = sorted(self.server.routes)
            self._send(json_response(HTTPStatus.NOT_FOUND, {"error": "no such page", "pages": known}))
            return
        try:
            response = route(self.headers.get("Accept", ""))
        except Exception:
            _log.error("a page could not be made", page=self.path.partition("?")[0], exc_info=True)
            response = json_response(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "the page could not be made"})
        self._send(response, {"Server-Timing": f"cpu;dur={(time.thread_time() - begun) * 1000:.3f}"})

    do_HEAD = do_GET

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Errors of the protocol itself (a method we do not serve, a broken request), in JSON."""
        self._send(json_response(code, {"error": message or HTTPStatus(code).phrase}))

    def _send(self, response: Response, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""
