"""Random SIGKILLs, judged by a billing server over HTTP alone.

    python bench/chaos.py --kills 1000 [--seed 1]

One process is the provider: it answers every request after some milliseconds and writes each answered one to its log
(a few it refuses with a 500 or a 429, which it does not bill). Another runs an experiment against it. It is killed at
a random moment, started again, killed again, until it is through; then the next run begins, of another shape and at
another concurrency from 1 to 32. The judge reads nothing but the provider's log and the moments of the kills:

- paid twice: an answer that left 250 ms or more before a kill, and whose request came again after it. Must be 0.
- repeats per kill: requests that a kill cut off and that came again. At most what was in flight.
- views: every finished run must say the same as one that was never killed.

The last line is JSON, the fields of `Verdict`; the exit code is 0 if the promise held.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TASKS = 24
GRACE = 0.25
"""Seconds before a kill from which an answer counts as one that must not be asked for again."""
SILENT = 0.1
"""Seconds from the start of a process in which it cannot have asked anything yet: what the provider takes in then was
left in the socket by the one that was killed."""
EARLY = 0.15
"""Share of kills that come at any moment after the start, be it in an import or while the run is being made."""


# ---------------------------------------------------------------- the provider


async def serve(log: Path) -> None:
    """Answer until ended: numbers to questions, verdicts to judges, and now and then a refusal."""
    from onward.testing import Fault, ProviderServer, Request

    def answer(request: Request) -> str | Fault:
        if request.number % 61 == 0:
            return Fault("429", retry_after="0.05")
        if request.number % 149 == 0:
            return Fault("500")
        number = int(request.digest[:6], 16)
        if "grade" in json.dumps(request.body).lower():
            return json.dumps({"score": (number % 5) / 4, "reason": "as it falls"})
        return f"I make it {number % 3}."

    async with ProviderServer(answer, latency=0.015, log=log) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


# ---------------------------------------------------------------- the run


def experiment(url: str, store: Path, concurrency: int, variant: int) -> Any:
    """The experiment under fire. `variant` tells its requests from those of other runs, and chooses its shape:
    a Python solver, a model with two judges, or both solvers at once. No two of its requests are equal."""
    from onward import Context, Experiment, Task

    async def solve(ctx: Context, task: Task) -> str:
        first = await ctx.ask(f"run {variant}, {task.id}: {task.input}", temperature=1, seed=ctx.seed)
        doubled = await ctx.step("double", lambda: 2 * len(first.text), depends=first.text)
        second = await ctx.ask(f"run {variant}, {task.id}: and {doubled} more?", temperature=1, seed=ctx.seed)
        return f"{first.text} {second.text}"

    code = {"python": solve, "model": "scripted/m", "name": "two-calls"}
    model = {"model": "scripted/m", "prompt": f"run {variant}: {{input}} Think.", "temperature": 1, "name": "one-call"}
    strict, mild = (
        {"model": "scripted/m", "rubric": f"run {variant}: grade the answer, be {how}", "name": how}
        for how in ("strict", "mild")
    )
    shape: dict[str, Any] = [
        {"solver": code, "samples": 3, "judge": strict},
        {"solver": model, "samples": 4, "judge": [strict, mild]},
        {"solver": [code, model], "samples": 2},
    ][variant % 3]
    return Experiment(
        name=f"chaos{variant}", store=store, parse="last_number", score="numeric",
        tasks=[{"id": f"t{n:03d}", "input": f"What is {n}?", "target": n % 3} for n in range(TASKS)],
        providers={"scripted": {"base_url": url}}, limits={"concurrency": concurrency}, **shape,
    )  # fmt: skip


def child(given: argparse.Namespace) -> int:
    """In the process that is killed: run, and say how it ended."""
    results = experiment(given.url, given.store, given.concurrency, given.variant).run()
    return int(results.ending.code)


def views(store: Path, variant: int) -> list[tuple[Any, ...]]:
    """What a finished run says, without times, attempts and money."""
    from onward import open_results

    found = open_results(f"chaos{variant}-", store=store)
    assert found.complete
    return [
        (str(trial.key), trial.outcome, trial.output, trial.answer,
         sorted((name, score["value"]) for name, score in trial.scores.items()))
        for trial in found
    ]  # fmt: skip


# ---------------------------------------------------------------- the judge


@dataclass
class Verdict:
    """What the provider's log says, over all runs."""

    kills: int = 0
    runs: int = 0
    billed: int = 0
    answered_before_kills: int = 0
    """Answers that left at least 250 ms before the one who had asked was killed."""
    paid_twice: int = 0
    repeats: int = 0
    """Requests that came again, in flight or all but durable when their run was killed."""
    most_repeats: int = 0
    """The most requests that one kill cut off and that came again."""
    over_in_flight: int = 0
    """Kills with more repeats than the run's concurrency."""
    views_differ: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether the promise held."""
        return not (self.paid_twice or self.over_in_flight or self.views_differ or self.wrong)


@dataclass(frozen=True)
class Life:
    """One process that drove the run: when it was started, and when it was killed, if it was."""

    started: float
    killed: float = float("inf")


def judge(verdict: Verdict, lines: Sequence[Mapping[str, Any]], lives: Sequence[Life], concurrency: int) -> None:
    """Add one run's log to the verdict. A request is of the life that had begun last when it was received."""
    begun = [life.started + SILENT for life in lives[1:]]
    verdict.billed += len(lines)
    earlier: dict[str, tuple[int, float]] = {}
    cut_off: Counter[int] = Counter()
    for line in sorted(lines, key=lambda line: line["received"]):
        sender = sum(1 for moment in begun if moment <= line["received"])
        if line["digest"] in earlier:
            before, answered = earlier[line["digest"]]
            verdict.repeats += 1
            if before == sender:
                verdict.wrong.append("a request came twice with no kill between")
            else:
                cut_off[before] += 1
                verdict.paid_twice += answered + GRACE <= lives[before].killed
        earlier[line["digest"]] = sender, line["answered"]
        verdict.answered_before_kills += line["answered"] + GRACE <= lives[sender].killed < float("inf")
    verdict.most_repeats = max(verdict.most_repeats, *cut_off.values(), 0)
    verdict.over_in_flight += sum(1 for count in cut_off.values() if count > concurrency)


def read_log(log: Path, start: int) -> list[dict[str, Any]]:
    """The provider's lines from a byte offset on."""
    with log.open("rb") as file:
        file.seek(start)
        return [json.loads(line) for line in file]


# ---------------------------------------------------------------- the storm


def storm(
    folder: Path, kills_wanted: int, seed: int, tell: Callable[[Verdict], None] = lambda verdict: None
) -> Verdict:
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
                concurrency = chance.choice([1, 2, 4, 8, 16, 32])
                command = [*here, "child", "--url", url, "--variant", str(variant)]
                fire = [*command, "--store", str(folder / "runs"), "--concurrency", str(concurrency)]
                calm = [*command, "--store", str(folder / "calm"), "--concurrency", "8"]
                start = log.stat().st_size
                lives = _kill_until_done(fire, log, chance, kills_wanted - verdict.kills, verdict)
                verdict.kills += len(lives) - 1
                verdict.runs += 1
                judge(verdict, read_log(log, start), lives, concurrency)
                if verdict.wrong:
                    break
                subprocess.run(calm, check=True)
                verdict.views_differ += views(folder / "runs", variant) != views(folder / "calm", variant)
                tell(verdict)
        finally:
            server.kill()
    verdict.seconds = round(time.monotonic() - began, 1)
    return verdict


def _kill_until_done(
    command: Sequence[str], log: Path, chance: random.Random, most: int, verdict: Verdict
) -> list[Life]:
    """Start, kill, start again …, until one start gets through."""
    lives: list[Life] = []
    while True:
        started, killed = time.time(), float("inf")
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            if len(lives) < most:
                _wait(process, log, chance)
                killed = time.time()
                process.send_signal(signal.SIGKILL)  # nothing happens where it has ended by itself
            _, err = process.communicate()
        if process.returncode != -signal.SIGKILL:
            if process.returncode:
                verdict.wrong.append(f"exit {process.returncode}: {err[-2000:]}")
            return [*lives, Life(started)]
        lives.append(Life(started, killed))


def _wait(process: subprocess.Popen[str], log: Path, chance: random.Random) -> None:
    """Until the process ends or its moment has come: after some more answers, or simply after a while."""
    early = chance.random() < EARLY
    until = time.monotonic() + 0.7 * chance.random() if early else float("inf")
    target = log.stat().st_size + chance.randint(1, 40) * 200
    while process.poll() is None:
        if time.monotonic() >= until:
            return
        if not early and log.stat().st_size >= target:
            time.sleep(chance.random() * 0.03)
            return
        time.sleep(0.002)


def main(argv: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    print(json.dumps(asdict(verdict)))
    return 0 if verdict.good else 1


def _told(verdict: Verdict) -> None:
    if sys.stderr.isatty():
        said = f"{verdict.kills} kills, {verdict.billed} billed, {verdict.paid_twice} paid twice"
        print(f"\r{said}", end="", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
