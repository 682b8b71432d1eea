"""How much a run's folder grows by a conversation whose requests repeat their history: 2 KB of random words a message.

    python bench/onward_size.py [TURNS]

A Python solver keeps a conversation of so many turns through `ask()`; the model, in the same process, answers 2 KB of
random words. The sizes of the database and of its log are taken each time a turn becomes durable. The last line is
JSON: `raw` bytes of all requests as JSON, `database` bytes when the run has ended and its log is emptied, `ratio` of
the two; `most` bytes of database and log together at any moment, `ratio_live`; `per_turn_*`, bytes that each turn has
added after so many turns (level: linear growth); `equal_calls`, entries made by five equal calls (5: five draws).
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import string
import sys
import tempfile
from pathlib import Path
from typing import Any

MESSAGE = 2048
EQUAL = 5


class Words:
    """Random words: hardly compressible, so that what is measured is ours."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def __call__(self, length: int = MESSAGE) -> str:
        chance, made = self._chance, ""
        while len(made) < length:
            made += "".join(chance.choices(string.ascii_lowercase, k=chance.randint(3, 9))) + " "
        return made[:length]


def on_disk(folder: Path) -> int:
    """Bytes of the database and its log (its index in shared memory is of fixed size and no part of the record)."""
    return sum(path.stat().st_size for path in folder.glob("journal.db*") if path.suffix != ".db-shm")


def emptied(folder: Path) -> int:
    """Bytes of the database after a checkpoint."""
    connection = sqlite3.connect(folder / "journal.db")
    assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    connection.close()
    return on_disk(folder)


def conversation(store: Path, turns: int) -> dict[str, Any]:
    """One run of one task: `turns` turns, and the figures."""
    from onward import Context, Experiment, Task

    asked, answered = Words(1), Words(2)
    raw, sizes = 0, list[int]()

    def model(messages: Any, params: Any) -> str:
        nonlocal raw
        raw += len(json.dumps({"messages": messages, "params": params}))
        return answered()

    async def solve(ctx: Context, task: Task) -> str:
        history: list[dict[str, str]] = []
        for _ in range(turns):
            history.append({"role": "user", "content": asked()})
            answer = await ctx.ask(history, temperature=1)
            history.append({"role": "assistant", "content": answer.text})
            sizes.append(max(on_disk(folder) for folder in store.glob("size-*")))
        return "done"

    experiment = Experiment(
        name="size", tasks=[{"id": "t1", "input": "Talk.", "target": "done"}], score="exact", store=store,
        solver={"python": solve, "model": "python/words"}, models={"words": model},
    )  # fmt: skip
    ending = experiment.run().ending
    assert ending is not None
    assert ending.done == ending.total == 1
    database = emptied(ending.folder)
    return {"raw": raw, "database": database, "most": max([*sizes, database]), "folder": ending.folder}


def equal_calls(store: Path) -> int:
    """Entries that five equal calls under one parent make."""
    from onward import Context, Experiment, Task
    from onward.runs import open_run

    async def solve(ctx: Context, task: Task) -> str:
        return " ".join([(await ctx.ask("Roll the die.", temperature=1)).text for _ in range(EQUAL)])

    rolls = iter("352146")
    experiment = Experiment(
        name="equal", tasks=[{"id": "t1", "input": "Roll.", "target": "3 5 2 1 4"}], score="exact", store=store,
        solver={"python": solve, "model": "python/die"}, models={"die": lambda messages, params: next(rolls)},
    )  # fmt: skip
    ending = experiment.run().ending
    assert ending is not None
    run = open_run(ending.folder)
    try:
        found = [one for one in run.journal.rows("", kinds=("result",)) if "/llm:" in one.row.key]
    finally:
        run.close()
    return len({one.row.key for one in found})


def figures(turns: int) -> dict[str, Any]:
    """Everything that the module promises."""
    with tempfile.TemporaryDirectory(prefix="bench-onward-") as name:
        store = Path(name)
        found = conversation(store / "main", turns)
        line = {"turns": turns, "raw": found["raw"], "database": found["database"], "most": found["most"]}
        line["ratio"] = round(found["database"] / found["raw"], 5)
        line["ratio_live"] = round(found["most"] / found["raw"], 5)
        steps = [turns // 2, turns, 2 * turns]
        at = {count: conversation(store / f"of{count}", count)["database"] for count in (0, *steps)}
        for count in steps:
            line[f"per_turn_{count}"] = round((at[count] - at[0]) / count)
        line["equal_calls"] = equal_calls(store / "equal")
        return line


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("turns", type=int, nargs="?", default=100)
    given = parser.parse_args()
    line = figures(given.turns)
    print(json.dumps(line))
    return 0 if line["equal_calls"] == EQUAL else 1


if __name__ == "__main__":
    sys.exit(main())
