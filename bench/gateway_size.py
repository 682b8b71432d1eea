"""How much the journal grows by an episode through the gateway: a 40 KB preamble, messages of 2 KB of random words.

    python bench/gateway_size.py [TURNS]        60 turns

Every turn asks with the whole history before it, over HTTP, and a provider answers 2 KB; every other turn is streamed.
The sizes of the database and of its log are taken after each turn, and all the while it is under way. The last line is
JSON: `raw` bytes of all requests, `database` bytes when all is over and the log is emptied, `ratio` of the two; `most`
the worst moment of `excess`: database and log together, over the raw bytes so far, from the tenth turn on (before that
the preamble is most of what was asked); `ratio_live` the largest size at any moment over all raw bytes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import aiohttp

from onward_size import MESSAGE, Words, emptied, on_disk

PREAMBLE = 40 * 1024
PATH = "/v1/chat/completions"


async def episode(folder: Path, turns: int) -> dict[str, float]:
    """One trial's episode, and the figures."""
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
    from onward.testing import ProviderServer

    asked, answered = Words(1), Words(2)
    journal, clock = SqliteJournal(folder, create=True), SystemClock()
    lease.claim(journal, clock)
    world = World(Recorder(journal, clock, Limits(Bounds(), clock)), None, lambda _: b"")  # type: ignore[arg-type]
    messages = [{"role": "system", "content": asked(PREAMBLE)}]
    raw, sizes = 0, [on_disk(folder)]

    async def watch() -> None:
        while True:
            sizes.append(on_disk(folder))
            await asyncio.sleep(0.001)

    async with ProviderServer(lambda request: answered()) as server, aiohttp.ClientSession() as http:
        async with Door(by_protocol(*server.providers("sk-size").values())) as door:
            step = Key.of("agent", "task", "1", "generate", "0")
            key = door.admit(trial_context(world, step, History(Voids()), {}))
            watching = asyncio.create_task(watch())
            for turn in range(turns):
                messages.append({"role": "user", "content": asked()})
                body = json.dumps({"model": "m", "messages": messages, "stream": turn % 2 == 0}).encode()
                raw += len(body)
                headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
                async with http.post(door.url + PATH, data=body, headers=headers) as reply:
                    said = await reply.read()
                    assert reply.status == 200, said
                messages.append({"role": "assistant", "content": text_of(said, turn % 2 == 0)})
                sizes.append(on_disk(folder))
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            assert (await door.dismiss(key))["paid"] == turns
    database = emptied(folder)
    journal.close()
    most = max([*sizes, database])
    return {
        "turns": turns, "raw": raw, "database": database, "ratio": round(database / raw, 5), "most": most,
        "ratio_live": round(most / raw, 5), "samples": len(sizes),
    }  # fmt: skip


def text_of(said: bytes, stream: bool) -> str:
    """What the model answered."""
    if not stream:
        return str(json.loads(said)["choices"][0]["message"]["content"])
    events = [json.loads(line[6:]) for line in said.decode().splitlines() if line.startswith("data: {")]
    deltas = [event["choices"][0]["delta"] for event in events if event.get("choices")]
    text = "".join(delta.get("content") or "" for delta in deltas)
    assert len(text) == MESSAGE
    return text


def main() -> None:
    """Measure and report."""
    with tempfile.TemporaryDirectory(prefix="bench-onward-") as name:
        found = asyncio.run(episode(Path(name, "run"), int(sys.argv[1]) if len(sys.argv) > 1 else 60))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
