"""Onward's side of the kill benchmark: kill -9 in the middle of 200 tasks x 5 sequential calls of 40 ms, then resume.

    python bench/onward_kill.py [N] [CALLS]

The twin of `peers/inspect_kill.py`, all at defaults too: an async model in the same process that takes 40 ms writes a
line to a file when a call leaves and when it is answered, and the solver one when it is handed the answer. The moment
half of all calls are answered the process is killed and the same command started again. The last line is JSON:

- `answered`: calls that the model had answered when the kill came
- `in_flight`: calls that had left and were not answered
- `landing`: calls answered in the last milliseconds, whose entry was not durable yet: asked again, like those in flight
- `repaid`: calls completed (handed to the solver) and asked again
- `first_call_s`: seconds from the start of the second process, by the kernel's account, to its first call

(Inspect's `repaid` has no such distinction to make: there it is `landing` and `repaid` together.) Fails unless every
task ends well.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from clock_start import since_start

LATENCY = 0.04


def drive(folder: Path, calls_file: str, n: int, calls: int) -> int:
    """The run, from the beginning or from where it died."""
    from onward import Context, Experiment, Task

    log = os.open(folder / calls_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def slow(messages: Any, params: Any) -> str:
        text = messages[-1]["content"]
        os.write(log, f"> {since_start():.3f} {text}\n".encode())
        await asyncio.sleep(LATENCY)
        os.write(log, f"< {since_start():.3f} {text}\n".encode())
        return "42"

    async def solve(ctx: Context, task: Task) -> str:
        said = ""
        for number in range(calls):
            text = f"{task.id} call {number}: {task.input} {said}"
            said = (await ctx.ask(text)).text
            os.write(log, f"= {since_start():.3f} {text}\n".encode())
        return said

    tasks = [{"id": f"t{number:04d}", "input": f"What is {number}?", "target": "42"} for number in range(n)]
    experiment = Experiment(
        name="kill", tasks=tasks, solver={"python": solve, "model": "python/slow"}, score="exact",
        models={"slow": slow}, store=folder / "runs",
    )  # fmt: skip
    ending = experiment.run().ending
    return 0 if ending is not None and ending.done == ending.total == n else 1


def start(folder: Path, calls_file: str, n: int, calls: int) -> subprocess.Popen[bytes]:
    """The run as a process, its calls written to a file of that name."""
    return subprocess.Popen([sys.executable, __file__, "drive", str(folder), calls_file, str(n), str(calls)])


def seen(file: Path, mark: str) -> list[tuple[float, str]]:
    """The lines with this mark, in order: seconds since their process began, and which call."""
    lines = file.read_text().splitlines() if file.exists() else []
    found = [line.split(" ", 2) for line in lines if line.startswith(mark)]
    return [(float(at), text) for _, at, text in found]


def main() -> int:
    """Kill, resume, count."""
    if sys.argv[1:2] == ["drive"]:
        return drive(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    n, calls = (int(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else (200, 5)
    with tempfile.TemporaryDirectory(prefix="bench-onward-") as name:
        folder = Path(name)
        run = start(folder, "first", n, calls)
        while len(seen(folder / "first", "<")) < n * calls // 2:
            assert run.poll() is None, "ended before it could be killed"
            time.sleep(0.002)
        run.send_signal(signal.SIGKILL)
        run.wait()
        left, answered, completed = ({text for _, text in seen(folder / "first", mark)} for mark in "><=")
        started = time.perf_counter()
        assert start(folder, "second", n, calls).wait() == 0
        seconds = time.perf_counter() - started
        again = seen(folder / "second", ">")
    asked = {text for _, text in again}
    assert len(answered | asked) == n * calls, "calls are missing"
    found = {"n": n, "calls": calls, "answered": len(answered), "in_flight": len(left - answered)}
    found |= {"landing": len((answered - completed) & asked), "repaid": len(completed & asked)}
    print(json.dumps({**found, "first_call_s": round(again[0][0], 3), "seconds": round(seconds, 2)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
