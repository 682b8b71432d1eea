"""Inspect AI: a run of N tasks that is 99 % complete is retried; when does the first new model call leave?

    inspect_retry.py [N]

First a process of its own runs all N with every hundredth made to raise (`continue_on_fail`, no realtime log, 100
connections). Then another runs `eval_retry` on that log with the same settings. The last line is JSON: `first_call_s`
is the time from the start of that second process, by the kernel's clock, to its first model call; `seconds`, `cpu` and
`rss` are of that process alone. Fails unless exactly the tasks that were owed were asked for and the retried log is a
success.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SETTINGS = {"display": "none", "log_realtime": False, "score_display": False, "max_connections": 100}


def prepare(folder: Path, n: int) -> None:
    """Run all, with one in a hundred failing."""
    from inspect_ai import eval as run

    (log,) = run(
        f"{HERE}/inspect_parts.py@one_call",
        model="bench/zero",
        task_args={"n": n},
        log_dir=f"{folder}/logs",
        continue_on_fail=True,
        **SETTINGS,
    )
    assert log.status == "error", log.status


def retry(folder: Path, n: int) -> None:
    """Finish it."""
    from inspect_ai import eval_retry

    (old,) = map(str, (folder / "logs").glob("*.eval"))
    (log,) = eval_retry(old, log_dir=f"{folder}/again", **SETTINGS)
    assert log.status == "success", log.error
    assert log.results is not None
    assert log.results.completed_samples == n, log.results.completed_samples


def child(verb: str, folder: Path, n: int, **extra: str) -> tuple[float, float, int]:
    """Run one of the two as a process; its wall time, CPU time and peak memory in MB."""
    env = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "PYTHONPATH": str(HERE), **extra}
    command = [sys.executable, str(Path(__file__).resolve()), verb, str(folder), str(n)]
    started = time.perf_counter()
    pid = os.posix_spawn(command[0], command, env)
    _, status, used = os.wait4(pid, 0)
    assert status == 0, f"{verb} ended with {status}"
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss // 1024


def main() -> None:
    """Both, and what was found."""
    if sys.argv[1:2] in (["prepare"], ["retry"]):
        import inspect_parts  # noqa: F401 (registers the model)

        {"prepare": prepare, "retry": retry}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
        return
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory(prefix="bench-inspect-") as name:
        folder, calls = Path(name), Path(name) / "calls"
        child("prepare", folder, n, BENCH_FAIL="100")
        seconds, cpu, rss = child("retry", folder, n, BENCH_CALLS=str(calls))
        asked = [line.split(maxsplit=2) for line in calls.read_text().splitlines() if line.startswith(">")]
        assert {words[2] for words in asked} == {f"say {i}" for i in range(100, n + 1, 100)}, len(asked)
    found = {
        "n": n,
        "first_call_s": float(asked[0][1]),
        "calls": len(asked),
        "seconds": seconds,
        "cpu": cpu,
        "rss": rss,
    }
    print(json.dumps({key: round(value, 2) for key, value in found.items()}))


if __name__ == "__main__":
    main()
