"""5,000 exchanges from 64 lanes while the gateway, the clients and the provider are killed at random.

    python bench/gateway_storm.py [EXCHANGES] [--seed N]

All are processes of their own, and every kill is a SIGKILL: one gateway over a journal on disk, one provider, eight
programs with eight lanes each, four lanes to a trial. A lane talks step by step with its whole history, every other
step streamed, and writes down what it was told; begun again, it goes on from there as an SDK does that tries again,
and from its first step where the gateway has died (as an agent does, whose sandbox is new). The provider also refuses
some calls and cuts some answers, and some lanes hang up in the middle of a stream. At the end:

- lost: answers that a lane saw the end of and that are not in the journal, or steps never answered. Must be 0.
- swapped: answers that do not name the lane and step that asked, or that differ from what the lane was told before.
- paid_twice: steps asked for anew at the provider after a lane had seen their end, or with two answers in the journal.
- repeats: answers that the provider gave and that were asked for again, cut off by a kill before they were durable.

The last line is JSON; the exit code is 0 if the promise held.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

LANES, PROGRAMS, TRIALS = 64, 8, 16
KILLS = {"gateway": 10, "provider": 8, "client": 14}
PATH = "/v1/chat/completions"
PATIENCE = 3600.0
"""Seconds after which a storm that does not end is a failure."""

# ---------------------------------------------------------------- what is killed


async def provider(folder: Path, port: int, seed: int) -> None:
    """Answer, by lane and step and a draw of its own, and write down what is paid for before it leaves."""
    from onward.testing import Fault, ProviderServer, Request

    chance = random.Random(seed)
    paid = os.open(folder / "paid.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def answer(request: Request) -> str | Fault:
        luck = chance.random()
        if luck < 0.03:
            return Fault(chance.choice(["500", "429"]), retry_after="0.02")
        lane, step = request.text.split()[1::2]
        said = f"lane {lane} step {step} draw {uuid.UUID(int=chance.getrandbits(128)).hex} " + "word " * 20
        if luck < 0.06:
            return Fault("cut")
        os.write(paid, (json.dumps([int(lane), int(step), said, time.time()]) + "\n").encode())
        return said

    async with ProviderServer(answer, port=port, latency=0.005, pace=0.0005):
        tell(folder / "provider.json", {"port": port})
        await asyncio.Event().wait()


async def gateway(folder: Path, port: int, life: int) -> None:
    """The gateway over what its journal holds."""
    from onward import lease
    from onward.clock import SystemClock
    from onward.context import World, trial_context
    from onward.gateway.proxy import Door, by_protocol
    from onward.history import History
    from onward.journal import SqliteJournal
    from onward.keys import Key
    from onward.limits import Bounds, Limits
    from onward.once import Recorder
    from onward.plan import Voids
    from onward.retry import Retry
    from onward.testing import ProviderServer

    path, clock = folder / "journal", SystemClock()
    journal = SqliteJournal(path, create=not path.exists())
    lease.claim(journal, clock)
    limits = Limits(Bounds(concurrency=128), clock)
    world = World(Recorder(journal, clock, limits, Retry(attempts=8, first=0.05, most=0.5)), None, lambda _: b"")  # type: ignore[arg-type]
    door = Door(by_protocol(*ProviderServer(port=port).providers("sk-storm").values()))
    await door.open()
    tokens = []
    for number in range(TRIALS):
        key = Key.of("agent", f"task{number}", "1")
        history = History.read(journal, key, Voids())
        tokens.append(door.admit(trial_context(world, key, history, {}).child_path("generate/0")))
    tell(folder / "gateway.json", {"url": door.url, "tokens": tokens, "life": life})
    await asyncio.Event().wait()


async def client(folder: Path, program: int, steps: int, seed: int) -> None:
    """Eight lanes, until all have seen their last step's end."""
    lanes = range(program, LANES, PROGRAMS)
    told = {(lane, step): (said, life) for lane, step, said, life, _ in lines(folder / f"told-{program}.jsonl")}
    log = os.open(folder / f"told-{program}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await asyncio.gather(*(Lane(folder, http, lane, steps, told, log, seed).live() for lane in lanes))


class Lane:
    """One conversation."""

    def __init__(
        self, folder: Path, http: aiohttp.ClientSession, lane: int, steps: int,
        told: dict[tuple[int, int], tuple[str, int]], log: int, seed: int,
    ) -> None:  # fmt: skip
        self.folder, self.http, self.lane, self.steps, self.told, self.log = folder, http, lane, steps, told, log
        self.chance = random.Random(f"{seed} {lane} {len(told)}")
        self.door: dict[str, Any] = {"life": -1}

    async def live(self) -> None:
        """Ask step after step; from the first one again whenever the gateway has died."""
        lives = [self.told[self.lane, step][1] for step in range(self.steps) if (self.lane, step) in self.told]
        self.door["life"] = max(lives, default=-1)
        step, retry = lives.count(self.door["life"]), 1  # what this gateway has told it, it does not ask again
        while True:
            door = json.loads((self.folder / "gateway.json").read_text())
            if door["life"] != self.door["life"]:
                step, retry = 0, retry and 1  # a program begun again does not know what it has asked this gateway
            self.door = door
            if step == self.steps:
                return
            try:
                said = await self.ask(step, retry)
            except (aiohttp.ClientError, OSError, ValueError):
                said = None
            if said is None:
                retry += 1
                await asyncio.sleep(0.02)
                continue
            self.hear(step, said)
            step, retry = step + 1, 0

    def hear(self, step: int, said: str) -> None:
        """Write down what is new; what was told before must be told again."""
        before = self.told.get((self.lane, step))
        if not said.startswith(f"lane {self.lane} step {step} draw ") or (before and before[0] != said):
            mismatch = {"lane": self.lane, "step": step, "said": said, "before": before}
            os.write(os.open(self.folder / "swapped.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND),
                     (json.dumps(mismatch) + "\n").encode())  # fmt: skip
        life = self.door["life"]
        if before is None or before[1] != life:
            self.told[self.lane, step] = (said, life)
            os.write(self.log, (json.dumps([self.lane, step, said, life, time.time()]) + "\n").encode())

    async def ask(self, step: int, retry: int) -> str | None:
        """One request; None where it came to nothing, or was given up in its middle."""
        said = [{"role": "user", "content": f"lane {self.lane}"}]
        for before in range(step):
            said.append({"role": "assistant", "content": self.told[self.lane, before][0]})
            said.append({"role": "user", "content": "go on"})
        said.append({"role": "user", "content": f"lane {self.lane} step {step}"})
        stream = (self.lane + step) % 2 == 0
        token = self.door["tokens"][self.lane % TRIALS]
        headers = {"Authorization": f"Bearer {token}", "x-stainless-retry-count": str(retry)}
        body = {"model": "m", "messages": said, "max_tokens": 20, "stream": stream}
        async with self.http.post(self.door["url"] + PATH, json=body, headers=headers) as reply:
            if reply.status != 200:
                return None
            if stream and not retry and self.chance.random() < 0.02:
                await reply.content.readany()
                reply.close()
                return None
            return text_of(await reply.read(), stream)


def text_of(said: bytes, stream: bool) -> str:
    """What the model answered. Raises ValueError for a part of it."""
    if not stream:
        return str(json.loads(said)["choices"][0]["message"]["content"])
    if not said.endswith(b"data: [DONE]\n\n"):
        raise ValueError("the stream was cut")
    events = [json.loads(line[6:]) for line in said.decode().splitlines() if line.startswith("data: {")]
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event.get("choices"))


# ---------------------------------------------------------------- the storm


def tell(path: Path, what: dict[str, Any]) -> None:
    """Write a file whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(what))
    part.rename(path)


def lines(path: Path) -> Iterator[Any]:
    """The whole lines of a file that may have been cut in its last."""
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:
            continue


class Storm:
    """The processes, and who kills them."""

    def __init__(self, folder: Path, steps: int, seed: int) -> None:
        self.folder, self.steps, self.chance = folder, steps, random.Random(seed)
        self.parts: dict[str, subprocess.Popen[bytes]] = {}
        self.starts: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self.port = 0

    def start(self, name: str) -> None:
        """Start one, or start it again."""
        self.starts[name] += 1
        seed = self.chance.randrange(2**31)
        kind, _, number = name.partition(" ")
        rest = {
            "provider": [self.port, seed], "gateway": [self.port, self.starts[name]],
            "client": [number, self.steps, seed],
        }[kind]  # fmt: skip
        command = [sys.executable, __file__, "--serve", kind, str(self.folder), *map(str, rest)]
        self.parts[name] = subprocess.Popen(command)

    def wait_for(self, condition: Any) -> None:
        """Until it holds."""
        until = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < until, "it does not start"
            assert all(part.poll() is None for name, part in self.parts.items() if not name.startswith("client"))
            time.sleep(0.01)

    def kill(self, name: str) -> None:
        """SIGKILL, and start it again; a client that is through stays so."""
        part = self.parts[name]
        if part.poll() is not None:
            return
        part.kill()
        part.wait()
        self.kills[name.partition(" ")[0]] += 1
        self.start(name)
        if name == "gateway":
            self.wait_for(lambda: self._life() == self.starts["gateway"])

    def _life(self) -> int:
        path = self.folder / "gateway.json"
        return int(json.loads(path.read_text())["life"]) if path.exists() else 0

    def told(self) -> int:
        """Steps whose end some lane has seen."""
        found = (lines(path) for path in self.folder.glob("told-*.jsonl"))
        return len({(lane, step) for one in found for lane, step, *_ in one})

    def blow(self) -> None:
        """From the start to the last lane's end."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        clients = [f"client {number}" for number in range(PROGRAMS)]
        self.start("provider")
        self.start("gateway")
        self.wait_for(lambda: self._life() == 1 and (self.folder / "provider.json").exists())
        for name in clients:
            self.start(name)
        victims = [name for name, count in KILLS.items() for _ in range(count)]
        self.chance.shuffle(victims)
        goals = sorted(self.chance.randrange(LANES * self.steps) for _ in victims)
        began = time.monotonic()
        while any(self.parts[name].poll() is None for name in clients):
            assert time.monotonic() - began < PATIENCE, "the storm does not end"
            if goals and self.told() >= goals[0]:
                goals.pop(0)
                victim = victims.pop()
                time.sleep(self.chance.random() * 0.2)
                self.kill(self.chance.choice(clients) if victim == "client" else victim)
            time.sleep(0.1)
        for name in clients:
            assert self.parts[name].returncode == 0, f"{name} ended with {self.parts[name].returncode}"

    def end(self) -> None:
        """Kill what is left."""
        for part in self.parts.values():
            part.kill()
            part.wait()


def verdict(storm: Storm) -> dict[str, Any]:
    """What the files say."""
    from onward.entry import unpack
    from onward.journal import SqliteJournal

    folder, kept, doubt = storm.folder, Counter[tuple[int, int]](), 0
    recorded: dict[tuple[int, int], set[str]] = {}
    misplaced = 0
    journal = SqliteJournal(folder / "journal")
    asked = {}
    for seq, row in journal.rows(kinds=("intent", "result")):
        entry = unpack(row, journal.blob, seq=seq)
        if row.kind == "intent":
            asked[row.key] = entry.data["request"]["messages"][-1]["content"]
        elif row.outcome == "ok":
            value = entry.value
            raw = value["body"] if "body" in value else "".join(text for _, text in value["frames"])
            said = text_of(raw.encode(), "frames" in value)
            lane, step = (int(word) for word in said.split()[1:4:2])
            misplaced += asked[row.key] != f"lane {lane} step {step}"
            kept[lane, step] += 1
            recorded.setdefault((lane, step), set()).add(said)
    damaged = len(list(journal.check()))
    doubt = journal.sums().doubt[2]
    journal.close()
    seen: dict[tuple[int, int], tuple[str, float]] = {}
    for path in folder.glob("told-*.jsonl"):
        for lane, step, said, _, at in lines(path):
            seen.setdefault((lane, step), (said, at))
    paid = list(lines(folder / "paid.jsonl"))
    every = {(lane, step) for lane in range(LANES) for step in range(storm.steps)}
    lost = len(every - seen.keys()) + sum(said not in recorded.get(key, ()) for key, (said, _) in seen.items())
    late = sum((lane, step) in seen and at > seen[lane, step][1] for lane, step, _, at in paid)
    return {
        "exchanges": len(seen), "kills": sum(storm.kills.values()),
        **{f"{name}_kills": count for name, count in sorted(storm.kills.items())},
        "lost": lost + damaged, "swapped": len(list(lines(folder / "swapped.jsonl"))) + misplaced,
        "paid_twice": late + sum(count > 1 for count in kept.values()),
        "repeats": len(paid) - len({(lane, step) for lane, step, *_ in paid}), "in_doubt": doubt,
    }  # fmt: skip


def main() -> int:
    """Blow, and judge."""
    parser = argparse.ArgumentParser()
    parser.add_argument("exchanges", type=int, nargs="?", default=5000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-onward-") as name:
        storm = Storm(Path(name), -(-given.exchanges // LANES), given.seed)
        try:
            storm.blow()
        finally:
            storm.end()
        found = verdict(storm)
    print(json.dumps(found))
    return 0 if found["lost"] == found["swapped"] == found["paid_twice"] == 0 else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        kind, folder, *numbers = sys.argv[2:]
        asyncio.run(
            {"provider": provider, "gateway": gateway, "client": client}[kind](Path(folder), *map(int, numbers))
        )
    else:
        sys.exit(main())
