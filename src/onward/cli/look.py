"""Looking: `runs`, `show`, `compare`. They read, while the run goes on or after; nothing here writes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from onward import lease, views
from onward.clock import SystemClock
from onward.config import settings
from onward.errors import NotThere, OnwardError, UsageError
from onward.keys import Key
from onward.report import pages, parts
from onward.report.plain import as_json, plain
from onward.report.trajectory import trajectory_page
from onward.runs import Run, find, open_run, stored_runs
from onward.tasks import Task

__all__ = ["Asked", "Narrow", "compare", "runs", "show"]

_LOOK_AGAIN = 0.2
"""Seconds between two looks at a run that is followed."""
_WIDTH = 100
"""Columns that an episode takes at most."""
_LOOKS: Mapping[str, Mapping[str, Any]] = {
    "head": {"bold": True}, "live": {"fg": "green"}, "served": {"fg": "cyan"}, "recorded": {"fg": "blue"},
    "odd": {"fg": "yellow", "bold": True}, "bad": {"fg": "red"}, "tool": {"bold": True}, "quiet": {"dim": True},
}  # fmt: skip

Store = Annotated[
    Path | None, typer.Option("--store", "--output", metavar="DIR", help="Folder of the runs.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
WrongBook = Annotated[
    bool, typer.Option("--wrong", help="The wrong-answer book: what is wrong, how often, since when.")
]
Errors = Annotated[bool, typer.Option("--errors", help="What went wrong, by reason, with every attempt.")]
InFlight = Annotated[bool, typer.Option("--in-flight", help="Calls that left and have no answer yet.")]
Why = Annotated[bool, typer.Option("--why", help="What it depends on, where it comes from, what was voided.")]
Follow = Annotated[bool, typer.Option("--follow", help="Show results as they land, until the driver is gone.")]
Trajectory = Annotated[
    bool, typer.Option("--trajectory", help="An agent's episode: lanes, turns, tool calls; recorded, served, live.")
]
Full = Annotated[bool, typer.Option("--full", help="With --trajectory: whole texts, not a line of each.")]
LaneNumber = Annotated[
    int | None, typer.Option("--lane", metavar="N", help="With --trajectory: this lane alone.", show_default=False)
]
TurnNumber = Annotated[
    int | None, typer.Option("--turn", metavar="N", help="With --trajectory: this turn alone.", show_default=False)
]


def _say(text: str) -> None:
    typer.echo(text)


def runs(store: Store = None, json: Json = False) -> None:
    """List the runs of the store, newest first: state, score, money."""
    where, clock = settings(store=store).store, SystemClock()
    rows: list[tuple[str, views.Summary | str, Any]] = []
    for folder in stored_runs(where):
        try:
            run = open_run(folder)
        except OnwardError as error:
            rows.append((folder.name, str(error), None))
            continue
        try:
            rows.append((folder.name, views.summary(run), lease.driver(run.journal, clock)))
        except OnwardError as error:
            rows.append((folder.name, str(error), None))
        finally:
            run.close()
    if json:
        told = [
            {"run": name, "state": "damaged", "why": found} if isinstance(found, str) else pages.runs_row(found, driver)
            for name, found, driver in rows
        ]
        _say(as_json(told))
    else:
        _say(pages.runs_table(rows, clock.now()) if rows else f"no runs in {where}")


@dataclass(frozen=True, slots=True)
class Narrow:
    """How much of an episode is shown: whole texts or lines, one lane, turns of one number."""

    full: bool = False
    lane: int | None = None
    turn: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be shown. `lists`: flags of lists over a whole run, of which one may be given."""

    lists: tuple[str, ...] = ()
    why: bool = False
    follow: bool = False
    trajectory: bool = False
    narrow: Narrow = Narrow()


def show(address: str, asked: Asked, store: Path | None = None, *, json: bool = False) -> None:
    """Look at a run or a part of it. Raises UsageError for what cannot be asked together."""
    folder, rest = views.locate(settings(store=store).store, address)
    if asked.narrow != Narrow() and not asked.trajectory:
        raise UsageError(f"--full, --lane and --turn go with --trajectory: onward show {address} --trajectory")
    if asked.trajectory and not rest:
        raise UsageError(f"a trajectory is of a trial: onward show {folder.name}/TASK --trajectory")
    if len(asked.lists) + asked.trajectory + (asked.why and not (rest and not asked.trajectory)) > 1:
        raise UsageError("show one thing at a time: --wrong, --errors, --in-flight, --why or --trajectory")
    if rest and (asked.lists or asked.follow):
        flag = (*asked.lists, "--follow")[0]
        raise UsageError(f"{flag} is about a whole run: onward show {folder.name} {flag}")
    run = open_run(folder)
    try:
        if rest:
            place = views.within(run, rest)
            if asked.trajectory:
                _show_trajectory(run, place, asked.narrow, json=json)
            else:
                _show_part(run, place, why=asked.why, json=json)
        elif asked.follow:
            _follow(run, folder, json=json)
        elif asked.lists or asked.why:
            _show_list(run, folder, (*asked.lists, "--why")[0], json=json)
        else:
            _show_run(run, json=json)
    finally:
        run.close()


def _show_run(run: Run, *, json: bool) -> None:
    found, driver = views.summary(run), lease.driver(run.journal, SystemClock())
    if not json:
        _say(pages.run_page(run, found, driver, views.continuation(run)))
        return
    told = {**plain(found), "state": views.state(found, driver), "done": found.done, "owed": found.owed}
    told |= {
        "folder": str(run.folder),
        "driver": driver,
        "config": run.config["spec"],
        "selection": run.facts["selection"],
    }
    told |= {"source": run.facts["source"], "parents": run.facts["run"].get("parents", [])}
    told |= {"continues": views.continuation(run)}
    _say(as_json(told))


def _show_list(run: Run, folder: Path, what: str, *, json: bool) -> None:
    found: Any
    if what == "--wrong":
        found = views.wrong(run)
        text = pages.wrong_page(found, len(run.plan.solvers))
    elif what == "--errors":
        groups, repaired = views.troubles(run)
        found = {"groups": groups, "repaired": repaired}
        text = pages.errors_page(groups, repaired)
    elif what == "--in-flight":
        found = views.in_doubt(run)
        text = pages.doubt_page(found, lease.driver(run.journal, SystemClock()))
    else:
        with ExitStack() as stack:
            found = views.lineage(run, _parents(run, folder.parent, stack))
        text = pages.lineage_page(found)
    _say(as_json(found) if json else text)


def _parents(run: Run, store: Path, stack: ExitStack) -> dict[str, Run]:
    """Those of its parents that lie in the same store."""
    found: dict[str, Run] = {}
    for id_ in run.facts["run"].get("parents", ()):
        with suppress(OnwardError):
            parent = open_run(find(store, str(id_)))
            stack.callback(parent.close)
            found[str(id_)] = parent
    return found


# ---------------------------------------------------------------- a part


def _show_part(run: Run, place: views.Address, *, why: bool, json: bool) -> None:
    if why:
        found = [
            one
            for key in place.trials
            for one in views.step_why(run, Key(f"{key}/{place.stage}") if place.stage else key)
        ]
        _say(as_json(found) if json else parts.why_page(found))
        return
    trials = [(views.trial(run, key, scored=place.scored), views.steps(run, key)) for key in place.trials]
    if not place.stage:
        task = _task(run, place.task)
        if json:
            _say(as_json({"task": task.to_json(), "trials": [{**plain(one), "steps": steps} for one, steps in trials]}))
        else:
            _say("\n\n".join([parts.task_page(task), *(parts.trial_part(one, steps) for one, steps in trials)]))
        return
    found_steps = [
        step for _, steps in trials for step in steps
        if step.name == place.stage or step.name.partition("/")[0] == place.stage
    ]  # fmt: skip
    if place.exchange:
        _show_exchanges(run, found_steps, place.exchange, json=json)
        return
    calls = [(step, views.exchanges(run, step.key)) for step in found_steps]
    if json:
        _say(as_json([{**plain(step), "exchanges": found} for step, found in calls]))
    else:
        _say("\n\n".join(parts.step_page(step, found) for step, found in calls))


def _show_exchanges(run: Run, steps: list[views.Tried], name: str, *, json: bool) -> None:
    found, last = list[views.Exchange](), NotThere(f"there is no exchange {name!r}")
    for step in steps:
        try:
            found.append(views.exchange(run, step.key, name))
        except NotThere as error:
            last = error
    if not found:
        raise last
    _say(as_json(found) if json else "\n\n".join(map(parts.exchange_page, found)))


def _show_trajectory(run: Run, place: views.Address, narrow: Narrow, *, json: bool) -> None:
    found = views.episodes(run, place)
    views.narrowed(found, narrow.lane, narrow.turn)
    if json:
        _say(as_json(found))
        return
    from rich.console import Console

    screen = Console()
    width = min(screen.width, _WIDTH) if screen.is_terminal else _WIDTH
    paint = _painted if screen.is_terminal and not screen.no_color else _as_it_is
    _say(trajectory_page(found, full=narrow.full, width=width, paint=paint))


def _painted(style: str, text: str) -> str:
    return typer.style(text, **_LOOKS[style]) if text else ""


def _as_it_is(style: str, text: str) -> str:
    return text


def _task(run: Run, id_: str) -> Task:
    for chunk in run.plan.chunks:
        if id_ in chunk.ids:
            return next(task for _, task in run.tasks(chunk) if task.id == id_)
    raise NotThere(f"{run.name} has no task {id_!r}")


# ---------------------------------------------------------------- following


def _follow(run: Run, folder: Path, *, json: bool) -> None:
    """Print what lands until nobody drives the run; then the first line of what it came to."""
    clock, pause, seen = SystemClock(), threading.Event(), 0
    while True:
        live = lease.driver(run.journal, clock) is not None  # asked before reading: what it wrote last is read after
        entries, seen = views.follow(run, seen)
        if json:
            for entry in entries:
                _say(_line(entry))
        else:
            for line in pages.landed(entries):
                _say(line)
        if not live:
            break
        pause.wait(_LOOK_AGAIN)
    run.close()
    ended = open_run(folder)
    try:
        if not json:
            _say(views.headline(views.summary(ended), None))
    finally:
        ended.close()


def _line(entry: Any) -> str:
    from json import dumps

    told = {"key": entry.key, "at": entry.at, "outcome": entry.outcome, "value": entry.value, "usd": entry.usd}
    return dumps(plain({**told, "error": entry.data.get("error")}), ensure_ascii=False)


# ---------------------------------------------------------------- comparing


def compare(
    a: Annotated[str, typer.Argument(metavar="RUN[/SOLVER]", show_default=False)],
    b: Annotated[str | None, typer.Argument(metavar="RUN[/SOLVER]", show_default=False)] = None,
    score: Annotated[
        str | None, typer.Option("--score", help="Which score (default: the first in common).", show_default=False)
    ] = None,
    after_reruns: Annotated[
        bool, typer.Option("--after-reruns", help="As it stands now, not as of the first go.")
    ] = False,
    flips: Annotated[bool, typer.Option("--flips", help="List the tasks on which they differ.")] = False,
    store: Store = None,
    json: Json = False,
) -> None:
    """Compare the solvers of a run, or two runs, task by task: difference, interval, exact McNemar p."""
    where = settings(store=store).store
    left = _sides(where, a, after_reruns=after_reruns)
    if b is None:
        pairs = views.pairs_of(left)
        if not pairs:
            raise UsageError(f"{a} has one solver: name a second run to compare it with")
    else:
        right = _sides(where, b, after_reruns=after_reruns)
        same = [name for name in left if name in right]
        if len(left) == len(right) == 1:
            pairs = [(next(iter(left.values())), next(iter(right.values())))]
        elif same:
            pairs = [(left[name], right[name]) for name in same]
        else:
            raise UsageError(f"which of them? {a}: {', '.join(left)}; {b}: {', '.join(right)}. Say RUN/SOLVER")
    found = [views.compare(one, two, score) for one, two in pairs]
    if json:
        _say(as_json([{**plain(one), "flips": one.flips if flips else len(one.flips)} for one in found]))
    else:
        _say(parts.comparison_page(found, flips=flips, first_go=not after_reruns))


def _sides(store: Path, name: str, *, after_reruns: bool) -> dict[str, views.Side]:
    folder, solver = views.locate(store, name)
    run = open_run(folder)
    try:
        found = views.sides(run, after_reruns=after_reruns)
    finally:
        run.close()
    if solver and solver not in found:
        raise NotThere(f"{folder.name} has no solver {solver!r}; there are {', '.join(found)}")
    return {solver: found[solver]} if solver else found
