"""The one door for Python, the command line and Studio: a verb, settings, and somebody who watches.

    ending = launch.run(spec, folder, settings(), watch)

Every function here is sync; the work behind it is async. Which run a verb means is decided in `lineage`; driving it is
the same for all verbs (`drive`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from onward import lineage
from onward.choice import by_id, choose, derive, latest_unfinished, own_command
from onward.config import Settings
from onward.drive import Ending, Invocation, drive, gateway_of
from onward.errors import Drifted, NotThere, UsageError
from onward.experiment import Assembled, Spec, assemble
from onward.journal import Journal, SqliteJournal
from onward.lineage import Wanted
from onward.once import Recorder
from onward.plan import STAGES
from onward.progress import Watch
from onward.runs import Run, find, open_run
from onward.tasks import Selection, open_source

__all__ = [
    "drift_of", "go", "identified", "priced", "read_wanted", "redo", "replay", "rerun_failed", "resume",
    "retry_errors", "run", "run_async", "stop", "stored", "wait",
]  # fmt: skip

T = TypeVar("T")


def wait(work: Coroutine[Any, Any, T]) -> T:
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
    return wait(run_async(spec, folder, settings, watch, models=models, source=source))


async def run_async(
    spec: Spec, folder: Path, settings: Settings, watch: Watch, *, models: Mapping[str, Any] | None = None,
    source: Any = None,
) -> Ending:  # fmt: skip
    """See `run`."""
    spec = identified(spec)
    assembled = assemble(spec, folder)
    made = read_wanted(assembled, folder, settings, source, settings.flags.limit)
    chosen = await choose(
        made, lambda limit: read_wanted(assembled, folder, settings, source, limit),
        partial(_askable, made, settings, models), settings, watch,
    )  # fmt: skip
    voiding = _everything if chosen.rerun else None
    prelude = _extending(made, voiding, watch) if chosen.extends else voiding
    del made  # its tasks are in the run now; a hundred thousand of them need not be here too
    return await _go(chosen.folder, assembled, settings, watch, "run", models, chosen.only, prelude)


def identified(spec: Spec) -> Spec:
    """The experiment with what its agents are on this machine."""
    if not any(solver.agent for solver in spec.solver or ()):
        return spec
    from onward import staging

    return staging.identified(spec)


def _askable(made: Wanted, settings: Settings, models: Mapping[str, Any] | None) -> None:
    """Raise UsageError where a model that is named cannot be asked: no such provider, no key; or where no agent can
    be given any of the tasks."""
    gateway, spec = gateway_of(made.assembled, settings, models), made.assembled.spec
    if any(solver.agent for solver in spec.solvers):
        from onward.staging import check_agents, check_reach

        check_agents(spec)
        check_reach(spec, ((solver.name, task) for _, task in by_id(made).values() for solver in spec.solvers))
    named = [solver.model for solver in spec.solvers if solver.model and not solver.recorded]
    for model in [*named, *(judge.model for judge in spec.judges)]:
        gateway.prepare(model, [{"role": "user", "content": ""}], {})


def read_wanted(assembled: Assembled, folder: Path, settings: Settings, source: Any, limit: int | None) -> Wanted:
    """The experiment with its tasks, read from their source. Raises UsageError: no model chosen, no such source."""
    spec = assembled.spec
    if not assembled.solvers:
        raise UsageError(
            "No model chosen. Try: onward demo · --model local/smollm2 · --model openai/NAME (needs OPENAI_API_KEY)"
        )
    found = source or open_source(spec.tasks, folder, token=settings.keys.get("HF_TOKEN"))
    selection = Selection.of(spec.select)
    chosen = selection.choose(found.tasks())
    most = None if selection.random else limit
    made = lineage.wanted(assembled, found.identity, selection.to_json(), chosen, most)
    made.told = getattr(found, "told", {})
    return made


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


# ---------------------------------------------------------------- resume and its relatives


def resume(
    name: str | None, settings: Settings, watch: Watch, *, models: Mapping[str, Any] | None = None,
    before: Any = None, verb: str = "resume", only: Callable[[str], bool] | None = None,
) -> Ending:  # fmt: skip
    """Finish a run: its recorded list, from its own folder. Without a name, the latest unfinished one.

    Raises NotThere if there is nothing to resume; Held; with `strict`, Drifted where user code has changed.
    """
    return wait(_resume(name, settings, watch, models, before, verb, only))


async def _resume(
    name: str | None, settings: Settings, watch: Watch, models: Mapping[str, Any] | None, before: Any, verb: str,
    only: Callable[[str], bool] | None,
) -> Ending:  # fmt: skip
    folder = find(settings.store, name) if name else latest_unfinished(settings, watch)
    run = open_run(folder)
    try:
        assembled = stored(run)
        changed = drift_of(run, assembled)
        if changed and settings.flags.strict:
            raise Drifted(f"{', '.join(changed)} changed since {run.name} was made (--strict)")
        if changed:
            watch.say(f"{', '.join(changed)} changed since {run.name} was made: going on in a derived run")
            folder = await derive(run, assembled, settings, watch, {"verb": "drift", "changed": changed})
    finally:
        run.close()
    return await _go(folder, assembled, settings, watch, verb, models, only, before)


def stored(run: Run, spec: Spec | None = None) -> Assembled:
    """The run's experiment, from its own folder; user code from where it was, if it is still there.

    Raises UsageError for what cannot be driven from there.
    """
    config = run.config
    folder = Path(config.get("folder", "."))
    written = spec or Spec.model_validate({**config["spec"], "prices": run.prices})
    found = assemble(written if is_adopted(run) else identified(written), folder, config)
    if command := own_command(run):
        raise UsageError(f"{run.name} is a wrapped program, which goes on by its own command. {command}")
    return found


def is_adopted(run: Run) -> bool:
    """Whether it is somebody else's recording itself, of which nobody can say what agent and image it was made with."""
    return "recording" in run.facts and not run.facts["run"]["parents"]


def drift_of(run: Run, assembled: Assembled) -> list[str]:
    """Which user code is no longer what the run recorded."""
    recorded, present = _without_tasks(run), assembled.identity
    if recorded == present:
        return []
    changed = [f"solver {name}" for name, parts in present["solvers"].items() if recorded["solvers"].get(name) != parts]
    stages = present["stages"]
    return changed + [name for name, digest in stages.items() if recorded["stages"].get(name) != digest]


def go(
    folder: Path, assembled: Assembled, settings: Settings, watch: Watch, verb: str,
    only: Callable[[str], bool] | None = None,
) -> Ending:  # fmt: skip
    """Drive the run in this folder as far as it goes, or only these tasks of it."""
    return wait(_go(folder, assembled, settings, watch, verb, None, only, None))


async def _go(
    folder: Path, assembled: Assembled, settings: Settings, watch: Watch, verb: str,
    models: Mapping[str, Any] | None, only: Callable[[str], bool] | None, prelude: Any,
) -> Ending:  # fmt: skip
    run = open_run(folder)
    run.close()
    settings, told = priced(run, assembled, settings)
    ask = gateway_of(assembled, settings, models)
    first = _telling(told, prelude) if told else prelude
    return await drive(Invocation(folder, assembled, settings, watch, ask, only, first, verb))


def priced(run: Run, assembled: Assembled, settings: Settings) -> tuple[Settings, dict[str, str]]:
    """The settings with all prices that the run knows, the newest word on each; and those that it does not know yet."""
    known, stated = run.prices, {**assembled.spec.prices, **settings.prices}
    told = {model: price for model, price in stated.items() if known.get(model) != price}
    return replace(settings, prices={**known, **stated}), told


def _telling(prices: Mapping[str, str], then: Any) -> Any:
    """Under the lease: keep what was stated, so that the next resume knows it too."""

    async def prelude(run: Run, recorder: Recorder) -> None:
        await recorder.plan({"prices": dict(prices)}, {})
        if then is not None:
            await then(run, recorder)

    return prelude


# ---------------------------------------------------------------- again, on purpose


def redo(address: str, settings: Settings, watch: Watch, *, models: Mapping[str, Any] | None = None) -> Ending:
    """Do a part again: `RUN`, `RUN/TASK` or `RUN/TASK/STAGE`. What was is kept, out of account."""
    from onward import views

    folder, rest = views.locate(settings.store, address)

    async def void(run: Run, recorder: Recorder) -> None:
        if not rest:
            await recorder.void([""], "redo")
            return
        place = views.within(run, rest)
        keys = [f"{key}/{place.stage}" if place.stage else str(key) for key in place.trials]
        await recorder.void(keys, f"redo {rest}")

    return resume(str(folder), settings, watch, models=models, before=void, verb="redo")


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
    return wait(_replayed(name, stage, spec, folder or Path(), settings, watch, models, void))


async def _replayed(
    name: str, stage: str, spec: Spec, folder: Path, settings: Settings, watch: Watch,
    models: Mapping[str, Any] | None, void: Any,
) -> Ending:  # fmt: skip
    parent = open_run(find(settings.store, name))
    try:
        assembled = assemble(identified(spec), folder) if spec.solver else _with_solvers_of(parent, spec, folder)
        before, after = _without_tasks(parent), assembled.identity
        same = before["solvers"] == after["solvers"] and before["stages"]["samples"] == after["stages"]["samples"]
        if not same or before["trials"] != after["trials"]:
            raise UsageError("this spec changes the generate stage: that is a new run, not a replay. Use `onward run`")
        if before == after:
            place, prelude = parent.folder, void
        else:
            verb = {"verb": "replay", "stage": stage}
            place, prelude = await derive(parent, assembled, settings, watch, verb, above=stage), None
    finally:
        parent.close()
    return await _go(place, assembled, settings, watch, "replay", models, None, prelude)


def _with_solvers_of(parent: Run, spec: Spec, folder: Path) -> Assembled:
    """A spec that names no solver has its parent's, as the parent stored them."""
    stored: dict[str, Any] = {
        kind: {where: item for where, item in parent.config.get(kind, {}).items() if where.startswith("solver.")}
        for kind in ("texts", "functions")
    }
    solver = Spec.model_validate(parent.config["spec"]).solver
    return assemble(spec.model_copy(update={"solver": solver}), folder, stored)


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
    return wait(_retry_errors(name, settings, watch, models))


async def _retry_errors(name: str, settings: Settings, watch: Watch, models: Mapping[str, Any] | None) -> Ending:
    parent = open_run(find(settings.store, name))
    try:
        assembled = stored(parent)
        folder = await derive(parent, assembled, settings, watch, {"verb": "retry-errors"}, failures=True)
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
