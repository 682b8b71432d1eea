"""The server under the gateway's application: uvicorn, on sockets of ours, in the loop that the run has.

uvicorn is imported when the first door opens: commands that only read should not wait for it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["Listener"]

Application = Callable[..., Awaitable[None]]
_BACKLOG = 1024
_PATIENCE = 5
"""Seconds that open responses have to end once the door closes."""
_AHEAD = 1024 * 1024
"""Bytes of a request that are read before the application wants them: most are handed over whole."""


class Listener:
    """Serves an application on a free port of loopback, and on a unix socket if one is named."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._server: Any = None
        self._task: asyncio.Task[None] | None = None
        self._unix: Path | None = None
        self._sockets: list[socket.socket] = []
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens, on loopback."""
        return f"http://127.0.0.1:{self.port}"

    async def open(self, unix: str | None = None) -> None:
        """Listen, and return once connections are taken."""
        # With its protocol named, or asyncio leaves Nagle's algorithm on: 40 ms for an answer in two parts.
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        tcp.bind(("127.0.0.1", 0))
        self.port, self._sockets = tcp.getsockname()[1], [tcp]
        if unix is not None:
            self._unix = Path(unix)
            local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            local.bind(unix)
            self._unix.chmod(0o600)
            self._sockets.append(local)
        ready = asyncio.Event()
        self._server = _server(self._application, ready)
        self._task = asyncio.create_task(self._server.serve(self._sockets), name="onward gateway")
        started = asyncio.ensure_future(ready.wait())
        await asyncio.wait({self._task, started}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if self._task.done():
            self._task.result()

    async def close(self) -> None:
        """Let open responses end, then close all."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task
        for each in self._sockets:
            each.close()
        if self._unix is not None:
            with suppress(OSError):
                self._unix.unlink()
        self._server = self._task = self._unix = None
        self._sockets = []


class _Joined:
    """A transport that sends the head of a response together with what follows it: one call, and one wake-up there."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._head = transport, b""
        self._call_soon = asyncio.get_running_loop().call_soon

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send it; a head waits for the end of this turn at most."""
        if data.startswith(b"HTTP/"):
            self._head += data
            self._call_soon(self._flush)
        else:
            head, self._head = self._head, b""
            self._transport.write(head + data if head else data)

    def close(self) -> None:
        """Close, once all is sent."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head:
            self._transport.write(head)


def _server(application: Application, ready: asyncio.Event) -> Any:
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Protocol(HttpToolsProtocol):
        """Requests have a hundred kilobytes: the application is not woken for each part of one."""

        def connection_made(self, transport: Any) -> None:
            """Connected."""
            super().connection_made(_Joined(transport))  # type: ignore[arg-type]

        def on_body(self, body: bytes) -> None:
            """A part of a request. Its end wakes the application."""
            if self.cycle.response_complete:
                return
            self.cycle.body += body
            if len(self.cycle.body) > _AHEAD:
                self.flow.pause_reading()
                self.cycle.message_event.set()

    class Server(uvicorn.Server):
        """Signals belong to the run."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """None of them."""
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """Tell when connections are taken."""
            await super().startup(sockets)
            ready.set()

    return Server(uvicorn.Config(
        application, http=Protocol, lifespan="off", ws="none", log_config=None, log_level="critical",
        access_log=False, server_header=False, date_header=False, proxy_headers=False, backlog=_BACKLOG,
        timeout_keep_alive=75, timeout_graceful_shutdown=_PATIENCE,
    ))  # fmt: skip
