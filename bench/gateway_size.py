"""How much the journal grows by an episode through the gateway: a 40 KB preamble, messages and answers of 2 KB.

    python bench/gateway_size.py [TURNS] [words|code]        60 turns

They are random words, which hardly shrink, or pieces of Python's own library, as a coding agent reads and writes them.

Every turn asks with the whole history before it, over HTTP; every other answer is streamed. The sizes of the database
and of its log are taken after each turn, and all the while it is under way. The last line is JSON: `raw` bytes of all
requests, `database` bytes when all is over and the log is emptied, `ratio` of the two; `most` bytes of database and log
together at any moment, `ratio_live`.
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


class Code:
    """Real text: the sources of Python's library, one after the other, none of them twice."""

    def __init__(self, seed: int) -> None:
        files = sorted(Path(asyncio.__file__).parent.parent.glob("[a-z]*.py"))[seed::3]
        self._text, self._at = "".join(file.read_text(errors="replace") for file in files), 0

    def __call__(self, length: int = MESSAGE) -> str:
        self._at += length
        return self._text[self._at - length : self._at]


async def episode(folder: Path, turns: int, texts: type[Words | Code]) -> dict[str, float]:
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

    asked, answered = texts(1), texts(2)
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
        turns, texts = int(sys.argv[1]) if len(sys.argv) > 1 else 60, Code if "code" in sys.argv else Words
        found = asyncio.run(episode(Path(name, "run"), turns, texts))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
