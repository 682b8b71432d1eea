"""Onward's side of the resume benchmark: a run of N tasks of which 99 % are done; how long until the first new call?

    python bench/onward_resume.py 10000

Makes the run in one process (`onward_run.py --max-new`), then resumes it in another and takes the time from that
process's start, by the kernel's account, to the first call that reaches the model. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from clock_start import since_start


def resume(store: Path) -> int:
    """In the second process: resume, note the first call."""
    first: list[float] = []

    def answer(messages: Any, params: Any) -> str:
        if not first:
            first.append(since_start())
        return "42"

    from onward import launch
    from onward.config import settings
    from onward.progress import Quiet

    ending = launch.resume("latest", settings(store=store / "runs"), Quiet(), models={"answer": answer})
    line = {
        "first_call_s": round(first[0], 3), "seconds": round(since_start(), 3), "calls": ending.calls,
        "rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1), "done": ending.done,
    }  # fmt: skip
    print(json.dumps(line))
    return 0 if ending.done == ending.total else 1


def main() -> int:
    """Make the run, then resume it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int, nargs="?", default=10000)
    parser.add_argument("--resume", type=Path)
    given = parser.parse_args()
    if given.resume:
        return resume(given.resume)
    store = Path(tempfile.mkdtemp(prefix="onward-bench-"))
    run = Path(__file__).with_name("onward_run.py")
    done = given.count * 99 // 100
    subprocess.run(
        [sys.executable, run, str(given.count), "--store", store, "--max-new", str(done)],
        check=True,
        capture_output=True,
    )
    return subprocess.run([sys.executable, __file__, "--resume", store], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
