"""Does the gateway's memory stay flat? 50,000 exchanges of 100 KB: half in many short trials, half in one long one.

    python bench/gateway_memory.py [EXCHANGES]

The gateway is a process of its own. Sixteen lanes ask it; in the first half each lane is dismissed and admitted again
as another trial after 25 exchanges, in the second all are of one trial. Its resident memory is sampled after every two
hundredth of the exchanges. The last line is JSON: `mb_short` and `mb_long` at the end of each half, `more_short` and
`more_long` how much greater the last tenth of a half was than its second tenth (the first fills caches), `kb_each` what
an exchange of the long trial leaves in memory (its key, and that it is answered), `mb_most` the greatest sample.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path

import aiohttp

from gateway import PATH, Lane, Part

LANES, TURNS = 16, 25


class Trials:
    """Admits and dismisses: lines go to the gateway's process, and its answers come back."""

    def __init__(self, part: Part) -> None:
        self._part = part

    def ask(self, *words: str) -> str:
        """One line there, one back."""
        assert self._part.process.stdin is not None
        assert self._part.process.stdout is not None
        self._part.process.stdin.write((" ".join(words) + "\n").encode())
        self._part.process.stdin.flush()
        return self._part.process.stdout.readline().decode().strip()


async def half(part: Part, trials: Trials, exchanges: int, *, short: bool) -> list[float]:
    """So many exchanges; the samples of memory."""
    samples, left = [], exchanges
    every = max(1, exchanges // 100)
    shared = trials.ask("admit")

    async def live(http: aiohttp.ClientSession, number: int) -> None:
        nonlocal left
        key, lane = trials.ask("admit") if short else shared, Lane(number)
        while left > 0:
            left -= 1
            if left % every == 0:
                samples.append(part.memory)
            if short and lane.count and lane.count % TURNS == 0:
                trials.ask("dismiss", key)
                key = trials.ask("admit")
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            async with http.post(part.url + PATH, data=lane.body(0), headers=headers) as reply:
                await reply.read()
                assert reply.status == 200, await reply.text()
        if short:
            trials.ask("dismiss", key)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await asyncio.gather(*(live(http, number) for number in range(LANES)))
    trials.ask("dismiss", shared)
    return samples


def figures(exchanges: int) -> dict[str, float]:
    """Everything that the module promises."""
    with tempfile.TemporaryDirectory(prefix="bench-onward-") as folder:
        up = Part("upstream")
        part = Part("onward", up.url, str(Path(folder, "run")))
        trials = Trials(part)
        try:
            short = asyncio.run(half(part, trials, exchanges // 2, short=True))
            long = asyncio.run(half(part, trials, exchanges // 2, short=False))
        finally:
            part.end()
            up.end()
    found: dict[str, float] = {"exchanges": exchanges, "mb_most": round(max(*short, *long))}
    for name, samples in (("short", short), ("long", long)):
        tenth = max(1, len(samples) // 10)
        more = statistics.median(samples[-tenth:]) - statistics.median(samples[tenth : 2 * tenth])
        found[f"mb_{name}"], found[f"more_{name}"] = round(samples[-1]), round(more, 1)
        if name == "long":
            found["kb_each"] = round(more * 1024 / (exchanges / 2 * 0.85), 2)
    return found


if __name__ == "__main__":
    print(json.dumps(figures(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)))
