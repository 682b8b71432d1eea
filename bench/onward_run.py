"""Onward's side of the runner benchmark: N tasks, an in-process model that answers at once, exact match.

    python bench/onward_run.py 10000 [--concurrency 100] [--store DIR]

Every call goes through `ask()` as a step of its own; every entry is durable (WAL, synchronous=FULL) before it counts.
Prints one line of JSON: seconds from process start, peak memory, counts. The tasks come from a JSONL file, as a user's
would. 100 calls may be in flight, as in Inspect's best settings (Onward's own default is 10). Exits 1 if a sample is
missing.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clock_start import since_start


def write_tasks(path: Path, count: int) -> None:
    """`count` small tasks as JSONL."""
    with path.open("w") as file:
        for number in range(count):
            file.write(json.dumps({"id": f"t{number:06d}", "input": f"What is {number}?", "target": "42"}) + "\n")


def answer(messages: Any, params: Mapping[str, Any]) -> str:
    """The model: at once, always the same."""
    return "42"


def main() -> int:
    """Run and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--max-new", type=int)
    given = parser.parse_args()
    store = given.store or Path(tempfile.mkdtemp(prefix="onward-bench-"))
    tasks = store / "tasks.jsonl"
    write_tasks(tasks, given.count)
    from onward import Experiment

    experiment = Experiment(
        name="bench", tasks=str(tasks), solver="python/answer", score="exact", models={"answer": answer},
        store=store / "runs", limits={"concurrency": given.concurrency},
    )  # fmt: skip
    began = time.perf_counter()
    ending = experiment.run(max_new=given.max_new).ending
    assert ending is not None
    took = time.perf_counter() - began
    line = {
        "tasks": given.count, "seconds": round(since_start(), 3), "run_seconds": round(took, 3),
        "rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1), "calls": ending.calls,
        "done": ending.done, "status": "success" if ending.done == ending.total else "owed",
        "database_mb": round(sum(path.stat().st_size for path in ending.folder.glob("journal.db*")) / 1e6, 1),
    }  # fmt: skip
    print(json.dumps(line))
    return 0 if given.max_new or line["status"] == "success" else 1


if __name__ == "__main__":
    sys.exit(main())
