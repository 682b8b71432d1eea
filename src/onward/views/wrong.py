"""The wrong-answer book: what is wrong now, how often it has been, since when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onward.keys import Key
from onward.runs import Run
from onward.tasks import Task
from onward.views.means import number_of, trial_of
from onward.views.summary import planned_trials, score_steps
from onward.views.trials import trials

__all__ = ["Wrong", "wrong"]


@dataclass(slots=True)
class Wrong:
    """A task that one solver has wrong."""

    solver: str
    task: str
    question: Any
    expected: Any
    answer: Any
    """What it gave last; None where nothing could be read out of its output."""
    score: float
    attempts: int
    """How many goes at it were wrong, over trials and generations."""
    first_seen: str
    last_seen: str
    level: Any = None
    reason: str = ""
    trials: list[str] = field(default_factory=list)


def wrong(run: Run) -> list[Wrong]:
    """What was answered wrongly, failed answers included, by attempts. What is right by now has left the book."""
    steps = score_steps(run.plan.shape)
    if not steps:
        return []
    mark = float(run.facts["identity"].get("pass_mark", 1.0))
    seen = _seen(run, mark)
    judging = next((pair for pair in steps if pair[1].startswith("judge/")), None)
    scored_by = {True: steps[0], False: judging}
    known = {task: scored for _, task, _, scored in planned_trials(run)}
    found: dict[tuple[str, str], Wrong] = {}
    for trial in trials(run):
        own = scored_by[known[trial.task]]
        if own is None or trial.outcome in ("error", "missing"):
            continue
        score = trial.scores.get(own[0])
        value = float(score["value"]) if score is not None else 0.0
        if trial.outcome == "ok" and (score is None or value >= mark):
            continue
        goes = seen.get(f"{trial.key}", []) or [trial.ended]
        entry = found.get((trial.solver, trial.task))
        if entry is None:
            entry = found[trial.solver, trial.task] = Wrong(
                trial.solver, trial.task, None, None, trial.answer, value, 0, goes[0], goes[-1], None, trial.reason
            )
        entry.attempts += len(goes)
        entry.first_seen, entry.last_seen = min(entry.first_seen, goes[0]), max(entry.last_seen, goes[-1])
        entry.trials.append(trial.number)
    _with_tasks(run, found)
    return sorted(found.values(), key=lambda entry: -entry.attempts)


def _with_tasks(run: Run, found: Mapping[tuple[str, str], Wrong]) -> None:
    by_task: dict[str, list[Wrong]] = {}
    for entry in found.values():
        by_task.setdefault(entry.task, []).append(entry)
    for chunk in run.plan.chunks:
        if not any(task in by_task for task in chunk.ids):
            continue
        for _, task in run.tasks(chunk):
            for entry in by_task.get(task.id, ()):
                entry.question, entry.expected = task.input, task.target
                entry.level = _level(task)


def _level(task: Task) -> Any:
    for name in ("level", "Level"):
        if name in task.metadata:
            return task.metadata[name]
    return None


def _seen(run: Run, mark: float) -> dict[str, list[str]]:
    """Trial → when each of its goes was found wrong: one time for each answer, however often it was scored again."""
    [(_, primary), *_] = score_steps(run.plan.shape)
    goes: dict[str, dict[int, str]] = {}
    for seq, row in run.journal.rows("", kinds=("result",)):
        if row.key.count("/") not in (3, 4):
            continue
        trial = trial_of(row.key)
        relative = row.key[len(trial) + 1 :]
        go = _go(run, f"{trial}/generate/0", seq)
        if relative == primary and row.outcome == "ok":
            if number_of(run, row.body) < mark:
                goes.setdefault(trial, {}).setdefault(go, row.at)
            else:
                goes.setdefault(trial, {}).pop(go, None)
        elif row.outcome in ("failed", "timeout") and relative.partition("/")[0] in ("generate", "reduce", "parse"):
            goes.setdefault(trial, {}).setdefault(go, row.at)
    return {trial: list(times.values()) for trial, times in goes.items()}


def _go(run: Run, key: str, seq: int) -> int:
    """Which go at the answer a row belongs to: how many voids of the answer lie before it."""
    return run.voids.before(Key(key), seq) if run.voids.count else 0
