"""Inspect AI: N tasks of one zero-latency call each, exact match.

    inspect_10000.py [N] [--best]

Without `--best` everything is at Inspect's defaults but the display, which is off. With it: no realtime log, no score
display, 100 connections (the settings that `shared/facts` found fastest; a larger log buffer and more samples in flight
did not help). The last line is JSON; `seconds` is the call of `eval` alone, without start and import, which
`bench/measure.py` adds by timing the whole process. Fails unless the status is success and every sample scored 1.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time


def main() -> None:
    """Run it in a fresh folder and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n", type=int, nargs="?", default=10_000)
    parser.add_argument("--best", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-inspect-") as folder:
        os.environ.update(HOME=folder, XDG_DATA_HOME=folder, XDG_CACHE_HOME=folder)

        import inspect_parts
        from inspect_ai import eval as run

        best = {"log_realtime": False, "score_display": False, "max_connections": 100} if given.best else {}
        started = time.perf_counter()
        (log,) = run(
            inspect_parts.one_call(given.n), model="bench/zero", display="none", log_dir=f"{folder}/logs", **best
        )
        seconds = time.perf_counter() - started

        assert log.status == "success", log.error
        assert log.results is not None
        assert log.results.completed_samples == given.n, log.results.completed_samples
        mean = log.results.scores[0].metrics["mean"].value
        assert mean == 1, mean
        size = os.path.getsize(log.location.removeprefix("file://"))
    print(json.dumps({"n": given.n, "best": given.best, "seconds": round(seconds, 3), "bytes": size, "mean": mean}))


if __name__ == "__main__":
    main()
