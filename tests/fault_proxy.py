"""A TCP proxy that does to connections what networks do, when a test asks for it. Bytes pass as they are, TLS too."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

Fault = Literal["cut", "reset", "half-close", "black hole", "delay", "orphan"]
Way = Literal["request", "reply"]


@dataclass(eq=False)
class _Link:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    deaf: bool = False  # takes bytes, and passes none on, for ever
    mute: bool = False  # the client has been told that no answer will come


@dataclass
class _Strike:
    fault: Fault
    way: Way
    holding: bytes
    left: int
    then: Callable[[], None]


class FaultProxy:
    """Forwards `self.port` of loopback to `host:port`.

    `strike` hits the connections that pass on bytes next: `cut` (FIN both ways), `reset` (RST both ways), `half-close`
    (the client hears FIN, what it sends still arrives), `black hole` (open, but passing nothing on for ever), `delay`
    (`seconds` late), `orphan` (the client is cut off, the server hears nothing of it). `refusing`: no new ones.
    `kafka`: clients are told that the broker is here, whatever it advertises.
    """

    def __init__(self, host: str, port: int, *, kafka: bool = False, seconds: float = 1.0) -> None:
        self.struck = self.accepted = 0
        self.refusing = False
        self._to, self._kafka, self._seconds = (host, port), kafka, seconds
        self._strike: _Strike | None = None
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every connection, and the proxy."""
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def strike(
        self,
        fault: Fault,
        way: Way = "request",
        *,
        holding: bytes = b"",
        times: int = 1,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Hit the next `times` pieces of traffic that go that way and hold these bytes; they do not arrive (but for
        `delay`). `then` is called at each, before the client can know."""
        self._strike = _Strike(fault, way, holding, times, then)

    @property
    def armed(self) -> bool:
        """Whether a strike has still to fall."""
        return self._strike is not None

    def behind(self, ports: Collection[int]) -> set[int]:
        """The ports from which the server hears clients that connect to the proxy from these."""
        links = [link for link in tuple(self._links) if not link.deaf]
        return {_port(link.server, "sockname") for link in links if _port(link.client, "peername") in ports}

    def hang_up(self) -> None:
        """Reset every connection there is."""
        self._do(self._hang_up())

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = None
        try:
            if self.refusing:
                return
            answers, server = await asyncio.open_connection(*self._to)
            self._links.add(link := _Link(client, server))
            ways: tuple[tuple[asyncio.StreamReader, asyncio.StreamWriter, Way], ...]
            ways = ((reader, server, "request"), (answers, client, "reply"))
            await asyncio.gather(*(self._pump(link, *way) for way in ways))
        except (OSError, asyncio.CancelledError):
            pass  # the other side is not there or has gone, or the proxy ends
        finally:
            _shut(client)
            if link is not None:
                self._links.discard(link)
                _shut(link.server)

    async def _pump(self, link: _Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: Way) -> None:
        try:
            async for piece in self._pieces(source, way):
                if await self._passes(link, piece, way):
                    sink.write(piece)
                    await sink.drain()
            if not (link.deaf or (link.mute and way == "reply")):
                sink.write_eof()
        except OSError:
            if not link.deaf:  # else the other side is not to hear of it
                raise

    async def _pieces(self, source: asyncio.StreamReader, way: Way) -> AsyncIterator[bytes]:
        """The bytes as they come; a broker's answers whole, with its address replaced by ours (of equal length)."""
        while not (self._kafka and way == "reply"):
            if not (data := await source.read(65536)):
                return
            yield data
        host = self._to[0].encode()
        theirs, ours = (host + struct.pack(">i", port) for port in (self._to[1], self.port))
        with suppress(asyncio.IncompleteReadError):  # the end
            while True:
                size = await source.readexactly(4)
                body = await source.readexactly(int.from_bytes(size, "big"))
                yield size + body.replace(theirs, ours)

    async def _passes(self, link: _Link, piece: bytes, way: Way) -> bool:
        """Whether the piece goes on; strikes where it is time."""
        if link.deaf or (link.mute and way == "reply"):
            return False
        strike = self._strike
        if strike is None or way != strike.way or strike.holding not in piece:
            return True
        strike.left -= 1
        if not strike.left:
            self._strike = None
        self.struck += 1
        strike.then()
        if strike.fault == "delay":
            await asyncio.sleep(self._seconds)
            return True
        if strike.fault == "black hole":
            link.deaf = True
        elif strike.fault == "half-close":
            link.mute = True
            link.client.write_eof()
            return way == "request"
        elif strike.fault == "orphan":
            link.deaf = True
            link.client.write_eof()
        else:
            for end in (link.client, link.server):
                _shut(end, reset=strike.fault == "reset")
        return False

    async def _hang_up(self) -> None:
        for link in self._links:
            _shut(link.client, reset=True)
            _shut(link.server, reset=True)

    async def _close(self) -> None:
        self._server.close()
        await self._hang_up()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


def _port(end: asyncio.StreamWriter, side: str) -> int:
    address = end.get_extra_info(side)
    return int(address[1]) if address else 0


def _shut(end: asyncio.StreamWriter, *, reset: bool = False) -> None:
    if reset and not end.transport.is_closing():
        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.transport.abort()
    else:
        end.close()
