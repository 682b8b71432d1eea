"""The one door for Python, the command line and Studio: a verb, settings, and somebody who watches.

    ending = launch.run(spec, folder, settings(), watch)

Every function here is sync; the work behind it is async. Which run a verb means is decided in `lineage`; driving it is
the same for all verbs (`drive`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from onward import lineage
from onward.clock import SystemClock
from onward.config import Settings
from onward.drive import Ending, Invocation, drive, gateway_of
from onward.errors import Drifted, NotThere, OnwardError, UsageError
from onward.experiment import Assembled, Spec, assemble
from onward.journal import Journal, SqliteJournal
from onward.lineage import Takeover, Wanted, survey
from onward.once import Recorder
from onward.plan import STAGES, Plan
from onward.progress import Watch
from onward.runs import Run, find, open_run, run_id, stored_runs
from onward.tasks import Selection, Task, open_source

__all__ = ["redo", "replay", "rerun_failed", "resume", "retry_errors", "run", "run_async", "stop"]

T = TypeVar("T")


def _wait(work: Coroutine[Any, Any, T]) -> T:
    """The one sync door."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    work.close()
    raise UsageError("an event loop is running here already: await the _async form instead")


# ---------------------------------------------------------------- run


def run(
    spec: Spec, folder: Path, settings: Settings, watch: Watch, *, models: Mapping[str, Any] | None = None,
    source: Any = None,
) -> Ending:  # fmt: skip
    """Find or make the run of exactly this spec, and go on with it (SEMANTICS §3). `folder`: where its paths start.

    Raises UsageError, Held, Drifted, Damaged; what happens to tasks is in the Ending.
    """
    return _wait(run_async(spec, folder, settings, watch, models=models, source=source))


async def run_async(
    spec: Spec, folder: Path, settings: Settings, watch: Watch, *, models: Mapping[str, Any] | None = None,
    source: Any = None,
) -> Ending:  # fmt: skip
    """See `run`."""
    assembled = assemble(spec, folder)
    made = _wanted(assembled, folder, settings, source)
    chosen = await _choose(made, folder, settings, watch, models)
    voiding = _everything if chosen.rerun else None
    prelude = _extending(made, voiding, watch) if chosen.extends else voiding
    return await _go(chosen.folder, assembled, settings, watch, "run", models, chosen.only, prelude)


def _wanted(assembled: Assembled, folder: Path, settings: Settings, source: Any) -> Wanted:
    spec = assembled.spec
    if not assembled.solvers:
        raise UsageError(
            "No model chosen. Try: onward demo · --model local/smollm2 · --model openai/NAME (needs OPENAI_API_KEY)"
        )
    found = source or open_source(spec.tasks, folder, token=settings.keys.get("HF_TOKEN"))
    selection = Selection.of(spec.select)
    chosen = selection.choose(found.tasks())
    limit = settings.flags.limit if not selection.random else None
    return lineage.wanted(assembled, found.identity, selection.to_json(), chosen, limit)


@dataclass(frozen=True, slots=True)
class _Choice:
    folder: Path
    only: Callable[[str], bool] | None = None
    rerun: bool = False
    extends: bool = True
    """Whether tasks that are wanted beyond what is recorded are added: `--resume` without a limit only finishes."""


async def _choose(
    made: Wanted, folder: Path, settings: Settings, watch: Watch, models: Mapping[str, Any] | None
) -> _Choice:
    """The run's folder, made if need be, and how this invocation is narrowed."""
    flags, store, name = settings.flags, settings.store, made.assembled.spec.name
    if flags.resume:
        found = _containing(made, store)
        if found is not None:
            return _resumed(found, made, settings, watch)
        watch.say("nothing recorded yet: starting from the beginning")
    replicate, standing = _replicate(made, store)
    if standing is not None and not flags.new:
        if flags.if_exists == "error":
            raise UsageError(f"the run of exactly this spec exists: {standing.name} (--if-exists error)")
        return _Choice(standing, _narrowed(made, settings, standing), flags.if_exists == "rerun")
    if flags.new and standing is not None:
        replicate += 1
    takeovers = [] if flags.new else await _parents(made, settings, watch, models)
    return _Choice(await lineage.create(store, made, SystemClock(), replicate=replicate, takeovers=takeovers))


def _replicate(made: Wanted, store: Path) -> tuple[int, Path | None]:
    """The newest replicate of this spec that exists, and its folder."""
    replicate, found = 0, None
    while (place := lineage.existing(store, made.assembled.spec.name, run_id(made.identity, replicate, None))) is not None:
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


def _containing(made: Wanted, store: Path) -> Path | None:
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
        if _same_draw(selection, made.selection, stated=_seed_stated(made)):
            return folder
        if wider is None and not selection.get("random") and _contains(selection, made.selection):
            wider = folder
    return None if made.selection.get("random") else wider


def _same_draw(recorded: Mapping[str, Any], asked: Mapping[str, Any], *, stated: bool) -> bool:
    """Equal filters; a random draw without a stated seed is any recorded draw of its kind."""
    if asked.get("random") and not stated:
        return {**recorded, "seed": 0} == {**asked, "seed": 0}
    return dict(recorded) == dict(asked)


def _seed_stated(made: Wanted) -> bool:
    return bool(made.assembled.spec.select.get("seed_stated"))


def _contains(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    return all(asked.get(name) == value for name, value in recorded.items())


def _resumed(folder: Path, made: Wanted, settings: Settings, watch: Watch) -> _Choice:
    run = open_run(folder)
    same = _same_draw(run.facts["selection"], made.selection, stated=_seed_stated(made))
    recorded = len(list(run.plan.task_ids()))
    run.close()
    watch.say(f"resuming {folder.name}" + ("" if same else ", narrowed to the filters given"))
    if same and (settings.flags.limit is None or made.count >= recorded):
        return _Choice(folder, extends=settings.flags.limit is not None)
    chosen = {task for chunk in made.chunks for task in chunk.ids}
    return _Choice(folder, chosen.__contains__)


def _extending(made: Wanted, then: Any, watch: Watch) -> Any:
    """Under the lease: add the tasks that are wanted beyond what is recorded."""

    async def prelude(run: Run, recorder: Recorder) -> None:
        same = made.selection == run.facts["selection"] and made.assembled.identity == _without_tasks(run)
        recorded = sum(1 for _ in run.plan.task_ids())
        if same and made.count > recorded:
            added = await lineage.extend(run, recorder, made)
            watch.say(f"{recorded:,} → {recorded + added:,}: {added:,} new{_about(run, recorded, added)}")
        if then is not None:
            await then(run, recorder)

    return prelude


def _about(run: Run, recorded: int, added: int) -> str:
    """What so many more tasks will cost, by what the recorded ones did."""
    sums = run.journal.sums()
    usd = sums.spent[0] + sums.reused[0]
    return f", about ${usd / recorded * added:.2f}" if usd and recorded else ""


def _without_tasks(run: Run) -> dict[str, Any]:
    return {name: value for name, value in run.facts["identity"].items() if name != "tasks"}


async def _everything(run: Run, recorder: Recorder) -> None:
    await recorder.void([""], "--if-exists rerun")


# ---------------------------------------------------------------- parents


async def _parents(
    made: Wanted, settings: Settings, watch: Watch, models: Mapping[str, Any] | None
) -> list[Takeover]:
    """What a fresh run takes over: from the parents named, else from the newest run of its name."""
    store, name = settings.store, made.assembled.spec.name
    named = [find(store, parent) for parent in settings.flags.parents]
    default = lineage.newest_of(store, name) if not named else None
    found: list[Takeover] = []
    fresh = _by_id(made)
    taken: set[str] = set()
    for folder in named or ([default] if default else []):
        parent = open_run(folder)
        plan = _only(made.plan, set(parent.plan.task_ids()) - taken)
        takeover = await survey(parent, made.assembled, plan, fresh, gateway_of(made.assembled, settings, models), SystemClock())
        taken |= set(plan.task_ids())
        if takeover.seqs or named:
            watch.say(_told(takeover))
            found.append(takeover)
    return found


def _by_id(made: Wanted) -> dict[str, tuple[str, Task]]:
    found = {}
    for chunk in made.chunks:
        for line in made.blobs[bytes.fromhex(chunk.tasks)].splitlines():
            form = json.loads(line)
            digest = form.pop("digest")
            found[form["id"]] = (digest, Task.from_json(form))
    return found


def _only(plan: Plan, ids: set[str]) -> Plan:
    from dataclasses import replace

    chunks = [replace(chunk, ids=tuple(task for task in chunk.ids if task in ids)) for chunk in plan.chunks]
    return replace(plan, chunks=tuple(chunk for chunk in chunks if chunk.ids))


def _told(takeover: Takeover) -> str:
    kept, owed = takeover.kept, takeover.owed
    answers = kept.get("generate", 0)
    words = [f"takes over {answers} answers from {takeover.parent.name}"]
    for (stage, why), count in sorted(owed.items()):
        words.append(f"owes {count} {_plural(stage)}: {why}")
    if not any(stage in ("generate", "judge") for stage, _ in owed):
        words.append("0 calls")
    return " · ".join(words)


def _plural(stage: str) -> str:
    return {"generate": "answers", "reduce": "reductions", "parse": "parses", "score": "scores", "judge": "judgements"}[stage]


# ---------------------------------------------------------------- resume and its relatives


def resume(
    name: str | None, settings: Settings, watch: Watch, *, models: Mapping[str, Any] | None = None,
    before: Any = None, verb: str = "resume", only: Callable[[str], bool] | None = None,
) -> Ending:  # fmt: skip
    """Finish a run: its recorded list, from its own folder. Without a name, the latest unfinished one.

    Raises NotThere if there is nothing to resume; Held; with `strict`, Drifted where user code has changed.
    """
    return _wait(_resume(name, settings, watch, models, before, verb, only))


async def _resume(
    name: str | None, settings: Settings, watch: Watch, models: Mapping[str, Any] | None, before: Any, verb: str,
    only: Callable[[str], bool] | None,
) -> Ending:  # fmt: skip
    folder = find(settings.store, name) if name else _latest_unfinished(settings, watch)
    run = open_run(folder)
    try:
        assembled = _stored(run)
        changed = _drift(run, assembled)
        if changed and settings.flags.strict:
            raise Drifted(f"{', '.join(changed)} changed since {run.name} was made (--strict)")
        if changed:
            watch.say(f"{', '.join(changed)} changed since {run.name} was made: going on in a derived run")
            folder = await _derived(run, assembled, settings, watch, {"verb": "drift", "changed": changed}, models)
    finally:
        run.close()
    return await _go(folder, assembled, settings, watch, verb, models, only, before)


def _latest_unfinished(settings: Settings, watch: Watch) -> Path:
    for folder in stored_runs(settings.store):
        try:
            run = open_run(folder)
        except OnwardError:
            continue
        settled = sum(1 for standing in run.standings(settings.flags.until).values() if standing == "settled")
        held = run.journal.holder()
        owed = len(run.plan) - settled
        run.close()
        if owed:
            watch.say(f"resuming {folder.name}, the latest unfinished run" + (" (in use?)" if held else ""))
            return folder
    raise NotThere(f"nothing to resume: every run in {settings.store} is complete")


def _stored(run: Run, spec: Spec | None = None) -> Assembled:
    """The run's experiment, from its own folder; user code from where it was, if it is still there."""
    config = run.config
    folder = Path(config.get("folder", "."))
    return assemble(spec or Spec.model_validate(config["spec"]), folder, config)


def _drift(run: Run, assembled: Assembled) -> list[str]:
    """Which user code is no longer what the run recorded."""
    recorded, present = _without_tasks(run), assembled.identity
    if recorded == present:
        return []
    changed = [
        f"solver {name}" for name, parts in present["solvers"].items() if recorded["solvers"].get(name) != parts
    ]
    stages = present["stages"]
    return changed + [name for name, digest in stages.items() if recorded["stages"].get(name) != digest]


async def _derived(
    parent: Run, assembled: Assembled, settings: Settings, watch: Watch, derivation: Any,
    models: Mapping[str, Any] | None, *, failures: bool = False,
) -> Path:  # fmt: skip
    """The run derived from a parent by a verb: the same derivation twice is the same run."""
    made = _of_parent(parent, assembled)
    told = {**derivation, "parent": parent.id}
    standing = lineage.existing(settings.store, assembled.spec.name, run_id(made.identity, 0, told))
    if standing is not None:
        return standing
    ask = gateway_of(assembled, settings, models)
    takeover = await survey(parent, assembled, made.plan, None, ask, SystemClock(), failures=failures)
    watch.say(_told(takeover))
    return await lineage.create(settings.store, made, SystemClock(), derivation=told, takeovers=[takeover])


def _of_parent(parent: Run, assembled: Assembled) -> Wanted:
    """The parent's whole plan, wanted again with these solvers and stages."""
    facts, chunks = parent.facts, list(parent.plan.chunks)
    files = {name: name for data in (facts, *parent.extensions) for name in data.get("files", {})}
    names = [bytes.fromhex(name) for name in (*(chunk.tasks for chunk in chunks), *files)]
    blobs = {name: parent.journal.blob(name) for name in names}
    return Wanted(assembled, facts["source"], facts["selection"], facts["order"], facts["total"], chunks, blobs, files)


async def _go(
    folder: Path, assembled: Assembled, settings: Settings, watch: Watch, verb: str,
    models: Mapping[str, Any] | None, only: Callable[[str], bool] | None, prelude: Any,
) -> Ending:  # fmt: skip
    ask = gateway_of(assembled, settings, models)
    return await drive(Invocation(folder, assembled, settings, watch, ask, only, prelude, verb))


# ---------------------------------------------------------------- again, on purpose


def redo(address: str, settings: Settings, watch: Watch, *, models: Mapping[str, Any] | None = None) -> Ending:
    """Do a part again: `RUN`, `RUN/TASK` or `RUN/TASK/STAGE`. What was is kept, out of account."""
    name, _, rest = address.partition("/")
    task, _, stage = rest.partition("/")
    if stage and stage not in STAGES:
        raise UsageError(f"{stage!r} is no stage; there are {', '.join(STAGES)}")

    async def void(run: Run, recorder: Recorder) -> None:
        if not task:
            await recorder.void([""], "redo")
            return
        keys = [str(key) for chunk in run.plan.chunks for _, own, key in run.plan.trial_keys(chunk) if own == task]
        if not keys:
            raise NotThere(f"{run.name} has no task {task!r}")
        await recorder.void([f"{key}/{stage}" if stage else key for key in keys], f"redo {rest}")

    return resume(name, settings, watch, models=models, before=void, verb="redo")


def replay(
    name: str, stage: str, settings: Settings, watch: Watch, *, spec: Spec | None = None, folder: Path | None = None,
    models: Mapping[str, Any] | None = None,
) -> Ending:  # fmt: skip
    """Do `stage` and all below it again, always, over the recorded answers above it.

    With a `spec` whose stages differ it is a derived run; one whose generate stage differs is refused.
    """
    if stage not in STAGES[1:]:
        raise UsageError(f"replay starts at one of {', '.join(STAGES[1:])}, not at {stage!r}")
    below = STAGES[STAGES.index(stage) :]

    async def void(run: Run, recorder: Recorder) -> None:
        keys = [str(key) for chunk in run.plan.chunks for _, _, key in run.plan.trial_keys(chunk)]
        await recorder.void([f"{key}/{part}" for key in keys for part in below], f"replay from {stage}")

    if spec is None:
        return resume(name, settings, watch, models=models, before=void, verb="replay")
    return _wait(_replayed(name, stage, spec, folder or Path(), settings, watch, models, void))


async def _replayed(
    name: str, stage: str, spec: Spec, folder: Path, settings: Settings, watch: Watch,
    models: Mapping[str, Any] | None, void: Any,
) -> Ending:  # fmt: skip
    parent = open_run(find(settings.store, name))
    try:
        assembled = assemble(spec, folder)
        before, after = _without_tasks(parent), assembled.identity
        same = before["solvers"] == after["solvers"] and before["stages"]["samples"] == after["stages"]["samples"]
        if not same or before["trials"] != after["trials"]:
            raise UsageError("this spec changes the generate stage: that is a new run, not a replay. Use `onward run`")
        if before == after:
            place, prelude = parent.folder, void
        else:
            place, prelude = await _derived(parent, assembled, settings, watch, {"verb": "replay", "stage": stage}, models), None
    finally:
        parent.close()
    return await _go(place, assembled, settings, watch, "replay", models, None, prelude)


def rerun_failed(
    name: str | None, settings: Settings, watch: Watch, *, models: Mapping[str, Any] | None = None
) -> Ending:
    """Do again, in the next generation, every trial that did not pass its mark. Repeated while any is owed, it only
    finishes them."""
    from onward.views import below_mark

    async def void(run: Run, recorder: Recorder) -> None:
        standings = run.standings()
        generations = {key: run.voids.generation(key) for key in standings}
        unfinished = any(
            standings.get(key) != "settled" and run.voids.generation(key) > 0
            for chunk in run.plan.chunks for _, _, key in run.plan.trial_keys(chunk)
        )  # fmt: skip
        if unfinished:
            return
        again = [key for key in below_mark(run) if standings.get(key) == "settled" and key in generations]
        if again:
            await recorder.void(again, "--rerun-failed")

    return resume(name, settings, watch, models=models, before=void, verb="rerun-failed")


def retry_errors(name: str, settings: Settings, watch: Watch, *, models: Mapping[str, Any] | None = None) -> Ending:
    """A derived run that takes over all of RUN but its errors and what is missing, and does these."""
    return _wait(_retry_errors(name, settings, watch, models))


async def _retry_errors(name: str, settings: Settings, watch: Watch, models: Mapping[str, Any] | None) -> Ending:
    parent = open_run(find(settings.store, name))
    try:
        assembled = _stored(parent)
        folder = await _derived(parent, assembled, settings, watch, {"verb": "retry-errors"}, models, failures=True)
    finally:
        parent.close()
    return await _go(folder, assembled, settings, watch, "retry-errors", models, None, None)


def stop(name: str, settings: Settings, *, now: bool = False) -> str:
    """Ask the run's driver to stop. Returns what was done, in words. Raises NotThere where nobody drives it."""
    folder = find(settings.store, name)
    journal: Journal = SqliteJournal(folder)
    try:
        holder = journal.holder()
        if holder is None:
            raise NotThere(f"nobody drives {folder.name}: there is nothing to stop")
        journal.post(json.dumps({"want": "stop", "now": now}))
        return f"asked process {holder.pid} on {holder.host} to stop {folder.name}"
    finally:
        journal.close()


