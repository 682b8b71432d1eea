"""Random SIGKILLs, judged by a billing server over HTTP alone.

    python bench/chaos.py --kills 1000 [--seed 1] [--json]

One process is the provider: it answers every request after some milliseconds and writes each answered one to its log.
Another runs an experiment against it: several samples a task, two calls and a named step in each, a vote, a parse, a
score, a judge. It is killed at a random moment, started again, killed again, until it is through; then the next run
begins, at another concurrency from 1 to 32. The judge reads nothing but the provider's log and the moments of the
kills:

- paid twice: an answer that left 250 ms or more before a kill, and whose request came again after it. Must be 0.
- repeats per kill: requests that came again after a kill. At most what was in flight.
- views: every finished run must say the same as one that was never killed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TASKS = 24
SAMPLES = 3
GRACE = 0.25
"""Seconds before a kill from which an answer counts as one that must not be asked for again."""


# ---------------------------------------------------------------- the provider


async def serve(log: Path) -> None:
    """Answer until ended: numbers to questions, verdicts to a judge."""
    from onward.testing import ProviderServer, Request

    def answer(request: Request) -> str:
        number = int(request.digest[:6], 16)
        if "grade" in json.dumps(request.body).lower():
            return json.dumps({"score": (number % 5) / 4, "reason": "as it falls"})
        return f"I make it {number % 3}."

    async with ProviderServer(answer, latency=0.015, log=log) as server:
        print(server.url, flush=True)  # noqa: T201
        await asyncio.Event().wait()


# ---------------------------------------------------------------- the run


def experiment(url: str, store: Path, concurrency: int, variant: int) -> Any:
    """The experiment under fire. `variant` tells its requests from those of other runs."""
    from onward import Context, Experiment, Task

    async def solve(ctx: Context, task: Task) -> str:
        first = await ctx.ask(f"run {variant}, {task.id}: {task.input}", temperature=1, seed=ctx.seed)
        doubled = await ctx.step("double", lambda: 2 * len(first.text), depends=first.text)
        second = await ctx.ask(f"run {variant}, {task.id}: and {doubled} more?", temperature=1, seed=ctx.seed)
        return f"{first.text} {second.text}"

    return Experiment(
        name=f"chaos{variant}", store=store,
        tasks=[{"id": f"t{n:03d}", "input": f"What is {n}?", "target": n % 3} for n in range(TASKS)],
        solver={"python": solve, "model": "scripted/m", "name": "two-calls"}, samples=SAMPLES, parse="last_number",
        score="numeric", judge={"model": "scripted/m", "rubric": f"run {variant}: grade the answer"},
        providers={"scripted": {"base_url": url}}, limits={"concurrency": concurrency},
    )  # fmt: skip


def child(given: argparse.Namespace) -> int:
    """In the process that is killed: run, and say how it ended."""
    results = experiment(given.url, given.store, given.concurrency, given.variant).run()
    return int(results.ending.code)


def views(store: Path, variant: int) -> list[tuple[Any, ...]]:
    """What a finished run says, without times, attempts and money."""
    from onward import open_results

    return [
        (str(trial.key), trial.outcome, trial.output, trial.answer, sorted((n, s["value"]) for n, s in trial.scores.items()))
        for trial in open_results(f"chaos{variant}-", store=store)
    ]  # fmt: skip


# ---------------------------------------------------------------- the judge


@dataclass
class Verdict:
    """What the provider's log says, over all runs."""

    kills: int = 0
    runs: int = 0
    billed: int = 0
    answered_before_kills: int = 0
    """Answers that left at least 250 ms before the next kill."""
    paid_twice: int = 0
    repeats: int = 0
    most_repeats: int = 0
    """The most requests that came again after one kill."""
    over_in_flight: int = 0
    """Kills with more repeats than the run's concurrency."""
    views_differ: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether the promise held."""
        return not (self.paid_twice or self.over_in_flight or self.views_differ or self.wrong)


def judge(verdict: Verdict, lines: Sequence[Mapping[str, Any]], kills: Sequence[float], concurrency: int) -> None:
    """Add one run's log to the verdict."""
    verdict.billed += len(lines)
    earlier: dict[str, Mapping[str, Any]] = {}
    cut_off: dict[int, int] = {}
    for line in sorted(lines, key=lambda line: line["received"]):
        before = earlier.get(line["digest"])
        if before is not None:
            verdict.repeats += 1
            # The kill that can have cut it off is the first one after it was sent, however much later it came again.
            fatal = next((number for number, at in enumerate(kills) if at >= before["received"]), None)
            if fatal is None or kills[fatal] > line["received"]:
                verdict.wrong.append("a request came twice with no kill between")
                continue
            cut_off[fatal] = cut_off.get(fatal, 0) + 1
            verdict.paid_twice += before["answered"] + GRACE <= kills[fatal]
        earlier[line["digest"]] = line
    if kills:
        verdict.answered_before_kills += sum(1 for line in lines if line["answered"] + GRACE <= kills[-1])
    verdict.most_repeats = max(verdict.most_repeats, *cut_off.values(), 0)
    verdict.over_in_flight += sum(1 for count in cut_off.values() if count > concurrency)


def read_log(log: Path, start: int) -> list[dict[str, Any]]:
    """The provider's lines from a byte offset on."""
    with log.open("rb") as file:
        file.seek(start)
        return [json.loads(line) for line in file]


def storm(folder: Path, kills_wanted: int, seed: int, tell: Any) -> Verdict:
    """Kill so many times, over as many runs as that takes, and judge."""
    chance, verdict, began = random.Random(seed), Verdict(), time.monotonic()
    log = folder / "billed.jsonl"
    log.touch()
    here = [sys.executable, __file__]
    with subprocess.Popen([*here, "serve", "--log", str(log)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip() + "/v1"
        try:
            variant = 0
            while verdict.kills < kills_wanted:
                variant += 1
                start = log.stat().st_size
                concurrency = chance.choice([1, 2, 4, 8, 16, 32])
                command = [*here, "child", "--url", url, "--store", str(folder / "runs"), "--variant", str(variant)]
                command += ["--concurrency", str(concurrency)]
                moments = _kill_until_done(command, log, start, chance, kills_wanted - verdict.kills, verdict)
                verdict.kills += len(moments)
                verdict.runs += 1
                judge(verdict, read_log(log, start), moments, concurrency)
                calm = folder / "calm"
                subprocess.run(
                    [
                        *here,
                        "child",
                        "--url",
                        url,
                        "--store",
                        str(calm),
                        "--variant",
                        str(variant),
                        "--concurrency",
                        "8",
                    ],
                    check=True,
                )
                verdict.views_differ += views(folder / "runs", variant) != views(calm, variant)
                tell(verdict)
        finally:
            server.kill()
    verdict.seconds = round(time.monotonic() - began, 1)
    return verdict


def _kill_until_done(
    command: Sequence[str], log: Path, start: int, chance: random.Random, most: int, verdict: Verdict
) -> list[float]:
    """Start, kill after a random number of further answers, start again …; the last start is let through."""
    moments: list[float] = []
    while True:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            target = log.stat().st_size + chance.randint(1, 25) * 200 if len(moments) < most else None
            delay = chance.random() * 0.03
            while process.poll() is None:
                if target is not None and log.stat().st_size >= target:
                    time.sleep(delay)
                    os.kill(process.pid, signal.SIGKILL)
                    moments.append(time.time())
                    break
                time.sleep(0.002)
            _, err = process.communicate()
        if process.returncode == 0:
            return moments
        if process.returncode != -signal.SIGKILL:
            verdict.wrong.append(f"exit {process.returncode}: {err[-500:]}")
            return moments


def main(argv: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", nargs="?", default="storm", choices=["storm", "serve", "child"])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--url")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--variant", type=int, default=0)
    given = parser.parse_args(argv)
    if given.role == "serve":
        asyncio.run(serve(given.log))
        return 0
    if given.role == "child":
        return child(given)
    with tempfile.TemporaryDirectory(prefix="onward-chaos-") as folder:
        verdict = storm(Path(folder), given.kills, given.seed, _told)
    print(json.dumps(asdict(verdict)))  # noqa: T201
    return 0 if verdict.good else 1


def _told(verdict: Verdict) -> None:
    if sys.stderr.isatty():
        print(
            f"\r{verdict.kills} kills, {verdict.billed} billed, {verdict.paid_twice} paid twice",
            end="",
            file=sys.stderr,
        )  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
