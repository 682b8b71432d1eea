"""A gateway over a real journal, with the scripted provider behind it and raw HTTP clients before it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from onward import lease
from onward.clock import SystemClock
from onward.context import Context, World, trial_context
from onward.entry import Entry, unpack
from onward.gateway.proxy import Door, by_protocol
from onward.gateway.upstream import Upstream
from onward.history import History
from onward.journal import Journal, MemoryJournal
from onward.keys import Key
from onward.limits import Bounds, Limits
from onward.once import Recorder
from onward.plan import Voids
from onward.retry import Retry
from onward.testing import ProviderServer

STEP = Key.of("agent", "task", "1", "generate", "0")

PATHS = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages?beta=true",
    "gemini": "/v1beta/models/m:generateContent",
}


def path_of(protocol: str, stream: bool) -> str:
    """Where a request of this format goes."""
    return "/v1beta/models/m:streamGenerateContent?alt=sse" if protocol == "gemini" and stream else PATHS[protocol]


def body_of(protocol: str, text: str, stream: bool = False, **more: Any) -> dict[str, Any]:
    """A request that says this."""
    if protocol == "gemini":
        return {"contents": [{"role": "user", "parts": [{"text": text}]}], **more}
    said = [{"role": "user", "content": text}]
    body = {"model": "m", "input" if protocol == "responses" else "messages": said, "max_tokens": 50, **more}
    return {**body, "stream": True} if stream else body


def shown(protocol: str, key: str) -> dict[str, str]:
    """The headers in which an SDK shows its key."""
    if protocol == "messages":
        return {"x-api-key": key, "anthropic-version": "2023-06-01"}
    return {"x-goog-api-key": key} if protocol == "gemini" else {"Authorization": f"Bearer {key}"}


@dataclass
class Street:
    """One driver's process: a door, and what stands before and behind it."""

    door: Door
    journal: Journal
    recorder: Recorder
    http: aiohttp.ClientSession

    def context(self, key: Key = STEP) -> Context:
        voids = Voids((seq, row_data(self.journal, seq, row)["prefixes"]) for seq, row in self.rows("void"))
        world = World(self.recorder, None, lambda _: b"")  # type: ignore[arg-type]  # agents do not use `ask`
        trial = Key("/".join(key.split("/")[:3]))
        return trial_context(world, trial, History.read(self.journal, trial, voids), {}).child_path(
            "/".join(key.split("/")[3:])
        )

    def admit(self, key: Key = STEP, **terms: Any) -> str:
        return self.door.admit(self.context(key), **terms)

    def rows(self, *kinds: str) -> list[Any]:
        return list(self.journal.rows("", kinds=kinds))

    def entries(self, *kinds: str) -> list[Entry]:
        return [unpack(row, self.journal.blob, seq=seq) for seq, row in self.rows(*kinds)]

    def answers(self) -> list[Entry]:
        return [entry for entry in self.entries("result") if entry.outcome == "ok"]

    async def post(
        self, token: str, protocol: str, text: str, stream: bool = False, headers: dict[str, str] | None = None,
        **more: Any,
    ) -> tuple[int, bytes]:  # fmt: skip
        """What an agent gets."""
        url = self.door.url + path_of(protocol, stream)
        sent = {**shown(protocol, token), **(headers or {})}
        async with self.http.post(url, json=body_of(protocol, text, stream, **more), headers=sent) as reply:
            return reply.status, await reply.read()


def row_data(journal: Journal, seq: int, row: Any) -> Any:
    return unpack(row, journal.blob, seq=seq).data


@asynccontextmanager
async def street(
    server: ProviderServer, journal: Journal | None = None, *, bounds: Bounds | None = None, attempts: int = 5,
    stall: float = 30.0, unix: str | None = None, key: str = "sk-onward-testing-0123456789",
) -> AsyncIterator[Street]:  # fmt: skip
    """The gateway in this loop."""
    journal = journal if journal is not None else MemoryJournal()
    clock = SystemClock()
    lease.claim(journal, clock, force=True)
    limits = Limits(bounds or Bounds(concurrency=64, max_errors=1000), clock)
    recorder = Recorder(journal, clock, limits, Retry(attempts=attempts, first=0.01, most=0.05))
    providers = server.providers(key)
    chosen = by_protocol(*(providers[name] for name in ("openai", "openai-responses", "anthropic", "google")))
    door = Door(chosen, upstream=Upstream(stall=stall))
    await door.open(unix)
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            yield Street(door, journal, recorder, http)
    finally:
        await door.close()


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for a condition; a hang is a failure."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def run(work: Awaitable[Any]) -> Any:
    """Run it to its end; a hang is a failure."""

    async def whole() -> Any:
        async with asyncio.timeout(110):
            return await work

    return asyncio.run(whole())


def lines(path: Path) -> Sequence[Any]:
    """A file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
