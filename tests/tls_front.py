"""TLS before a Postgres that has none: answers the client's request for it, then passes on what was said inside."""

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

WISH = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")  # for TLS, from Postgres' protocol
_GSS = (80877104).to_bytes(4, "big")


class TlsFront:
    """Listens on `self.port` of loopback for the server at `port`. `heard` is what clients said outside of TLS."""

    def __init__(self, port: int, certificate: Path) -> None:
        self.heard = b""
        self._behind = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(30)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        server = None
        try:
            while (asked := await reader.readexactly(8))[4:] == _GSS:
                client.write(b"N")
            self.heard += asked
            if asked != WISH:
                return  # it would speak in the clear
            client.write(b"S")
            await client.start_tls(self._context)
            answers, server = await asyncio.open_connection("127.0.0.1", self._behind)
            await asyncio.gather(_pump(reader, server), _pump(answers, client))
        except (OSError, asyncio.IncompleteReadError):
            pass  # one side has gone, or does not trust us
        finally:
            for end in (client, server):
                if end is not None:
                    end.close()

    async def _close(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
    with suppress(OSError, NotImplementedError):
        sink.close()
