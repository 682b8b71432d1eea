"""The floor: what durable execution costs with nothing around it. Bare asyncio and sqlite3, none of Onward's code.

    floor.py [N] [IN_FLIGHT]

Each of N tasks appends five entries, one after the other, and waits until each is durable before it goes on: the
intent of a call, the call's result, the answer, the parsed value, the score. Each carries a key, a fingerprint (sha256
over what the step depends on) and a JSON value. One writer thread takes whatever waits and commits it in one
transaction (WAL, synchronous=FULL: group commit). So many tasks are in flight; the model answers at once. The last line
is JSON.

What Onward adds to this (lookup, plan, budgets, checksums, views) is the ratio of its figure to this one.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

SCHEMA = "CREATE TABLE entry (seq INTEGER PRIMARY KEY, key TEXT, kind TEXT, fingerprint BLOB, value TEXT)"
ENTRIES = 5

Row = tuple[str, str, bytes, str]


class Writer:
    """One thread that owns the connection. What waits when it comes round is one transaction."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.path, self.loop, self.commits = path, loop, 0
        self.waiting: queue.SimpleQueue[tuple[Row, asyncio.Future[None]] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._write)
        self.thread.start()

    async def append(self, key: str, kind: str, needs: str, value: object) -> None:
        """Returns when the entry is durable."""
        done = self.loop.create_future()
        self.waiting.put(((key, kind, sha256(needs.encode()).digest(), json.dumps(value)), done))
        await done

    def close(self) -> None:
        """Write what waits, then stop."""
        self.waiting.put(None)
        self.thread.join()

    def _write(self) -> None:
        base = sqlite3.connect(self.path, isolation_level=None)
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=FULL")
        base.execute(SCHEMA)
        going = True
        while going:
            batch = [self.waiting.get()]
            while not self.waiting.empty():
                batch.append(self.waiting.get_nowait())
            real = [one for one in batch if one is not None]
            going = len(real) == len(batch)
            base.execute("BEGIN IMMEDIATE")
            base.executemany(
                "INSERT INTO entry (key, kind, fingerprint, value) VALUES (?,?,?,?)", [row for row, _ in real]
            )
            base.execute("COMMIT")
            self.commits += 1
            self.loop.call_soon_threadsafe(_settle, [done for _, done in real])
        base.close()


def _settle(futures: list[asyncio.Future[None]]) -> None:
    for done in futures:
        done.set_result(None)


async def one_task(writer: Writer, number: int) -> None:
    """Intent, call, answer, parse, score."""
    key, asked, target = f"zero/t{number}/0", f"say {number}", str(number)
    request = json.dumps({"model": "zero", "messages": [{"role": "user", "content": asked}], "seed": number})
    call = f"{key}/generate/0/llm:{sha256(request.encode()).hexdigest()[:12]}#1"
    await writer.append(call, "intent", request, {})
    said = asked.removeprefix("say ")
    await writer.append(call, "result", request, {"text": said, "usage": {"input": 3, "output": 1}})
    await writer.append(f"{key}/generate/0", "result", request, {"text": said})
    await writer.append(f"{key}/parse", "result", f"last_number:{said}", said)
    await writer.append(f"{key}/score", "result", f"exact:{said}:{target}", {"value": float(said == target)})


async def run(path: Path, n: int, in_flight: int) -> int:
    """All tasks; how many transactions it took."""
    writer = Writer(path, asyncio.get_running_loop())
    numbers: Iterator[int] = iter(range(1, n + 1))

    async def work() -> None:
        for number in numbers:
            await one_task(writer, number)

    await asyncio.gather(*(work() for _ in range(in_flight)))
    writer.close()
    return writer.commits


def main() -> None:
    """Run it in a fresh folder and count what was written."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    in_flight = int(sys.argv[2]) if len(sys.argv) > 2 else 32
    with tempfile.TemporaryDirectory(prefix="bench-floor-") as folder:
        path = Path(folder) / "journal.sqlite3"
        started = time.perf_counter()
        commits = asyncio.run(run(path, n, in_flight))
        seconds = time.perf_counter() - started
        with sqlite3.connect(path) as base:
            (count,) = base.execute("SELECT count(*) FROM entry").fetchone()
        base.close()
        assert count == n * ENTRIES, count
        size = path.stat().st_size
    print(json.dumps({"n": n, "in_flight": in_flight, "seconds": round(seconds, 3), "commits": commits, "bytes": size}))


if __name__ == "__main__":
    main()
