"""HTTP on loopback at the least cost that Python has: what asks and what answers must not be what is measured.

Both sides are protocols on the bare sockets, on uvloop where it is installed. They understand what the benches' own
parts say to each other and no more: one body at a time, with its length before it or in chunks.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import re
import time
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_END = b"0\r\n\r\n"
_ROOM = 256 * 1024


class Answered(NamedTuple):
    """What came back. Times by `time.perf_counter`."""

    status: int
    body: bytes
    """As it came, chunks and all."""
    began: float
    first: float
    """When the first byte of the body was here."""
    ended: float


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run it on the cheapest loop there is, without pauses for garbage."""
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


class Asker(asyncio.Protocol):
    """One connection, kept open, that asks one thing at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answered] | None = None
        self._began = self._first = 0.0
        self._got = b""
        self._body_at = self._whole = 0

    async def ask(self, url: str, request: bytes) -> Answered:
        """Send the bytes of a request; the answer to it."""
        loop = asyncio.get_running_loop()
        if self._transport is None or self._transport.is_closing():
            parts = urlsplit(url)
            await loop.create_connection(lambda: self, parts.hostname, parts.port)
        assert self._transport is not None
        self._answer = loop.create_future()
        self._got, self._first, self._body_at, self._whole = b"", 0.0, 0, 0
        self._began = time.perf_counter()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=4 * _ROOM)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cut."""
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("cut before the answer's end"))

    def data_received(self, data: bytes) -> None:
        """A part of the answer."""
        self._got = got = self._got + data if self._got else data
        if not self._body_at:
            end = got.find(b"\r\n\r\n")
            if end < 0:
                return
            self._body_at = end + 4
            length = _LENGTH.search(got, 0, end)
            self._whole = self._body_at + int(length[1]) if length else 0
        if len(got) > self._body_at and not self._first:
            self._first = time.perf_counter()
        over = len(got) >= self._whole if self._whole else got.endswith(_END)
        if over and self._answer is not None and not self._answer.done():
            now = time.perf_counter()
            found = Answered(int(got[9:12]), got[self._body_at :], self._began, self._first or now, now)
            self._answer.set_result(found)


class Answerer(asyncio.BufferedProtocol):
    """A server's connection. `answer` is called with itself, and with a request's body, which is gone afterwards."""

    def __init__(self, answer: Callable[[Answerer, memoryview], None]) -> None:
        self._answer = answer
        self._room = bytearray(_ROOM)
        self._view = memoryview(self._room)
        self._filled = self._whole = self._body_at = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._transport = None

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        if self._filled == len(self._room):
            self._room = self._room + bytearray(len(self._room))
            self._view = memoryview(self._room)
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """They are there."""
        self._filled += nbytes
        if not self._body_at:
            end = self._room.find(b"\r\n\r\n", 0, self._filled)
            if end < 0:
                return
            length = _LENGTH.search(self._room, 0, end)
            self._body_at = end + 4
            self._whole = self._body_at + int(length[1]) if length else 0
        over = self._filled >= self._whole if self._whole else self._room.endswith(_END, 0, self._filled)
        if over:
            body = self._view[self._body_at : self._filled]
            self._filled = self._whole = self._body_at = 0
            self._answer(self, body)

    def say(self, text: bytes) -> None:
        """Send. A client that has gone is no error."""
        if self._transport is not None:
            self._transport.write(text)


def whole(body: bytes, kind: bytes = b"application/json") -> bytes:
    """An answer in one piece."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (kind, len(body), body)


def chunks(pieces: list[bytes], kind: bytes = b"text/event-stream") -> list[bytes]:
    """An answer in pieces: its head goes with the first, its end with the last."""
    framed = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    framed[0] = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n%b" % (kind, framed[0])
    framed[-1] += _END
    return framed


async def serve(answer: Callable[[Answerer, memoryview], None]) -> None:
    """Tell the address, and answer until killed."""
    server = await asyncio.get_running_loop().create_server(lambda: Answerer(answer), "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"url": f"http://127.0.0.1:{port}", "keys": ["none"]}), flush=True)
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
