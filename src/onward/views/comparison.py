"""Two solvers on the same tasks, and a run's new scores against its old ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onward.errors import NotThere
from onward.plan import Result
from onward.runs import Run
from onward.stats import mcnemar, paired_by_task
from onward.views.means import Marks, Standings, number_of, outcome_of, read_marks, standings, trial_of
from onward.views.summary import planned_trials, score_steps
from onward.views.trials import is_reused

__all__ = ["Comparison", "Flip", "Rescored", "Side", "compare", "pairs_of", "rescored", "sides"]


@dataclass(slots=True)
class Side:
    """One solver's scores, by score name and task: the mean over its trials."""

    run: str
    solver: str
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    trials: int = 1
    rerun: int = 0
    """Trials that were done again since their first go."""

    @property
    def name(self) -> str:
        """`solver` of `run`."""
        return f"{self.run}/{self.solver}"


def sides(run: Run, *, after_reruns: bool = False) -> dict[str, Side]:
    """A run's solvers with what each task came to: at the first go, or as it stands after reruns."""
    heads, marks, shape = standings(run), read_marks(run), run.plan.shape
    scoring = score_steps(shape)
    found = {solver: Side(run.name, solver, trials=run.plan.trials) for solver in run.plan.solvers}
    values: dict[tuple[str, str, str], list[float]] = {}
    for solver, task, key, scored in planned_trials(run):
        outcome = outcome_of(heads.get(key, {}), shape, scored=scored)
        found[solver].rerun += key in marks.first_outcome
        for name, step in scoring:
            if scored or not step.startswith("score/"):
                value = marks.value(key, step, outcome, first=not after_reruns)
                if value is not None:
                    values.setdefault((solver, name, task), []).append(value)
    for (solver, name, task), own in values.items():
        found[solver].scores.setdefault(name, {})[task] = sum(own) / len(own)
    return found


@dataclass(frozen=True, slots=True)
class Flip:
    """A task on which the two differ."""

    task: str
    a: float
    b: float


@dataclass(slots=True)
class Comparison:
    """B against A on the tasks that both have a score for."""

    a: str
    b: str
    score: str
    n: int
    only_a: int
    only_b: int
    a_mean: float
    b_mean: float
    difference: float
    """B minus A."""
    low: float
    high: float
    p: float | None
    """Exact McNemar, where all scores are 0 or 1; None elsewhere."""
    better: int
    worse: int
    flips: list[Flip] = field(default_factory=list)


def compare(a: Side, b: Side, score: str | None = None) -> Comparison:
    """Two sides on one score: the one named, else the first that both have. Raises NotThere."""
    shared = [name for name in a.scores if name in b.scores]
    if score is None and not shared:
        raise NotThere(f"{a.name} and {b.name} have no score in common")
    name = score or shared[0]
    if name not in shared:
        there = ", ".join(shared) or "none"
        raise NotThere(f"{a.name} and {b.name} do not both have the score {name!r}; both have: {there}")
    left, right = a.scores[name], b.scores[name]
    both = [task for task in left if task in right]
    if not both:
        raise NotThere(f"{a.name} and {b.name} have no scored task in common")
    pairs = [(left[task], right[task]) for task in both]
    found = paired_by_task(left, right)
    better = sum(1 for one, two in pairs if two > one)
    worse = sum(1 for one, two in pairs if two < one)
    binary = all(value in (0.0, 1.0) for pair in pairs for value in pair)
    flips = [Flip(task, left[task], right[task]) for task in both if left[task] != right[task]]
    return Comparison(
        a.name, b.name, name, len(both), len(left) - len(both), len(right) - len(both),
        sum(one for one, _ in pairs) / len(pairs), sum(two for _, two in pairs) / len(pairs),
        found.mean, found.low, found.high, mcnemar(better, worse) if binary else None, better, worse, flips,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rescored:
    """One solver's scores, old against new, over the trials that have both."""

    solver: str
    score: str
    n: int
    old: float
    new: float
    changed: int
    calls: int
    """Calls that this took, over all solvers."""


def rescored(run: Run, parent: Run | None = None) -> list[Rescored]:
    """A run's scores against those before: of its parent, if one is given, else from before the last void."""
    if parent is not None:
        heads, marks, old_shape = standings(parent), read_marks(parent), parent.plan.shape
        since = 0
    else:
        since = _last_void(run)
        heads, marks = _before(run, since)
        old_shape = run.plan.shape
    calls = sum(
        1 for seq, row in run.journal.rows("", after=since, kinds=("result",))
        if row.tokens is not None and not is_reused(row.body)
    )  # fmt: skip
    new_heads, new_marks, shape = standings(run), read_marks(run), run.plan.shape
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for solver, _, key, scored in planned_trials(run):
        old_outcome = outcome_of(heads.get(key, {}), old_shape, scored=scored)
        outcome = outcome_of(new_heads.get(key, {}), shape, scored=scored)
        for name, before, after in _both(score_steps(old_shape), score_steps(shape)):
            if not scored and (before.startswith("score/") or after.startswith("score/")):
                continue
            one, two = marks.value(key, before, old_outcome), new_marks.value(key, after, outcome)
            if one is not None and two is not None:
                pairs.setdefault((solver, name), []).append((one, two))
    return [_rescored(solver, name, found, calls) for (solver, name), found in pairs.items()]


def _rescored(solver: str, name: str, pairs: list[tuple[float, float]], calls: int) -> Rescored:
    old, new = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    return Rescored(solver, name, len(pairs), old, new, sum(1 for one, two in pairs if one != two), calls)


def _both(old: list[tuple[str, str]], new: list[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """(name, old step, new step) of the scores to set side by side: those of one name, else the primary ones."""
    before = dict(old)
    shared = [(name, before[name], step) for name, step in new if name in before]
    if shared or not old or not new:
        return shared
    return [(f"{old[0][0]} → {new[0][0]}", old[0][1], new[0][1])]


def _last_void(run: Run) -> int:
    return max((seq for seq, _ in run.journal.rows("", kinds=("void",))), default=0)


def _before(run: Run, until: int) -> tuple[Standings, Marks]:
    """What stood just before an entry."""
    heads: dict[str, dict[str, Result]] = {}
    marks = Marks()
    for seq, row in run.journal.rows("", kinds=("result",)):
        if seq >= until:
            break
        if row.key.count("/") not in (3, 4):
            continue
        trial = trial_of(row.key)
        relative = row.key[len(trial) + 1 :]
        heads.setdefault(trial, {})[relative] = Result(row.key, seq, str(row.outcome), row.generation, row.fingerprint)
        if row.outcome == "ok" and relative.partition("/")[0] in ("score", "judge"):
            marks.now[row.key] = number_of(run, row.body)
    return heads, marks


def pairs_of(found: Mapping[str, Side]) -> list[tuple[Side, Side]]:
    """All pairs of a run's solvers, in the plan's order."""
    own = list(found.values())
    return [(one, two) for place, one in enumerate(own) for two in own[place + 1 :]]
