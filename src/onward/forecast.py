"""What a run or a resume would do: kept, owed, new and gone, and why; calls, cost and time. Spends and writes nothing.

    of_run(spec, folder, settings)      what `onward run` would do
    of_resume(name, settings)           what `onward resume` would do

Costs go by what this run's own calls came to, or its parent's; where there are none, by list price as an upper bound.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from onward import choice, launch
from onward.config import Settings
from onward.drive import gateway_of
from onward.errors import Drifted, OnwardError
from onward.estimate import Work, estimate
from onward.experiment import Assembled, Spec
from onward.keys import Key
from onward.lineage import Wanted
from onward.plan import STAGES, Plan
from onward.progress import Quiet
from onward.runs import Run, cut_off, find, folder_name, open_run, run_id
from onward.staging import agents_of, asked, unplayable
from onward.takeover import Takeover, survey
from onward.tasks import Task
from onward.views.begun import Begun, replay_seconds, unfinished

__all__ = ["CUT", "Forecast", "Owed", "Underway", "of_resume", "of_run"]

CUT = "cut off in the middle"
_TOLD = 10
"""Remarks on tasks that are named."""


@dataclass(frozen=True, slots=True)
class Owed:
    """So many steps of a stage, and why."""

    stage: str
    why: str
    count: int


@dataclass(frozen=True, slots=True)
class Underway:
    """Trials that were cut off in the middle of an agent's episode."""

    trials: int
    exchanges: int
    """Recorded, all together."""
    seconds: float
    """How long they take to be served again."""
    usd: float | None
    """What they cost; None where nobody knows."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What would happen."""

    run: str
    exists: bool
    trials: int
    """Trials in the plan."""
    done: int
    now: int
    """Trials that this invocation would take on."""
    kept: Mapping[str, int]
    """Stage → recorded results that stand."""
    owed: tuple[Owed, ...]
    new: int
    """Trials that nothing is recorded of."""
    gone: int
    """Tasks that a parent has and this run does not want."""
    parents: tuple[str, ...]
    in_doubt: int
    in_doubt_usd: float
    calls: int | None
    """Model calls; None where a solver's own code decides and nothing is recorded to go by."""
    usd: float | None
    basis: str
    """Where cost comes from: `averages`, `list price` (at most), `nothing to ask`, `agents` (which ask as often as they
    see fit), or `unknown`."""
    seconds: float | None
    bounded: bool = False
    """Whether `seconds` is what agents' limits allow at most; else it goes by how long recorded calls took."""
    notes: tuple[str, ...] = ()
    going_on: Underway | None = None
    """Trials that are served what is recorded of them, and go on from there."""
    given_up: Underway | None = None
    """… that would begin again (`--in-flight restart`)."""

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


# ---------------------------------------------------------------- the two doors


def of_run(spec: Spec, folder: Path, settings: Settings) -> Forecast:
    """What `onward run` would do. Raises what it would raise, Drifted included."""
    return asyncio.run(_of_run(spec, folder, settings))


def of_resume(name: str | None, settings: Settings) -> Forecast:
    """What `onward resume` would do. Raises NotThere; with `strict`, Drifted."""
    return asyncio.run(_of_resume(name, settings))


async def _of_resume(name: str | None, settings: Settings) -> Forecast:
    watch = Quiet()
    folder = find(settings.store, name) if name else choice.latest_unfinished(settings, watch)
    run = open_run(folder)
    try:
        assembled = launch.stored(run)
        changed = launch.drift_of(run, assembled)
        if changed and settings.flags.strict:
            raise Drifted(f"{', '.join(changed)} changed since {run.name} was made (--strict)")
        notes = (f"{', '.join(changed)} changed: it would go on in a derived run",) if changed else ()
        return await _standing(_Case(run, assembled, settings, run.plan, notes=notes))
    finally:
        run.close()


async def _of_run(spec: Spec, folder: Path, settings: Settings) -> Forecast:
    from onward.experiment import assemble

    assembled = assemble(launch.identified(spec), folder)
    made = launch.read_wanted(assembled, folder, settings, None, settings.flags.limit)
    flags, store = settings.flags, settings.store
    containing = choice.containing(made, store, sized=flags.limit is not None) if flags.resume else None
    replicate, exact = choice.replicate_of(made, store)
    place = containing or (None if flags.new else exact)
    if place is None:
        id_ = run_id(made.identity, replicate + (flags.new and exact is not None), None)
        found = await _fresh(made, settings, folder_name(spec.name, id_))
        pairs = ((solver, task) for _, task in choice.by_id(made).values() for solver in made.plan.solvers)
        return _telling(found, made, _out_of_reach(made.assembled.spec, pairs))
    run = open_run(place)
    try:
        if flags.if_exists == "error":
            raise OnwardError(f"the run of exactly this spec exists: {run.name} (--if-exists error)")
        case = _case_of(run, made, settings, extends=containing is None or flags.limit is not None)
        return _telling(await _standing(case), made, Counter())
    finally:
        run.close()


def _telling(found: Forecast, made: Wanted, lacking: Counter[str]) -> Forecast:
    """With what its tasks ask for and nobody does, and what else they lack."""
    counts = Counter(said for task in made.plan.task_ids() for said in made.told.get(task, ()))
    return replace(found, notes=(*found.notes, *_noted(counts + lacking, made.count)))


def _noted(counts: Counter[str], tasks: int) -> Iterator[str]:
    for said, count in counts.most_common(_TOLD):
        yield f"{count:,} of {tasks:,} tasks: {said}"
    if len(counts) > _TOLD:
        yield f"and {len(counts) - _TOLD:,} more: onward tasks check"


def _out_of_reach(spec: Spec, pairs: Iterable[tuple[str, Task]]) -> Counter[str]:
    """Why agents cannot be given tasks on this machine, and how many tasks that is about. `pairs`: (solver, task)."""
    agents = {solver.name: solver for solver in agents_of(spec)}
    found = {(task.id, unplayable(agents[name], task)) for name, task in pairs if name in agents} if agents else set()
    return Counter(why for _, why in found if why)


@dataclass(slots=True)
class _Case:
    """A standing run, and what is wanted of it."""

    run: Run
    assembled: Assembled
    settings: Settings
    plan: Plan
    tasks: Mapping[str, tuple[str, Task]] | None = None
    extra: int = 0
    """Trials that would be added."""
    only: Callable[[str], bool] | None = None
    added: tuple[Task, ...] = ()
    """The tasks that would be added."""
    notes: tuple[str, ...] = ()


def _case_of(run: Run, made: Wanted, settings: Settings, *, extends: bool) -> _Case:
    recorded = list(run.plan.task_ids())
    same = made.selection == run.facts["selection"]
    case = _Case(run, made.assembled, settings, run.plan)
    if same and extends and made.count > len(recorded):
        if made.order != run.facts["order"]:
            raise Drifted(f"the source of {run.name} has changed since it was made: run it as --parent {run.name}")
        case.extra = (made.count - len(recorded)) * len(run.plan.solvers) * run.plan.trials
        case.notes = (f"{len(recorded):,} → {made.count:,} tasks",)
        known = set(recorded)
        case.added = tuple(task for name, (_, task) in choice.by_id(made).items() if name not in known)
    elif not same or (settings.flags.limit is not None and made.count < len(recorded)):
        case.only = {task for chunk in made.chunks for task in chunk.ids}.__contains__
    return case


# ---------------------------------------------------------------- a run that stands


async def _standing(case: _Case) -> Forecast:
    run, flags = case.run, case.settings.flags
    ask = gateway_of(case.assembled, launch.priced(run, case.assembled, case.settings)[0])
    plan = _narrowed(case)
    rerun = flags.if_exists == "rerun"
    try:
        if rerun:
            found = Takeover(run)
            found.owed["generate", "--if-exists rerun"] = len(plan) * plan.shape.samples
        else:
            found = await survey(run, case.assembled, plan, case.tasks, failures=True)
        settled = (
            {key for key, standing in run.standings(flags.until).items() if standing == "settled"}
            if not rerun
            else set()
        )
        keys = [key for chunk in plan.chunks for _, _, key in plan.trial_keys(chunk)]
        todo = sum(1 for key in keys if key not in settled) + case.extra
        now = min(todo, flags.max_new * len(plan.solvers) * plan.trials) if flags.max_new is not None else todo
        begun = {} if rerun else _begun(run, case.assembled, (key for key in keys if key not in settled))
        again = set(cut_off(run)) if flags.restart else set()
        begun_new = sum(one.outcome is None for own in begun.values() for one in own)
        if begun_new:
            found.owed["generate", CUT] = begun_new
            found.owed["generate", "new"] -= begun_new
        owed = _owed(found.owed, flags.until)
        new = sum(one.count for one in owed if one.why == "new") + case.extra
        doubt, doubt_usd = run.in_doubt()
        added = [(solver, task) for task in case.added for solver in run.plan.solvers]
        wanting = ((one, task) for key, one, task in _owing(run, plan, settled) if rerun or asked(run, key, one))
        tasks = sum(1 for _ in run.plan.task_ids()) + len(case.added)
        lacking = _noted(_out_of_reach(case.assembled.spec, chain(wanting, added)), tasks)
        every = [one for own in begun.values() for one in own]
        work = Work(
            case.assembled, ask, case.settings, [run], _by_stage(owed), case.extra, todo, now,
            [one.exchanges for one in every if one.key not in again], sum(one.exchanges for one in every),
        )  # fmt: skip
        cost = await estimate(work, chain(((one, task) for _, one, task in _owing(run, plan, settled)), added))
        total = len(run.plan) + case.extra
        return Forecast(
            run.name, True, total, len(run.plan) - _left(run, settled), now, dict(found.kept), owed, new, 0, (), doubt,
            doubt_usd, *cost, notes=(*case.notes, *lacking),
            going_on=_underway(begun, lambda one: one.key not in again),
            given_up=_underway(begun, lambda one: one.key in again),
        )  # fmt: skip
    finally:
        await ask.close()


def _begun(run: Run, assembled: Assembled, owed: Iterable[Key]) -> dict[Key, list[Begun]]:
    """What is recorded of the owed trials of agents that were left in the middle."""
    agents = {solver.name for solver in agents_of(assembled.spec)}
    found = {key: list(unfinished(run, str(key))) for key in owed if key.names[0] in agents}
    return {key: own for key, own in found.items() if own}


def _underway(begun: Mapping[Key, Sequence[Begun]], which: Callable[[Begun], bool]) -> Underway | None:
    trials = [own for own in ([one for one in every if which(one)] for every in begun.values()) if own]
    chosen = [one for own in trials for one in own]
    costs = [one.usd for one in chosen if one.usd is not None]
    if not chosen:
        return None
    return Underway(
        len(trials), sum(one.exchanges for one in chosen), sum(replay_seconds(one.spans) for one in chosen),
        sum(costs) if costs else None,
    )  # fmt: skip


def _left(run: Run, settled: set[str]) -> int:
    return sum(1 for chunk in run.plan.chunks for _, _, key in run.plan.trial_keys(chunk) if key not in settled)


def _narrowed(case: _Case) -> Plan:
    """The plan, less what this invocation would not touch."""
    flags, begun = case.settings.flags, case.settings.flags.resume_from is None
    chunks = []
    for chunk in case.plan.chunks:
        ids = []
        for task in chunk.ids:
            begun = begun or task == flags.resume_from
            if begun and (case.only is None or case.only(task)):
                ids.append(task)
        chunks.append(replace(chunk, ids=tuple(ids)))
    return replace(case.plan, chunks=tuple(chunk for chunk in chunks if chunk.ids))


def _owed(found: Mapping[tuple[str, str], int], until: str | None) -> tuple[Owed, ...]:
    last = STAGES.index(until) if until else len(STAGES)
    rows = [Owed(stage, why, count) for (stage, why), count in found.items() if count and STAGES.index(stage) <= last]
    return tuple(sorted(rows, key=lambda one: (STAGES.index(one.stage), one.why)))


def _by_stage(rows: Iterable[Owed]) -> Counter[str]:
    found = Counter[str]()
    for one in rows:
        found[one.stage] += one.count
    return found


def _owing(run: Run, plan: Plan, settled: set[str]) -> Iterator[tuple[Key, str, Task]]:
    """(key, solver, task) of the trials that are owed, the task from the run's own copy."""
    for chunk in plan.chunks:
        wanted = [(solver, task, key) for solver, task, key in plan.trial_keys(chunk) if key not in settled]
        if wanted:
            content = {task.id: task for _, task in run.tasks(chunk)}
            yield from ((key, solver, content[task]) for solver, task, key in wanted)


# ---------------------------------------------------------------- a run that is not there yet


async def _fresh(made: Wanted, settings: Settings, name: str) -> Forecast:
    ask, watch, flags = gateway_of(made.assembled, settings), Quiet(), settings.flags
    takeovers = (
        []
        if flags.new
        else await choice.taken_over(made, choice.parents_of(made, settings), watch, always=bool(flags.parents))
    )
    try:
        owed, kept, surveyed = Counter[tuple[str, str]](), Counter[str](), set[str]()
        wanted = set(made.plan.task_ids())
        gone = 0
        for takeover in takeovers:
            owed.update(takeover.owed)
            kept.update(takeover.kept)
            theirs = set(takeover.parent.plan.task_ids())
            gone += len(theirs - wanted)
            surveyed |= theirs & wanted
        extra = len(wanted - surveyed) * len(made.plan.solvers) * made.plan.trials
        rows = _owed(owed, flags.until)
        todo = extra + sum(takeover.unfinished for takeover in takeovers)
        parents = [takeover.parent for takeover in takeovers]
        tasks = (task for _, task in choice.by_id(made).values())
        pairs = ((solver, task) for task in tasks for solver in made.plan.solvers)
        now = min(todo, flags.max_new * len(made.plan.solvers)) if flags.max_new is not None else todo
        cost = await estimate(Work(made.assembled, ask, settings, parents, _by_stage(rows), extra, todo, now), pairs)
        new = extra + sum(takeover.fresh for takeover in takeovers)
        return Forecast(
            name, False, len(made.plan), max(0, len(made.plan) - todo), now, dict(kept), rows, new, gone,
            tuple(parent.name for parent in parents), 0, 0.0, *cost, notes=tuple(watch.lines),
        )  # fmt: skip
    finally:
        await ask.close()
        for takeover in takeovers:
            takeover.parent.close()
