"""What the gateway costs: a direct call, a bare proxy, and the gateway with every exchange durable, side by side.

    gateway.py [CALLS] [ONLY ...]        CALLS a measurement (default 2,000); ONLY: direct, bare, onward

Requests are 100 KB (a history of 40 messages that each lane repeats, and a last one that is new), answers 2 KB. Each
part is a process of its own: the upstream, the proxy under test, and this one, which asks. Measured: latency against an
upstream that answers in 100 ms, 64 lanes; requests a second at 16 lanes against one that answers at once; the delay of
the first streamed byte; the proxy's memory as exchanges go by. The last line is JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

REQUEST, ANSWER, MESSAGES = 100_000, 2_000, 40
LATENCY = 0.1
KINDS = ("direct", "bare", "onward")
PATH = "/v1/chat/completions"


# ---------------------------------------------------------------------------------------------------- the upstream


def answer() -> bytes:
    """2 KB that are a chat completion."""
    message = {"role": "assistant", "content": "x" * (ANSWER - 300)}
    used = {"prompt_tokens": 25_000, "completion_tokens": 500, "total_tokens": 25_500}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps(
        {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": used}
    ).encode()


def frames() -> list[bytes]:
    """The same, streamed in twenty frames."""
    found = []
    for _ in range(20):
        choice = {"index": 0, "delta": {"content": "x" * 80}, "finish_reason": None}
        found.append(b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n")
    found[-1] = found[-1].replace(b"null", b'"stop"')
    return [*found, b"data: [DONE]\n\n"]


async def upstream() -> None:
    """Answers after as many milliseconds as the model's name says."""
    whole, pieces = answer(), frames()

    async def post(http: web.Request) -> web.StreamResponse:
        raw = await http.read()
        wait = int(raw[raw.index(b"wait-") + 5 :][:3]) / 1000
        if wait:
            await asyncio.sleep(wait)
        if b'"stream": true' not in raw[-100:]:
            return web.Response(body=whole, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0.001)
        await response.write_eof()
        return response

    await listen(post)


async def bare(url: str) -> None:
    """The least that a proxy can do: bytes in, bytes out."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def post(http: web.Request) -> web.StreamResponse:
            raw = await http.read()
            async with session.post(url + PATH, data=raw, headers={"Content-Type": "application/json"}) as reply:
                if "event-stream" not in reply.headers["Content-Type"]:
                    return web.Response(body=await reply.read(), content_type="application/json")
                response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
                await response.prepare(http)
                async for chunk in reply.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response

        await listen(post)


async def listen(post: Any) -> None:
    """Tell the address, and serve until killed."""
    app = web.Application(client_max_size=2**30)
    app.router.add_post(PATH, post)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(json.dumps({"url": f"http://127.0.0.1:{runner.addresses[0][1]}", "key": "none"}), flush=True)
    await asyncio.Event().wait()


async def onward(url: str, folder: str) -> None:
    """Our gateway over a journal on disk, with full durability."""
    from onward import lease
    from onward.clock import SystemClock
    from onward.context import World, trial_context
    from onward.gateway import Provider
    from onward.gateway.proxy import Door
    from onward.history import History
    from onward.journal import SqliteJournal
    from onward.keys import Key
    from onward.limits import Bounds, Limits
    from onward.once import Recorder
    from onward.plan import Voids

    journal, clock = SqliteJournal(folder, create=True), SystemClock()
    lease.claim(journal, clock)
    recorder = Recorder(journal, clock, Limits(Bounds(concurrency=1000), clock))
    world = World(recorder, None, lambda _: b"")  # type: ignore[arg-type]
    door = Door({"chat": Provider("up", "chat", f"{url}/v1", "sk-upstream")})
    await door.open()
    tokens = []
    for number in range(64):
        key = Key.of("agent", f"task{number}", "1")
        tokens.append(door.admit(trial_context(world, key, History(Voids()), {}).child_path("generate/0")))
    print(json.dumps({"url": door.url, "keys": tokens}), flush=True)
    await asyncio.Event().wait()


# ---------------------------------------------------------------------------------------------------- the load


class Part:
    """A process of this script that serves."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, __file__, "--serve", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.told = json.loads(self.process.stdout.readline())
        self.url = self.told["url"]

    def key(self, lane: int) -> str:
        """What a lane shows as its key."""
        keys = self.told.get("keys", ["none"])
        return str(keys[lane % len(keys)])

    @property
    def memory(self) -> float:
        """Resident memory in MB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()


class Lane:
    """One conversation: the same long history in each request, and a last message of its own."""

    def __init__(self, number: int) -> None:
        self.number, self.count = number, 0
        chance = random.Random(number)
        size = REQUEST // MESSAGES
        words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz ", k=size)) for _ in range(MESSAGES - 1)]
        roles = ("user", "assistant")
        self._before = [{"role": roles[at % 2], "content": text} for at, text in enumerate(words)]

    def body(self, wait: int, *, stream: bool = False) -> bytes:
        """The next request."""
        self.count += 1
        last = {"role": "user", "content": f"{self.number} {self.count} {time.time_ns()} " + "y" * 2000}
        body = {"model": f"wait-{wait:03d}", "max_tokens": 500, "messages": [*self._before, last]}
        return json.dumps({**body, "stream": True} if stream else body).encode()


async def load(part: Part, lanes: int, calls: int, wait: int) -> tuple[list[float], float]:
    """Latencies of so many calls, and calls a second."""
    latencies: list[float] = []
    left = calls

    async def live(session: aiohttp.ClientSession, lane: Lane) -> None:
        nonlocal left
        headers = {"Authorization": f"Bearer {part.key(lane.number)}", "Content-Type": "application/json"}
        while left > 0:
            left -= 1
            body = lane.body(wait)
            began = time.perf_counter()
            async with session.post(part.url + PATH, data=body, headers=headers) as reply:
                await reply.read()
                assert reply.status == 200, await reply.text()
            latencies.append(time.perf_counter() - began)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        made = [Lane(number) for number in range(lanes)]
        began = time.perf_counter()
        await asyncio.gather(*(live(session, lane) for lane in made))
        return latencies, calls / (time.perf_counter() - began)


async def first_byte(part: Part, calls: int) -> float:
    """Median seconds until the first byte of a stream, one lane."""
    found, lane = [], Lane(1)
    headers = {"Authorization": f"Bearer {part.key(1)}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession() as session:
        for _ in range(calls):
            body = lane.body(0, stream=True)
            began = time.perf_counter()
            async with session.post(part.url + PATH, data=body, headers=headers) as reply:
                await reply.content.readany()
                found.append(time.perf_counter() - began)
                await reply.read()
    return statistics.median(found)


def spread(latencies: list[float]) -> dict[str, float]:
    """In milliseconds."""
    ordered = sorted(latencies)
    return {
        "p50_ms": round(ordered[len(ordered) // 2] * 1000, 2),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1000, 2),
    }


def measure(kind: str, target: Part, calls: int) -> dict[str, Any]:
    """All figures of one way to the upstream."""
    asyncio.run(load(target, 64, 200, 0))  # warm
    found: dict[str, Any] = {}
    latencies, _ = asyncio.run(load(target, 64, calls, int(LATENCY * 1000)))
    found["at 100 ms, 64 lanes"] = spread(latencies)
    found["at 100 ms, 16 lanes"] = spread(asyncio.run(load(target, 16, calls // 4, int(LATENCY * 1000)))[0])
    before = target.memory
    one, rate = asyncio.run(load(target, 16, calls, 0))
    found["saturated, 16 lanes"] = {"requests_s": round(rate), **spread(one)}
    found["one lane"] = spread(asyncio.run(load(target, 1, 200, 0))[0])
    found["first_byte_ms"] = round(asyncio.run(first_byte(target, 200)) * 1000, 2)
    if kind != "direct":
        found["memory_mb"] = {"before": round(before), "after": round(target.memory), "exchanges": calls + 400}
    return found


def main(calls: int, kinds: tuple[str, ...]) -> None:
    """Measure and print."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        up = Part("upstream")
        try:
            for kind in kinds:
                part = up if kind == "direct" else Part(kind, up.url, f"{folder}/{kind}")
                try:
                    results[kind] = measure(kind, part, calls)
                    if kind == "onward":
                        size = sum(path.stat().st_size for path in Path(folder, kind).rglob("*") if path.is_file())
                        results[kind]["journal_mb"] = round(size / 2**20, 1)
                finally:
                    if part is not up:
                        part.end()
                print(kind, json.dumps(results[kind]), flush=True)
        finally:
            up.end()
    direct = results.get("direct")
    for kind, found in results.items():
        if direct and kind != "direct":
            found["added"] = {
                name: {each: round(figure - direct[name][each], 2) for each, figure in found[name].items()}
                for name in ("at 100 ms, 64 lanes", "at 100 ms, 16 lanes", "one lane")
            }
            found["added"]["first_byte_ms"] = round(found["first_byte_ms"] - direct["first_byte_ms"], 2)
    print(json.dumps(results))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve = {"upstream": upstream, "bare": lambda url, _: bare(url), "onward": onward}[sys.argv[2]]
        asyncio.run(serve(*sys.argv[3:]))  # type: ignore[operator]
    else:
        numbers = [int(each) for each in sys.argv[1:] if each.isdigit()]
        only = tuple(each for each in sys.argv[1:] if each in KINDS)
        main(numbers[0] if numbers else 2000, only or KINDS)
