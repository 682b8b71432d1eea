"""Measures whole processes: wall time, CPU time, peak memory. From start to end, imports and all.

    measure.py [-n RUNS] [--json] NAME='COMMAND ARG…' [NAME='COMMAND …']…

With several commands the runs alternate (A B A B), so that whatever else the machine does falls on all alike; medians
are reported. CPU time is user + system of the process and of the children that it waited for; memory is the largest
`ru_maxrss` of any one of them (`os.wait4`). A command that does not end with 0 fails the measurement. If the last line
that a command prints is a JSON object, its numbers are kept too (medians as well) under their own names.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class Failed(Exception):
    """A measured command did not end with 0."""


@dataclass(frozen=True)
class Figures:
    """One run of one command, or the medians of several. Seconds and megabytes."""

    wall: float
    cpu: float
    rss: float
    said: Mapping[str, float] = field(default_factory=dict)
    runs: int = 1
    spread: tuple[float, float] = (0.0, 0.0)
    """The least and the greatest wall time."""


def once(command: Sequence[str]) -> Figures:
    """Run it once."""
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        # Read to the end, then reap it here: only wait4 gives the usage of this child and of what it waited for.
        out, err = _drain(process)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Failed(f"{shlex.join(command)} ended with {process.returncode}\n{out[-1000:]}\n{err[-3000:]}")
    return Figures(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, _said(out), 1, (wall, wall))


def compare(
    commands: Mapping[str, Sequence[str]], runs: Mapping[str, int]
) -> tuple[dict[str, Figures], dict[str, Failed]]:
    """So many runs of each, alternating until each has had its number; the medians, and which ones failed.

    One that fails once is out, with what it had: half its runs are no measurement. The others go on.
    """
    found: dict[str, list[Figures]] = {name: [] for name in commands}
    failed: dict[str, Failed] = {}
    for turn in range(max(runs.values())):
        for name, command in commands.items():
            if turn < runs[name] and name not in failed:
                try:
                    found[name].append(once(command))
                except Failed as error:
                    failed[name] = error
    return {name: median(several) for name, several in found.items() if name not in failed}, failed


def median(several: Sequence[Figures]) -> Figures:
    """The median of each figure by itself."""
    middle = statistics.median
    walls = [one.wall for one in several]
    keys = dict.fromkeys(key for one in several for key in one.said)
    return Figures(
        wall=middle(walls),
        cpu=middle(one.cpu for one in several),
        rss=middle(one.rss for one in several),
        said={key: middle(one.said[key] for one in several if key in one.said) for key in keys},
        runs=len(several),
        spread=(min(walls), max(walls)),
    )


def table(found: Mapping[str, Figures]) -> str:
    """A Markdown table, one command a line."""
    lines = ["| what | runs | wall s | least-greatest | CPU s | peak MB | it says |", "|---|--:|--:|--:|--:|--:|---|"]
    for name, one in found.items():
        said = ", ".join(f"{key} {value:g}" for key, value in one.said.items())
        spread = f"{one.spread[0]:.2f}-{one.spread[1]:.2f}"
        lines.append(f"| {name} | {one.runs} | {one.wall:.2f} | {spread} | {one.cpu:.2f} | {one.rss:.0f} | {said} |")
    return "\n".join(lines)


def _drain(process: subprocess.Popen[str]) -> tuple[str, str]:
    """All that it prints, without reaping it (which `communicate` would)."""
    assert process.stdout is not None
    assert process.stderr is not None
    errors: list[str] = []
    reader = threading.Thread(target=lambda stream: errors.append(stream.read()), args=(process.stderr,))
    reader.start()
    out = process.stdout.read()
    reader.join()
    return out, "".join(errors)


def _said(out: str) -> dict[str, float]:
    last = (out.strip().splitlines() or [""])[-1]
    try:
        found = json.loads(last)
    except ValueError:
        return {}
    numbers = found.items() if isinstance(found, dict) else ()
    return {key: float(value) for key, value in numbers if isinstance(value, int | float)}


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", "--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("commands", nargs="+", metavar="NAME=COMMAND")
    given = parser.parse_args()
    pairs = [text.partition("=") for text in given.commands]
    commands = {name: shlex.split(command) for name, _, command in pairs}
    found, failed = compare(commands, dict.fromkeys(commands, given.runs))
    print(json.dumps({name: vars(one) for name, one in found.items()}) if given.json else table(found))
    if failed:
        sys.exit("\n".join(map(str, failed.values())))


if __name__ == "__main__":
    main()
