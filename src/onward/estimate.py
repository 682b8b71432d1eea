"""What owed work would come to: calls, cost, time. By what this run's own calls came to, or its parent's; where there
are none, by list price as an upper bound. Of agents nobody knows how often they will ask: their limits bound the time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

from onward.agents import agent
from onward.ask import Answer, Ask, Call
from onward.clock import SystemClock
from onward.config import Settings
from onward.context import Context, World
from onward.experiment import Assembled
from onward.history import History
from onward.keys import Key
from onward.limits import Bounds, Limits
from onward.once import Missing, Step
from onward.peek import Peek
from onward.plan import Voids
from onward.runs import Run
from onward.solvers import Solver
from onward.staging import agents_of, seconds_of, width_of
from onward.tasks import Task

__all__ = ["Work", "estimate"]

_SAMPLE = 20
"""Owed trials that are looked at to see what one costs, or takes, at most."""
_RECENT = 2000
"""Entries of which calls' times are taken."""
_ANSWERED = ("ok", "timeout")
"""Outcomes of an answer that its calls were paid for."""

Estimate = tuple[int | None, float | None, str, float | None, bool]
"""Calls, USD, where they come from, seconds, and whether these are what limits allow (see `onward.forecast`)."""


@dataclass(slots=True)
class Work:
    """What would be done, and what there is to judge it by."""

    assembled: Assembled
    ask: Ask
    settings: Settings
    runs: Sequence[Run]
    owed: Mapping[str, int]
    """Stage → steps that are owed."""
    extra: int
    """Trials that are new besides."""
    todo: int
    now: int
    served: Sequence[int] = ()
    """How many exchanges are recorded of each episode that goes on: these are not asked again."""
    begun: int = 0
    """How many are recorded of all episodes without an end: no measure of what one takes."""


async def estimate(work: Work, owed: Iterator[tuple[str, Task]]) -> Estimate:
    """What it comes to. `owed`: (solver, task) of trials in it, as many as are looked at."""
    stages, until = work.assembled.stages, work.settings.flags.until
    generated = work.owed.get("generate", 0) + work.extra * stages.samples
    judged = work.owed.get("judge", 0) + generated / stages.samples * len(stages.judges)
    if until not in (None, "judge"):
        judged = 0
    if not generated and not judged:
        return 0, 0.0, "nothing to ask", 0.0, False
    share = work.now / work.todo if work.todo else 1.0
    per_answer, usd, seconds = _averages(work.runs, work.begun)
    bounded = bool(agents_of(work.assembled.spec)) and generated > 0
    time = _longest(work, owed, math.ceil(generated * share)) if bounded else None
    if per_answer is None:
        per_answer = _per_answer(work.assembled)
    if per_answer is None:
        return None, None, "agents" if bounded else "unknown", time, bounded
    served = sum(min(exchanges, per_answer) for exchanges in work.served)
    calls = round((generated * per_answer - served + judged) * share)
    if not calls:
        return 0, 0.0, "nothing to ask", time, bounded
    if not bounded and seconds is not None:
        width = work.settings.flags.limits.get("concurrency") or work.assembled.spec.limits.concurrency
        time = calls * seconds / max(1, min(width, calls))
    if usd is not None:
        return calls, calls * usd, "averages", time, bounded
    bound = None if bounded else await _bound(work, owed)
    if bound is None:
        return calls, None, "unknown", time, bounded
    return calls, calls * bound, "list price", time, bounded


def _per_answer(assembled: Assembled) -> float | None:
    """Calls for each answer as the solvers' kinds have it; None where code of their own decides."""
    solvers = assembled.spec.solvers
    if all(solver.model and solver.python is None and not solver.agent for solver in solvers):
        return 1.0
    return 0.0 if all(solver.agent and not agent(solver.agent).asks for solver in solvers) else None


def _longest(work: Work, owed: Iterator[tuple[str, Task]], episodes: int) -> float:
    """Seconds that so many episodes may take at the most, a sandbox each, as many at a time as there may be."""
    stated = {**work.assembled.spec.limits.model_dump(), **work.settings.flags.limits}
    agents = {solver.name for solver in agents_of(work.assembled.spec)}
    each = [seconds_of(task, stated) for name, task in islice(owed, _SAMPLE) if name in agents]
    if not each:
        return 0.0
    width = width_of(stated.get("sandboxes"))
    return max(*each, sum(each) / len(each) * episodes / width)


def _averages(runs: Sequence[Run], begun: int) -> tuple[float | None, float | None, float | None]:
    """(calls per answer, usd per call, seconds per call) over what these runs have recorded. `begun`: calls of answers
    that are not there yet."""
    count, usd, answers = 0, 0.0, 0
    seconds: list[float] = []
    for run in runs:
        sums = run.journal.sums()
        count += sums.spent[2] + sums.reused[2]
        usd += sums.spent[0] + sums.reused[0]
        answers += sum(1 for head in run.journal.newest(5) if "/generate/" in head.key and head.outcome in _ANSWERED)
        seconds += _times(run)
    if not count or not answers:
        return None, None, None
    return max(0, count - begun) / answers, usd / count, sum(seconds) / len(seconds) if seconds else None


def _times(run: Run) -> list[float]:
    """How long recent calls took."""
    sent: dict[tuple[str, int], str] = {}
    found = []
    for _, row in run.journal.rows("", after=max(0, run.journal.head().seq - _RECENT), kinds=("intent", "result")):
        if row.kind == "intent" and row.tokens is not None:
            sent[row.key, row.attempt] = row.at
        elif row.kind == "result" and (row.key, row.attempt) in sent:
            then = datetime.fromisoformat(sent.pop((row.key, row.attempt)))
            found.append((datetime.fromisoformat(row.at) - then).total_seconds())
    return found


class _Quote(Peek):
    """Notes what a call would cost at most, instead of sending it."""

    def __init__(self, run: Any, clock: SystemClock) -> None:
        super().__init__(run, clock, Limits(Bounds(), clock))
        self.quoted: list[float | None] = []

    async def call(self, history: History, step: Step, call: Call, send: Any) -> Answer:
        """Never sent."""
        self.quoted.append(call.usd)
        raise Missing(step.key, "a quote")


async def _bound(work: Work, owed: Iterator[tuple[str, Task]]) -> float | None:
    """The mean upper bound of some of the calls; None where a price or a largest output is not known."""
    clock = SystemClock()
    quote = _Quote(None, clock)
    world = World(quote, work.ask, lambda _: b"", work.assembled.spec.seed)
    solvers = {solver.name: solver for solver in work.assembled.solvers}
    for name, task in islice(owed, _SAMPLE):
        key = Key.of(name, task.id, "1", "generate", "0")
        await _quoted(solvers[name], Context(key, world, History(Voids())), replace(task, files=()))
    known = [usd for usd in quote.quoted if usd is not None]
    return sum(known) / len(known) if known and len(known) == len(quote.quoted) else None


async def _quoted(solver: Solver, ctx: Context, task: Task) -> None:
    try:
        await solver.solve(ctx, task)
    except Missing:
        return
