"""The gateway's process is killed: what a client has seen the end of is in the journal, and is never paid again."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.gateway.lone import Lone
from tests.gateway.street import body_of, path_of, run, shown, until

from onward.entry import unpack
from onward.testing import Fault, ProviderServer, Request

STORM = int(os.environ.get("GATEWAY_EXCHANGES", "512"))
LANES, TRIALS = 64, 8


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_killed_right_after_the_last_byte_the_exchange_is_in_the_journal(tmp_path: Path, stream: bool) -> None:
    async def go() -> None:
        async with ProviderServer() as server, aiohttp.ClientSession() as http:
            lone = Lone(tmp_path, server.port)
            heard: list[bytes] = []
            try:
                for number in range(3):
                    await lone.start()
                    for text in [f"call {n}" for n in range(number + 1)]:
                        url, headers = lone.told["url"], shown("messages", lone.told["tokens"][0])
                        body = body_of("messages", text, stream)
                        async with http.post(url + path_of("messages", stream), json=body, headers=headers) as reply:
                            got = await reply.read()
                    lone.kill()
                    heard.append(got)
                    assert len(server.calls) == number + 1
            finally:
                lone.kill()
            with lone.journal() as journal:
                results = [unpack(row, journal.blob, seq=seq) for seq, row in journal.rows(kinds=("result",))]
                assert not list(journal.check())
            kept = ["".join(t for _, t in e.value["frames"]) if stream else e.value["body"] for e in results]
            assert [text.encode() for text in kept] == heard

    run(go())


class Storm:
    """Lanes that live through kills of the gateway, of themselves, and of their provider."""

    def __init__(self, folder: Path, exchanges: int, seed: int) -> None:
        self.chance = random.Random(seed)
        self.steps = max(1, exchanges // LANES)
        self.server = ProviderServer(self._answer, latency=0.002)
        self.folder = folder
        self.lone = Lone(folder, 0, TRIALS)
        self.up = asyncio.Event()
        self.life = 0
        self.seen: dict[tuple[int, int], tuple[str, float, int]] = {}
        """What a lane was first told at a step, when, and in which life of the gateway."""
        self.paid: list[tuple[tuple[int, int], float]] = []
        self.ends = 0

    def _answer(self, request: Request) -> Any:
        luck = self.chance.random()
        if luck < 0.02:
            return Fault("500")
        if luck < 0.04:
            return Fault("cut")
        lane, step = map(int, request.text.split()[1::2])
        self.paid.append(((lane, step), time.time()))
        return f"lane {lane} step {step} draw {request.number}"

    async def lane(self, http: aiohttp.ClientSession, lane: int) -> None:
        """Ask step after step; from the first one again whenever the gateway has died, as an agent does."""
        step, retry, life = 0, 0, -1
        while step < self.steps:
            await self.up.wait()
            if life != self.life:
                life, step, retry = self.life, 0, 0
            try:
                said = await self._ask(http, lane, step, retry)
            except (aiohttp.ClientError, OSError, TimeoutError):
                retry += 1
                await asyncio.sleep(0.01)
                continue
            if said is None or life != self.life:
                retry += 1
                continue
            first = self.seen.setdefault((lane, step), (said, time.time(), life))
            assert said == first[0] and said.startswith(f"lane {lane} step {step} ")
            self.ends += 1
            step, retry = step + 1, 0

    async def _ask(self, http: aiohttp.ClientSession, lane: int, step: int, retry: int) -> str | None:
        token, url = self.lone.told["tokens"][lane % TRIALS], self.lone.told["url"]
        said = [{"role": "user", "content": f"lane {lane}"}]
        for before in range(step):
            said.append({"role": "assistant", "content": self.seen[lane, before][0]})
            said.append({"role": "user", "content": "go on"})
        said.append({"role": "user", "content": f"lane {lane} step {step}"})
        headers = {**shown("chat", token), "x-stainless-retry-count": str(retry)}
        body = {"model": "m", "messages": said, "max_tokens": 20, "stream": True}
        async with http.post(url + path_of("chat", True), json=body, headers=headers) as reply:
            if reply.status != 200:
                return None
            if not retry and self.chance.random() < 0.03:
                await reply.content.readany()
                reply.close()  # killed in the middle of its stream
                return None
            return _text(await reply.read())

    async def blow(self, kills: int) -> None:
        """Live to the end."""
        async with self.server, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            self.lone.port = self.server.port
            lanes = [asyncio.ensure_future(self.lane(http, lane)) for lane in range(LANES)]
            try:
                for number in range(kills + 1):
                    await self.lone.start()
                    self.life = number
                    self.up.set()
                    if number == kills:
                        await asyncio.gather(*lanes)
                        break
                    goal = len(self.seen) + self.chance.randrange(1, max(2, self.steps * LANES // kills))
                    await until(
                        lambda goal=goal: len(self.seen) >= goal or any(one.done() for one in lanes),
                        60,  # type: ignore[misc]
                    )
                    self.up.clear()
                    self.lone.kill()
            finally:
                self.lone.kill()
                for one in lanes:
                    one.cancel()
                await asyncio.gather(*lanes, return_exceptions=True)


def _text(raw: bytes) -> str:
    from tests.gateway.test_proxy_serving import read

    found = read("chat", raw, True)["choices"][0]["message"]["content"]
    assert isinstance(found, str)
    return found


@pytest.mark.slow
def test_random_kills_lose_nothing_swap_nothing_and_pay_no_completed_call_again(tmp_path: Path) -> None:
    storm = Storm(tmp_path, STORM, seed=int(os.environ.get("CHAOS_SEED", "1")))
    run(storm.blow(kills=6))
    assert len(storm.seen) == LANES * storm.steps
    again = [(key, at) for key, at in storm.paid if key in storm.seen and at > storm.seen[key][1]]
    assert not again, "paid after its end was seen"
    with storm.lone.journal() as journal:
        kept = [unpack(row, journal.blob, seq=seq) for seq, row in journal.rows(kinds=("result",))]
        assert not list(journal.check())
        assert journal.sums().doubt[2] <= 6 * LANES
    recorded = {_text("".join(text for _, text in e.value["frames"]).encode()) for e in kept if e.outcome == "ok"}
    assert {said for said, _, _ in storm.seen.values()} <= recorded
