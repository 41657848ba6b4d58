"""A schema registry in memory speaking the Confluent API over HTTP, with credentials, TLS and faults at will."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class StandInRegistry:
    """`authorization` is the header it demands; `certificate` makes it https, `client_authority` asks clients for one.

    `fault` (status, headers, body), while set, is its answer to everything. `asked` are the paths of all requests.
    """

    def __init__(
        self, *, authorization: str = "", certificate: Path | None = None, client_authority: Path | None = None
    ) -> None:
        self.asked: list[str] = []
        self.credentials: list[str | None] = []
        self.fault: tuple[int, Mapping[str, str], bytes] | None = None
        self._authorization, self._schemas, self._subjects = authorization, dict[int, Any](), dict[str, list[Any]]()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            if client_authority:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(client_authority)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if certificate else 'http'}://localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def register(
        self, subject: str, schema: str, references: Sequence[Mapping[str, Any]] = (), kind: str = "AVRO"
    ) -> int:
        """Store a schema as the next version of `subject`; its id."""
        stored = {"schema": schema, "references": list(references), **({"schemaType": kind} if kind != "AVRO" else {})}
        self._schemas[number := len(self._schemas) + 1] = stored
        self._subjects.setdefault(subject, []).append(stored)
        return number

    def _answer(self, path: str) -> tuple[int, Any]:
        if found := re.fullmatch(r"/schemas/ids/(\d+)", path):
            schema = self._schemas.get(int(found[1]))
            return (200, schema) if schema else (404, {"error_code": 40403, "message": "Schema not found"})
        if found := re.fullmatch(r"/subjects/([^/]+)/versions/(\d+)(\?.*)?", path):
            versions = self._subjects.get(found[1], [])
            if int(found[2]) <= len(versions):
                return 200, versions[int(found[2]) - 1]
            return 404, {"error_code": 40402, "message": "Version not found"}
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.asked.append(self.path)
                registry.credentials.append(self.headers["Authorization"])
                if registry.fault:
                    status, headers, body = registry.fault
                elif registry._authorization not in ("", self.headers["Authorization"]):
                    status, headers, body = 401, {}, b'{"error_code": 401}'
                else:
                    status, answer = registry._answer(self.path)
                    headers, body = {}, json.dumps(answer).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        return Handler
