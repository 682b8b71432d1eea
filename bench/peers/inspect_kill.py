"""Inspect AI: kill -9 in the middle of 200 tasks x 5 sequential calls of 40 ms, then `eval_retry`: what is paid twice?

    inspect_kill.py [N] [CALLS]

All at defaults but the display, which is off. The model writes a line to a file when a call leaves and when it is
answered. At half of all calls answered the process is killed; the log is retried in a second process. The last line is
JSON: `repaid` counts the calls that were answered before the kill and asked again; `in_flight` those that had left and
were not answered, which nobody can know about. Fails unless the retried log is a success with all samples.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
LATENCY = 0.04


def first(folder: Path, n: int, calls: int) -> None:
    """The run that is killed."""
    from inspect_ai import eval as run

    run(
        f"{HERE}/inspect_parts.py@many_calls",
        model="bench/slow",
        task_args={"n": n, "calls": calls},
        log_dir=f"{folder}/logs",
        display="none",
    )


def second(folder: Path, n: int, calls: int) -> None:
    """The run that finishes it."""
    from inspect_ai import eval_retry

    (old,) = map(str, (folder / "logs").glob("*.eval"))
    (log,) = eval_retry(old, log_dir=f"{folder}/again", display="none")
    assert log.status == "success", log.error
    assert log.results is not None
    assert log.results.completed_samples == n, log.results.completed_samples


def start(verb: str, folder: Path, n: int, calls: int) -> subprocess.Popen[bytes]:
    """One of the two as a process, its calls written to a file of that name."""
    env = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "BENCH_LATENCY": str(LATENCY)}
    env["BENCH_CALLS"] = str(folder / verb)
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), verb, str(folder), str(n), str(calls)], env=env
    )


def seen(file: Path, mark: str) -> list[str]:
    """The calls with this mark, in order."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [line.split(maxsplit=2)[2] for line in lines if line.startswith(mark) and line.count(" ") >= 2]


def main() -> None:
    """Kill, retry, count."""
    if sys.argv[1:2] in (["first"], ["second"]):
        import inspect_parts  # noqa: F401 (registers the model)

        {"first": first, "second": second}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
        return
    n, calls = (int(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else (200, 5)
    with tempfile.TemporaryDirectory(prefix="bench-inspect-") as name:
        folder = Path(name)
        run = start("first", folder, n, calls)
        while len(seen(folder / "first", "<")) < n * calls // 2:
            assert run.poll() is None, "ended before it could be killed"
            time.sleep(0.002)
        run.send_signal(signal.SIGKILL)
        run.wait()
        answered, left = set(seen(folder / "first", "<")), set(seen(folder / "first", ">"))
        started = time.perf_counter()
        assert start("second", folder, n, calls).wait() == 0
        seconds = time.perf_counter() - started
        again = seen(folder / "second", ">")
    found = {"n": n, "calls": calls, "answered": len(answered), "in_flight": len(left - answered)}
    found |= {"repaid": len(answered & set(again)), "asked_again": len(again), "seconds": round(seconds, 2)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
