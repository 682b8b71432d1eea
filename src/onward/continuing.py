"""`continue`: timed-out trials go on from where their record ends, as if their limit had been larger.

A derivation (SEMANTICS §4): of the trials that are continued the recorded exchanges are taken over, of all others
everything, so that the derived run is a complete result. The parent keeps its own scores beside the new ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from onward import launch, views
from onward.adoption import adopt
from onward.choice import derive
from onward.config import Settings
from onward.drive import Ending
from onward.errors import Drifted, NotThere, UsageError
from onward.experiment import Assembled, Spec
from onward.formats.benchflow import Recording, read
from onward.keys import Key
from onward.progress import Watch
from onward.runs import Run, open_run
from onward.stats import mean_with_error
from onward.tasks import Task, open_source
from onward.views.comparison import sides
from onward.views.prospects import Prospect, of_recording, of_run

__all__ = ["Continued", "Terms", "both_scores", "carry_on", "folder_for", "is_recording", "prospects"]


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms it goes on. None of these is part of what was recorded."""

    tasks_dir: Path | None = None
    """Where the task of a recording is, which has only its name."""
    model: str = ""
    """`provider/name` for the live part; by default the original's."""
    timeout: float | None = None
    """Active seconds of its own; by default the original's. What is served is not charged."""
    on_divergence: str = "warn"
    replay_only: bool = False
    """Stop where the record ends."""
    require_timeout: bool = False
    """Refuse what did not time out."""
    accept_mismatch: bool = False
    """Go on although agent, image or task are not the original's; it is marked."""

    @property
    def arguments(self) -> dict[str, Any]:
        """What of it makes it this derivation and no other."""
        stated = {
            "model": self.model, "timeout": self.timeout, "on_divergence": self.on_divergence,
            "replay_only": self.replay_only,
        }  # fmt: skip
        usual = Terms()
        return {name: value for name, value in stated.items() if value != getattr(usual, name)}


@dataclass(frozen=True, slots=True)
class Continued:
    """What came of it."""

    ending: Ending
    parent: Path
    scores: Sequence[str]
    """`at the limit 41.2 %, continued 44.8 %`, a line for each solver and score."""
    mismatches: Sequence[str] = ()
    recording: Path | None = None


def is_recording(address: str) -> bool:
    """Whether this is a run folder of BenchFlow's."""
    return (Path(address) / "config.json").is_file()


def prospects(address: str, settings: Settings, terms: Terms) -> list[Prospect]:
    """What would be continued, and what is left out and why; needs neither agent nor key. Raises NotThere."""
    if is_recording(address):
        return [of_recording(read(Path(address)), timeout=terms.timeout, require_timeout=terms.require_timeout)]
    run, within = _opened(address, settings)
    try:
        found = list(of_run(run, timeout=terms.timeout))
        return [one for one in found if within is None or one.name in within]
    finally:
        run.close()


def _opened(address: str, settings: Settings) -> tuple[Run, set[str] | None]:
    """The run, and the keys of the trials that are meant; None: all of them."""
    folder, rest = views.locate(settings.store, address)
    run = open_run(folder)
    if not rest:
        return run, None
    try:
        return run, {str(key) for key in views.within(run, rest).trials}
    except NotThere:
        run.close()
        raise


def carry_on(address: str, settings: Settings, watch: Watch, terms: Terms) -> Continued:
    """Continue all timed-out trials of a run, those of one task, or a recording.

    Raises UsageError where nothing is to be continued, Drifted where agent, image or task are not the original's.
    """
    recording: Recording | None = None
    mismatches: list[str] = []
    if is_recording(address):
        recording = read(Path(address))
        wanted = of_recording(recording, timeout=terms.timeout, require_timeout=terms.require_timeout)
        if wanted.left_out:
            raise UsageError(f"{wanted.name} is not continued: {wanted.left_out}")
        if not recording.timed_out:
            watch.say(f"{wanted.name} did not time out: it goes on all the same (--require-timeout refuses it)")
        task = _task_of(recording, terms)
        mismatches += _other_task(recording, task)
        adopted = adopt(recording, settings.store, task=task)
        address = str(adopted.folder)
    parent, within = _opened(address, settings)
    try:
        chosen = _chosen(parent, within, terms, watch, alone=recording is not None)
        spec = Spec.model_validate(parent.config["spec"])
        assembled = launch.stored(parent, launch.identified(spec))
        mismatches += _other_agent(parent, assembled, watch)
        if mismatches and not terms.accept_mismatch:
            raise Drifted(
                f"{'; '.join(mismatches)}: what is served would not be what happened. --accept-mismatch goes on all "
                "the same, and marks the result"
            )
        derivation = {"verb": "continue", **terms.arguments, **({"mismatches": mismatches} if mismatches else {})}
        if within is not None:
            derivation["trials"] = sorted(chosen)
        folder = launch.wait(derive(
            parent, assembled, settings, watch, derivation, failures=True, continued=chosen
        ))  # fmt: skip
    finally:
        parent.close()
    tasks = {Key(key).names[1] for key in chosen}
    ending = launch.go(folder, assembled, settings, watch, "continue", tasks.__contains__)
    scores = both_scores(parent.folder, ending.folder)
    return Continued(ending, parent.folder, scores, mismatches, recording.folder if recording else None)


def folder_for(found: Continued, output: Path | None) -> Path:
    """Where the continuation of a recording goes: `OUTPUT/TIME/NAME__continued`, the time being the derived run's, so
    that a continuation that is resumed is written where it was."""
    assert found.recording is not None
    run = open_run(found.ending.folder)
    try:
        made = datetime.fromisoformat(run.facts["run"]["created"])
    finally:
        run.close()
    place = output or found.recording.resolve().parent / "continued"
    return place / made.strftime("%Y-%m-%d__%H-%M-%S") / f"{found.recording.name}__continued"


def _chosen(parent: Run, within: set[str] | None, terms: Terms, watch: Watch, *, alone: bool) -> frozenset[str]:
    """The trials to continue; who is left out is named, with the reason. Raises UsageError for none."""
    found = [one for one in of_run(parent, timeout=terms.timeout) if within is None or one.name in within]
    chosen = {one.name for one in found if not one.left_out}
    # Who names one trial means it, timed out or not.
    if not chosen and (alone or within is not None) and not terms.require_timeout:
        agents = set(parent.plan.shape.agents)
        chosen = {one.name for one in found if Key(one.name).names[0] in agents}
    left = [one for one in found if one.name not in chosen]
    for one in left[:20]:
        watch.say(f"left out: {one.name}: {one.left_out}")
    if len(left) > 20:
        watch.say(f"left out: {len(left) - 20:,} more")
    if not chosen:
        raise UsageError(f"{parent.name} has no timed-out trial to continue")
    return frozenset(chosen)


# ---------------------------------------------------------------- is it the same?


def _other_agent(parent: Run, assembled: Assembled, watch: Watch) -> list[str]:
    """What of the solvers is no longer what was recorded."""
    if launch.is_adopted(parent):
        solver = assembled.spec.solvers[0]
        version = solver.found.get("version", "")
        watch.say(f"the recording does not say which {solver.agent} it was made with: {version} goes on with it")
        return []
    return [f"{what} changed since {parent.name} was made" for what in launch.drift_of(parent, assembled)]


def _task_of(recording: Recording, terms: Terms) -> Task:
    """The task of a recording, from where it is now. Raises UsageError that says where it was looked for."""
    stated = recording.config.get("task_path")
    places = [terms.tasks_dir / recording.task] if terms.tasks_dir else [Path(stated)] if stated else []
    for place in places:
        if place.is_dir():
            return next(iter(open_source(str(place.resolve())).tasks()))
    looked = f"{places[0]} is not there" if places else "the recording does not say where it was"
    raise UsageError(
        f"the task {recording.task!r} is needed to verify the work, and {looked}: "
        "--tasks-dir DIR says in which folder of tasks it is"
    )


def _other_task(recording: Recording, task: Task) -> list[str]:
    """Files of the task that are not what the recording says they were."""
    source = recording.config.get("source")
    hashes = source.get("file_hashes") if isinstance(source, Mapping) else None
    if not isinstance(hashes, Mapping):
        return []
    files = {file.name: file for file in task.files}
    changed = []
    for path, stated in sorted(hashes.items()):
        file = files.get(str(path))
        digest = hashlib.sha256(file.read()).hexdigest() if file is not None else ""
        if digest != str(stated).removeprefix("sha256:"):
            changed.append(str(path))
    some = ", ".join(changed[:3]) + (" …" if len(changed) > 3 else "")
    return [f"the task's {some} changed since it was recorded"] if changed else []


# ---------------------------------------------------------------- both scores


def both_scores(before: Path, after: Path) -> list[str]:
    """`at the limit 41.2 %, continued 44.8 %`, for each solver and score of the two runs."""
    old, new = open_run(before), open_run(after)
    try:
        limits, longer = sides(old), sides(new)
        found = []
        for solver, side in longer.items():
            for name, values in side.scores.items():
                at_limit = limits[solver].scores.get(name, {}) if solver in limits else {}
                first = mean_with_error(list(at_limit.items()))[0] if at_limit else None
                then = mean_with_error(list(values.items()))[0]
                head = f"{solver} {name}: " if len(longer) > 1 or len(side.scores) > 1 else ""
                was = "not scored" if first is None else f"{first * 100:.1f} %"
                found.append(f"{head}at the limit {was}, continued {then * 100:.1f} %")
        return found
    finally:
        old.close()
        new.close()
