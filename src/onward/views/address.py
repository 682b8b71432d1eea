"""RUN[/TASK[/STAGE[/EXCHANGE]]]: what is meant. Task ids may hold slashes; a key's own, escaped form is taken too."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from onward.errors import NotThere
from onward.keys import Key
from onward.plan import STAGES
from onward.runs import JOURNAL, Run, find

__all__ = ["Address", "locate", "within"]


@dataclass(frozen=True, slots=True)
class Address:
    """A part of a run. `trials` are the planned trials of the task, of one solver or of all."""

    task: str
    trials: tuple[Key, ...]
    scored: bool = True
    stage: str = ""
    """A stage (`score`) or one step of it (`score/numeric`, `generate/0`), relative to the trial."""
    exchange: str = ""
    names: tuple[str, ...] = field(default=())


def locate(store: Path, address: str) -> tuple[Path, str]:
    """The run's folder, and what follows it. Raises NotThere, UsageError."""
    folder = Path(address)
    rest: list[str] = []
    while not (folder / JOURNAL).exists() and folder != folder.parent:
        rest.insert(0, folder.name)
        folder = folder.parent
    if (folder / JOURNAL).exists() and folder != Path():
        return folder, "/".join(rest)
    name, _, inside = address.partition("/")
    return find(store, name), inside


def within(run: Run, rest: str) -> Address:
    """What `rest` names inside the run. Raises NotThere with the nearest name."""
    solver = ""
    found = _task(run, rest)
    if found is None and rest.partition("/")[0] in run.plan.solvers:
        solver, _, inner = rest.partition("/")
        found = _task(run, inner)
    if found is None:
        near = get_close_matches(rest.partition("/")[0], list(run.plan.task_ids()), n=1, cutoff=0.6)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise NotThere(f"{run.name} has no task {rest!r}.{hint}")
    task, below, scored = found
    keys = [
        Key.of(name, task, str(trial))
        for name in run.plan.solvers if solver in ("", name)
        for trial in range(1, run.plan.trials + 1)
    ]  # fmt: skip
    parts = below.split("/") if below else []
    if parts and parts[0].isdigit() and solver:
        keys = [key for key in keys if key.name == parts.pop(0)] if parts[0] else keys
    return _staged(run, task, tuple(keys), parts, scored=scored)


def _staged(run: Run, task: str, keys: tuple[Key, ...], parts: list[str], *, scored: bool) -> Address:
    if not parts:
        return Address(task, keys, scored)
    stage = parts[0]
    if stage not in STAGES:
        raise NotThere(f"{stage!r} is no stage of {run.name}; there are {', '.join(STAGES)}")
    own = run.plan.shape.steps(stage)
    if not own:
        raise NotThere(f"{run.name} has no {stage} stage")
    two = "/".join(parts[:2])
    if len(parts) > 1 and two in own:
        return Address(task, keys, scored, two, "/".join(parts[2:]))
    if len(parts) > 1:
        if len(own) > 1:
            raise NotThere(f"{task} has no {two} in {run.name}; there are {', '.join(own)}")
        return Address(task, keys, scored, own[0], "/".join(parts[1:]))
    return Address(task, keys, scored, stage)


def _task(run: Run, rest: str) -> tuple[str, str, bool] | None:
    """The longest task id that `rest` starts with, as it is or escaped; what follows; whether its answer is known."""
    best: tuple[str, str, bool] | None = None
    longest = 0
    for chunk in run.plan.chunks:
        for task in chunk.ids:
            for form in {task, str(Key.of(task))}:
                if len(form) > longest and Key(form).covers(rest):
                    longest, best = len(form), (task, rest[len(form) + 1 :], task not in chunk.unscored)
    return best
