"""The owner's side of the talk with a sandbox's first process: requests out, answers in, each to whom it is for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from onward.errors import OnwardError
from onward.sandbox.contract import SandboxFailed
from onward.sandbox.frames import Frames, pack

__all__ = ["Answer", "Channel"]

Answer = tuple[dict[str, Any], bytes]
Heard = Callable[[dict[str, Any], bytes], None]


class Channel:
    """Owns the process. What it says is not trusted: wrong frames end the talk, and nothing else."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.complaints = b""
        """The end of what was written to stderr: why it could not start."""
        self.gone = False
        self._number = 0
        self._waiting: dict[int, tuple[asyncio.Future[Answer], Heard | None]] = {}
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._complain())]

    async def _listen(self) -> None:
        frames = Frames()
        assert self.process.stdout is not None
        try:
            while data := await self.process.stdout.read(1 << 18):
                for header, body in frames.feed(data):
                    self._deliver(header, body)
        except (OSError, ValueError, TypeError):
            pass  # it does not speak as agreed any more
        finally:
            self.gone = True
            for end, _ in self._waiting.values():
                if not end.done():
                    end.set_exception(SandboxFailed("the sandbox is gone"))

    def _deliver(self, header: dict[str, Any], body: bytes) -> None:
        end, heard = self._waiting.get(header.get("of", 0), (None, None))
        if end is None or end.done():
            return
        if header.get("end"):
            end.set_result((header, body))
        elif heard is not None:
            try:
                heard(header, body)
            except (OnwardError, OSError) as error:
                end.set_exception(error)

    async def _complain(self) -> None:
        assert self.process.stderr is not None
        while data := await self.process.stderr.read(1 << 16):
            self.complaints = (self.complaints + data)[-4000:]

    async def tell(
        self, do: str, body: bytes = b"", heard: Heard | None = None, **asked: Any
    ) -> asyncio.Future[Answer]:
        """Send a request; what will be its last answer. The others go to `heard`."""
        self._number += 1
        number = self._number
        end: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        end.add_done_callback(lambda done: (self._waiting.pop(number, None), done.cancelled() or done.exception()))
        self._waiting[number] = end, heard
        try:
            await self.send({"id": number, "do": do, **asked}, body)
        except SandboxFailed:
            end.cancel()
            raise
        return end

    async def ask(self, do: str, body: bytes = b"", heard: Heard | None = None, **asked: Any) -> Answer:
        """Send a request and wait for its last answer. Raises SandboxFailed where that says that it failed."""
        header, said = await (await self.tell(do, body, heard, **asked))
        if "error" in header:
            raise SandboxFailed(f"{do}: {header['error']}")
        return header, said

    async def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Send one frame."""
        if self.gone:
            raise SandboxFailed("the sandbox is gone")
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(pack(header, body))
            await self.process.stdin.drain()
        except (OSError, RuntimeError):
            raise SandboxFailed("the sandbox is gone") from None

    async def close(self) -> None:
        """Let go: it ends, and all under it."""
        if self.process.stdin is not None:
            self.process.stdin.close()
            with suppress(OSError):
                await self.process.stdin.wait_closed()

    async def ended(self) -> None:
        """Wait until the process and all it said are through."""
        await self.process.wait()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def number_of(self, end: asyncio.Future[Answer]) -> int:
        """The number of the request that this is to be the last answer of; 0 when it was given."""
        return next((number for number, (one, _) in self._waiting.items() if one is end), 0)
