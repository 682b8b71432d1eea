"""What the gateway costs: a direct call, a bare proxy, LiteLLM's proxy, and Onward with every exchange durable.

    gateway.py direct|bare|litellm|onward [CALLS]        CALLS a measurement (default 2,000)

Requests are 100 KB (a history of 40 messages that each lane repeats, and a last one that is new), answers 2 KB. Each
part is a process of its own: the upstream, the proxy under test, and this one, which asks; first and last cost next to
nothing (see `loopback`). Measured: latency against an upstream that answers in 100 ms, at 64 and at 16 lanes, which
begin one after the other; requests a second at 16 lanes against one that answers at once; latency and the delay of a
stream's first byte at one lane; the CPU time of the proxy's process for each request. The last line is JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import random
import secrets
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

import loopback

REQUEST, ANSWER, MESSAGES = 100_000, 2_000, 40
LATENCY = 100
"""Milliseconds."""
KINDS = ("direct", "bare", "litellm", "onward")
LITELLM = Path(__file__).parent / ".venvs" / "litellm" / "bin" / "litellm"
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
    loop, body, pieces = asyncio.get_running_loop(), loopback.whole(answer()), loopback.chunks(frames())

    def flow(to: loopback.Answerer, at: int = 0) -> None:
        to.say(pieces[at])
        if at + 1 < len(pieces):
            loop.call_later(0.001, flow, to, at + 1)

    def post(to: loopback.Answerer, raw: memoryview) -> None:
        ends = bytes(raw[:200]) + bytes(raw[-400:])  # what is not the history mostly stands there
        if b"wait-" not in ends:
            ends = bytes(raw)
        wait = int(ends[ends.index(b"wait-") + 5 :][:3]) / 1000
        answered = flow if b'"stream": true' in ends or b'"stream":true' in ends else (lambda to: to.say(body))
        if wait:
            loop.call_later(wait, answered, to)
        else:
            answered(to)

    await loopback.serve(post)


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
    logging.getLogger("aiohttp.server").disabled = True  # some clients leave at [DONE], before the stream's last chunk
    app = web.Application(client_max_size=2**30)
    app.router.add_post(PATH, post)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(json.dumps({"url": f"http://127.0.0.1:{runner.addresses[0][1]}", "keys": ["none"]}), flush=True)
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
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)  # as a run does while it goes
    sys.setswitchinterval(0.02)
    numbers = count()

    def admit() -> str:
        key = Key.of("agent", f"task{next(numbers)}", "1")
        return door.admit(trial_context(world, key, History(Voids()), {}).child_path("generate/0"))

    print(json.dumps({"url": door.url, "keys": [admit() for _ in range(64)]}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):  # `admit`, or `dismiss TOKEN`
        verb, *words = line.split()
        print(admit() if verb == "admit" else (await door.dismiss(*words))["paid"], flush=True)


# ---------------------------------------------------------------------------------------------------- the load


class Part:
    """A process that serves: of this script, or another command that says nothing (then `told` is what is known)."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, __file__, "--serve", *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.told = json.loads(self.process.stdout.readline())

    @property
    def url(self) -> str:
        """Its address."""
        return str(self.told["url"])

    def key(self, lane: int) -> str:
        """What a lane shows as its key."""
        keys = self.told["keys"]
        return str(keys[lane % len(keys)])

    @property
    def memory(self) -> float:
        """Resident memory in MB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def cpu(self) -> float:
        """Seconds of CPU time so far, of all its threads."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()


class LiteLLM(Part):
    """LiteLLM's proxy as it comes: one worker, no callbacks, no database, nothing fetched from elsewhere."""

    def __init__(self, upstream: str, folder: str) -> None:
        models = [
            {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_base": upstream + "/v1",
                                                    "api_key": "sk-upstream"}}
            for name in ("wait-000", f"wait-{LATENCY:03d}")
        ]  # fmt: skip
        config = Path(folder, "litellm.yaml")
        config.write_text(json.dumps({"model_list": models, "litellm_settings": {"num_retries": 0}}))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        key = f"sk-{secrets.token_hex(32)}"
        self.told = {"url": f"http://127.0.0.1:{port}", "keys": [key]}
        settings = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MASTER_KEY": key}
        command = [str(LITELLM), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        with Path(folder, "litellm.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--telemetry", "False"], stdout=log, stderr=log, cwd=folder, env={**os.environ, **settings}
            )
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{self.url}/health/liveliness", timeout=1):
                    return
            except OSError:
                assert self.process.poll() is None, Path(folder, "litellm.log").read_text()[-3000:]
                time.sleep(0.1)
        raise TimeoutError("LiteLLM's proxy does not listen")


class Lane:
    """One conversation: the same long history in each request, and a last message of its own."""

    def __init__(self, number: int) -> None:
        self.number, self.count = number, 0
        chance = random.Random(number)
        size = REQUEST // MESSAGES
        words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz ", k=size)) for _ in range(MESSAGES - 1)]
        roles = ("user", "assistant")
        before = [{"role": roles[at % 2], "content": text} for at, text in enumerate(words)]
        self._before = json.dumps({"max_tokens": 500, "messages": before}).encode()[1:-2]

    def body(self, wait: int, *, stream: bool = False) -> bytes:
        """The next request."""
        self.count += 1
        said = b"%d %d %d %b" % (self.number, self.count, time.time_ns(), b"y" * 2000)
        last = b'{"role": "user", "content": "%b"}], "stream": %b}' % (said, b"true" if stream else b"false")
        return b'{"model": "wait-%03d", %b, %b' % (wait, self._before, last)

    async def ask(self, asker: loopback.Asker, part: Part, wait: int, *, stream: bool = False) -> loopback.Answered:
        """Send it."""
        body = self.body(wait, stream=stream)
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: loopback\r\nAuthorization: Bearer {part.key(self.number)}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        answered = await asker.ask(part.url, head.encode() + body)
        assert answered.status == 200, answered.body
        return answered


async def load(part: Part, lanes: int, calls: int, wait: int) -> tuple[list[float], float]:
    """Latencies of so many calls, and calls a second. Lanes begin one after the other within the time of one call."""
    latencies: list[float] = []
    left = calls

    async def live(lane: Lane) -> None:
        nonlocal left
        await asyncio.sleep(wait / 1000 * lane.number / lanes)
        asker = loopback.Asker()
        while left > 0:
            left -= 1
            answered = await lane.ask(asker, part, wait)
            latencies.append(answered.ended - answered.began)
        asker.close()

    made = [Lane(number) for number in range(lanes)]
    began = time.perf_counter()
    await asyncio.gather(*map(live, made))
    return latencies, calls / (time.perf_counter() - began)


async def first_byte(part: Part, calls: int) -> float:
    """Median seconds until the first byte of a stream, one lane."""
    found, lane, asker = [], Lane(1), loopback.Asker()
    for _ in range(calls):
        answered = await lane.ask(asker, part, 0, stream=True)
        found.append(answered.first - answered.began)
    asker.close()
    return statistics.median(found)


def spread(latencies: list[float], name: str) -> dict[str, float]:
    """In milliseconds."""
    ordered = sorted(latencies)
    at = {"p50": len(ordered) // 2, "p99": int(len(ordered) * 0.99)}
    return {f"{which}_{name}": round(ordered[index] * 1000, 2) for which, index in at.items()}


def commit_ms(folder: str) -> float:
    """What one durable commit takes here: the floor under each of the two that an exchange waits for."""
    connection = sqlite3.connect(Path(folder, "commit.db"), isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE lines (line)")
    found = []
    for _ in range(200):
        began = time.perf_counter()
        connection.execute("INSERT INTO lines VALUES (?)", ("x" * 300,))
        found.append(time.perf_counter() - began)
    connection.close()
    return round(statistics.median(found) * 1000, 2)


def measure(part: Part, proxy: Part | None, calls: int) -> dict[str, float]:
    """All figures of one way to the upstream."""
    loopback.run(load(part, 64, 400, 0))  # warm
    latencies, rate = loopback.run(load(part, 64, calls, LATENCY))
    found = {**spread(latencies, "64"), "requests_s_64": round(rate)}
    found |= spread(loopback.run(load(part, 16, calls // 4, LATENCY))[0], "16")
    before = proxy.cpu if proxy else 0.0
    _, rate = loopback.run(load(part, 16, calls, 0))
    found["requests_s"] = round(rate)
    if proxy:
        found["cpu_ms"] = round((proxy.cpu - before) / calls * 1000, 3)
    found |= spread(loopback.run(load(part, 1, 200, 0))[0], "1")
    found["first_byte_ms"] = round(loopback.run(first_byte(part, 200)) * 1000, 2)
    if proxy:
        found["mb"] = round(proxy.memory)
    return found


def main(kind: str, calls: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        up = Part("upstream")
        parts = [up]
        try:
            if kind != "direct":
                parts.append(LiteLLM(up.url, folder) if kind == "litellm" else Part(kind, up.url, f"{folder}/{kind}"))
            found = measure(parts[-1], parts[1] if len(parts) > 1 else None, calls)
            found["commit_ms"] = commit_ms(folder)
        finally:
            for part in parts:
                part.end()
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve = {"upstream": upstream, "bare": lambda url, _: bare(url), "onward": onward}[sys.argv[2]]
        start = loopback.run if sys.argv[2] == "upstream" else asyncio.run
        start(serve(*sys.argv[3:]))  # type: ignore[operator]
    elif len(sys.argv) > 1 and sys.argv[1] in KINDS:
        main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2000)
    else:
        sys.exit(__doc__)
