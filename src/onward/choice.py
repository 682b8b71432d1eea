"""Which run a verb means (SEMANTICS §3), and what a new one takes over from its parents."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onward import lease, lineage
from onward.clock import SystemClock
from onward.config import Settings
from onward.errors import Drifted, NotThere, OnwardError, UsageError
from onward.experiment import Assembled
from onward.lineage import Wanted
from onward.plan import Plan
from onward.progress import Watch
from onward.runs import Run, find, open_run, run_id, stored_runs
from onward.takeover import Takeover, survey, told, told_continued
from onward.tasks import Task
from onward.views.continued import at_limit

__all__ = [
    "Choice", "by_id", "choose", "containing", "derive", "derive_continuation", "latest_unfinished",
    "own_command", "parents_of", "replicate_of", "taken_over",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choice:
    """The run's folder, and how this invocation is narrowed."""

    folder: Path
    only: Callable[[str], bool] | None = None
    rerun: bool = False
    extends: bool = True
    """Whether tasks that are wanted beyond what is recorded are added: `--resume` without a limit only finishes."""


async def choose(
    made: Wanted, again: Callable[[int], Wanted], check: Callable[[], None], settings: Settings, watch: Watch
) -> Choice:
    """The run that `onward run` means, made if need be. `again` reads the same tasks with another limit; `check`
    raises where its models cannot be asked, before a folder is made in vain.

    Raises UsageError where it exists and must not, NotThere for a parent that does not.
    """
    flags, store = settings.flags, settings.store
    if flags.resume:
        found = containing(made, store, sized=flags.limit is not None)
        if found is not None:
            return _resumed(found, made, settings, watch)
        watch.say("nothing recorded yet: starting from the beginning")
    replicate, standing = replicate_of(made, store)
    if standing is not None and not flags.new:
        if flags.if_exists == "error":
            raise UsageError(f"the run of exactly this spec exists: {standing.name} (--if-exists error)")
        return Choice(standing, _narrowed(made, settings, standing), flags.if_exists == "rerun")
    if flags.new and standing is not None:
        replicate += 1
    if flags.new:
        check()
        return Choice(await lineage.create(store, made, SystemClock(), replicate=replicate), extends=False)
    parents = parents_of(made, settings)
    try:
        if flags.strict and parents and not flags.parents:
            changed = _changed(made, parents[0])
            raise Drifted(f"{changed} since {parents[0].name}: this would be a derived run (--strict)")
        only = None
        # A derived run's plan is its parent's whole plan; a limit narrows only what is done now. (Other filters or
        # another source make another list: there the limit says how much of it is wanted.)
        alike = [parent for parent in parents if parent.facts["order"] == made.order]
        most = max((sum(1 for _ in parent.plan.task_ids()) for parent in alike), default=0)
        if flags.limit is not None and made.count < most:
            only = {task for chunk in made.chunks for task in chunk.ids}.__contains__
            made = again(most)
        takeovers = await taken_over(made, parents, watch, always=bool(flags.parents))
        if not takeovers:
            check()
        place = await lineage.create(store, made, SystemClock(), replicate=replicate, takeovers=takeovers)
    finally:
        for parent in parents:
            parent.close()
    return Choice(place, only, extends=False)


def latest_unfinished(settings: Settings, watch: Watch) -> Path:
    """The run that `resume` without a name means. Raises NotThere where every run is complete, or a wrapped program,
    which nobody but its own command can go on with."""
    others = []
    for folder in stored_runs(settings.store):
        try:
            run = open_run(folder)
        except OnwardError:
            continue
        settled = sum(1 for standing in run.standings(settings.flags.until).values() if standing == "settled")
        held = lease.driver(run.journal, SystemClock())
        owed, command = len(run.plan) - settled, own_command(run)
        run.close()
        if owed and command and not held:
            others.append(f"{folder.name}, a wrapped program, goes on by its own command. {command}")
        elif owed and not command:
            for line in others:
                watch.say(line)
            driven = ", which another process drives" if held else ""
            watch.say(f"resuming {folder.name}, the latest unfinished run{driven}")
            return folder
    if others:
        raise NotThere("\n".join(("nothing that `onward resume` can go on with:", *others)))
    raise NotThere(f"nothing to resume: every run in {settings.store} is complete")


def own_command(run: Run) -> str:
    """Where, and by which command, a wrapped program goes on; empty for every other run."""
    solvers = run.config["spec"].get("solver") or ()
    wrapped = next((one["wrapped"] for one in solvers if one.get("wrapped")), ())
    if not wrapped:
        return ""
    folder, store = Path(run.config.get("folder", ".")), run.folder.absolute().parent
    stored = () if store == folder / "runs" else ("--store", str(store))
    words = wrapped if "--" in wrapped else [*wrapped, "--", *run.command]
    return f"In {folder}: onward wrap {shlex.join([*run.terms, *stored, *words])}"


def _changed(made: Wanted, parent: Run) -> str:
    """Which sections of the identity differ, by name."""
    here, there = made.identity, parent.facts["identity"]
    return ", ".join(sorted(name for name in {*here, *there} if here.get(name) != there.get(name))) + " changed"


def replicate_of(made: Wanted, store: Path) -> tuple[int, Path | None]:
    """The newest replicate of this spec that exists, and its folder."""
    replicate, found = 0, None
    while (
        place := lineage.existing(store, made.assembled.spec.name, run_id(made.identity, replicate, None))
    ) is not None:
        found, replicate = place, replicate + 1
    return max(0, replicate - 1), found


def _narrowed(made: Wanted, settings: Settings, folder: Path) -> Callable[[str], bool] | None:
    """A smaller --limit than recorded narrows this invocation; it never deletes."""
    if settings.flags.limit is None:
        return None
    standing = open_run(folder)
    recorded = sum(1 for _ in standing.plan.task_ids())
    standing.close()
    if made.count >= recorded:
        return None
    wanted_ids = {task for chunk in made.chunks for task in chunk.ids}
    return wanted_ids.__contains__


def containing(made: Wanted, store: Path, *, sized: bool = True) -> Path | None:
    """The run with exactly these filters, else the newest of this experiment whose filters let in all of these."""
    own = {name: value for name, value in made.identity.items() if name != "tasks"}
    wider: Path | None = None
    for folder in stored_runs(store):
        try:
            run = open_run(folder)
        except OnwardError:
            continue
        identity, selection = dict(run.facts["identity"]), dict(run.facts["selection"])
        run.close()
        tasks = identity.pop("tasks")
        if identity != own or tasks["source"] != made.identity["tasks"]["source"]:
            continue
        if _same_draw(selection, made.selection, stated=_seed_stated(made), sized=sized):
            return folder
        if wider is None and not selection.get("random") and _contains(selection, made.selection):
            wider = folder
    return None if made.selection.get("random") else wider


def _same_draw(recorded: Mapping[str, Any], asked: Mapping[str, Any], *, stated: bool, sized: bool) -> bool:
    """Equal filters; a random draw whose seed or size is not stated is any recorded draw of its kind."""
    if asked.get("random") and recorded.get("random") and not sized:
        asked = {**asked, "draw": recorded.get("draw")}
    if asked.get("random") and not stated:
        return {**recorded, "seed": 0} == {**asked, "seed": 0}
    return dict(recorded) == dict(asked)


def _seed_stated(made: Wanted) -> bool:
    return bool(made.assembled.spec.select.get("seed_stated"))


def _contains(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    return all(asked.get(name) == value for name, value in recorded.items())


def _resumed(folder: Path, made: Wanted, settings: Settings, watch: Watch) -> Choice:
    run = open_run(folder)
    sized = settings.flags.limit is not None
    same = _same_draw(run.facts["selection"], made.selection, stated=_seed_stated(made), sized=sized)
    recorded = len(list(run.plan.task_ids()))
    run.close()
    watch.say(f"resuming {folder.name}" + ("" if same else ", narrowed to the filters given"))
    if same and (settings.flags.limit is None or made.count >= recorded):
        return Choice(folder, extends=settings.flags.limit is not None)
    chosen = {task for chunk in made.chunks for task in chunk.ids}
    return Choice(folder, chosen.__contains__)


def parents_of(made: Wanted, settings: Settings) -> list[Run]:
    """The runs named as parents, else the newest run of this name, if there is one."""
    folders = [find(settings.store, parent) for parent in settings.flags.parents]
    if not folders:
        newest = lineage.newest_of(settings.store, made.assembled.spec.name)
        folders = [newest] if newest else []
    return [open_run(folder) for folder in folders]


async def taken_over(made: Wanted, parents: list[Run], watch: Watch, *, always: bool) -> list[Takeover]:
    """What each parent gives: a task that two of them have is taken from the one named first."""
    found: list[Takeover] = []
    fresh = by_id(made) if parents else {}
    taken: set[str] = set()
    for parent in parents:
        plan = _only(made.plan, set(parent.plan.task_ids()) - taken)
        takeover = await survey(parent, made.assembled, plan, fresh)
        taken |= set(plan.task_ids())
        if takeover.seqs or always:
            found.append(takeover)
    for takeover in found:
        watch.say(told(takeover, made.count - len(taken) if takeover is found[-1] else 0))
    return found


def by_id(made: Wanted) -> dict[str, tuple[str, Task]]:
    """(content digest, task) of what is wanted, by task id."""
    found = {}
    for chunk in made.chunks:
        for line in made.blobs[bytes.fromhex(chunk.tasks)].splitlines():
            form = json.loads(line)
            digest = form.pop("digest")
            found[form["id"]] = (digest, Task.from_json(form))
    return found


def _only(plan: Plan, ids: set[str]) -> Plan:
    chunks = [replace(chunk, ids=tuple(task for task in chunk.ids if task in ids)) for chunk in plan.chunks]
    return replace(plan, chunks=tuple(chunk for chunk in chunks if chunk.ids))


async def derive(
    parent: Run, assembled: Assembled, settings: Settings, watch: Watch, derivation: Any, *, failures: bool = False,
    above: str | None = None,
) -> Path:  # fmt: skip
    """The run derived from a parent by a verb: the same derivation twice is the same run (see `survey`)."""
    made = _of_parent(parent, assembled)
    derived = {**derivation, "parent": parent.id}
    standing = lineage.existing(settings.store, assembled.spec.name, run_id(made.identity, 0, derived))
    if standing is not None:
        return standing
    takeover = await survey(parent, assembled, made.plan, None, failures=failures, above=above)
    watch.say(told(takeover))
    return await lineage.create(settings.store, made, SystemClock(), derivation=derived, takeovers=[takeover])


async def derive_continuation(
    parent: Run, assembled: Assembled, settings: Settings, watch: Watch, derivation: Any, furthest: Mapping[str, Run],
    again: Container[str],
) -> Path:  # fmt: skip
    """The run in which trials of a parent are gone on with. `furthest`: the run that holds the most of each, the parent
    or an earlier continuation; `again`: those of them that have not come to their end there."""
    made = _of_parent(parent, assembled)
    derived = {**derivation, "parent": parent.id}
    standing = lineage.existing(settings.store, assembled.spec.name, run_id(made.identity, 0, derived))
    if standing is not None:
        return standing
    takeovers = [
        await survey(
            one, assembled, one.plan, None, continued=again,
            which=lambda key, one=one: furthest.get(key, parent) is one,  # type: ignore[misc]
        )
        for one in {run.id: run for run in (parent, *furthest.values())}.values()
    ]  # fmt: skip
    for line in filter(None, map(told_continued, takeovers)):
        watch.say(line)
    notes = {"continues": {"of": parent.name, "at_limit": at_limit(parent, furthest)}}
    return await lineage.create(
        settings.store, made, SystemClock(), derivation=derived, takeovers=takeovers, notes=notes
    )  # fmt: skip


def _of_parent(parent: Run, assembled: Assembled) -> Wanted:
    """The parent's whole plan, wanted again with these solvers and stages."""
    facts, chunks = parent.facts, list(parent.plan.chunks)
    files = {name: name for data in (facts, *parent.extensions) for name in data.get("files", {})}
    names = [bytes.fromhex(name) for name in (*(chunk.tasks for chunk in chunks), *files)]
    blobs = {name: parent.journal.blob(name) for name in names}
    return Wanted(assembled, facts["source"], facts["selection"], facts["order"], facts["total"], chunks, blobs, files)
