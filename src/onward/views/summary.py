"""A run at a glance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from onward.keys import Key
from onward.plan import STAGES, Result, Shape
from onward.runs import Run
from onward.views.means import Mean, mean_of, outcome_of, read_marks, standings

__all__ = ["SolverSummary", "Summary", "below_mark", "completed_through", "planned_trials", "score_steps", "summary"]


@dataclass(slots=True)
class SolverSummary:
    """One solver's part of a run."""

    planned: int = 0
    ok: int = 0
    failed: int = 0
    timeout: int = 0
    errors: int = 0
    missing: int = 0
    unscored: int = 0
    rerun: int = 0
    """Trials that count in a later go than their first."""
    scores: dict[str, Mean] = field(default_factory=dict)
    first_go: dict[str, Mean] = field(default_factory=dict)
    """The same scores as of the first go, where some trials were done again (and this run has it)."""
    stages: dict[str, int] = field(default_factory=dict)
    """Stage → how many trials have been through it."""

    @property
    def owed(self) -> int:
        """Trials that a resume would do."""
        return self.errors + self.missing


@dataclass(slots=True)
class Summary:
    """A run at a glance."""

    run: str
    id: str
    created: str
    last_write: str
    planned: int
    completed_through: str | None
    """The last stage that every trial has been through; None: not even generate."""
    usd: float
    tokens: int
    calls: int
    reused_usd: float
    reused: int
    doubt_usd: float
    doubt: int
    solvers: dict[str, SolverSummary] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Trials that are settled through every stage or ended in a failure."""
        return sum(part.ok + part.failed + part.timeout for part in self.solvers.values())

    @property
    def owed(self) -> int:
        """Trials that a resume would do."""
        return self.planned - self.done

    @property
    def errors(self) -> int:
        """Trials that are owed because of an error."""
        return sum(part.errors for part in self.solvers.values())


def planned_trials(run: Run) -> Iterator[tuple[str, str, Key, bool]]:
    """(solver, task id, key, whether its answer is known) of every planned trial, in the plan's order."""
    for chunk in run.plan.chunks:
        for solver, task, key in run.plan.trial_keys(chunk):
            yield solver, task, key, task not in chunk.unscored


def score_steps(shape: Shape) -> list[tuple[str, str]]:
    """(name, relative key) of everything that scores, the primary first."""
    names = (*shape.scores, *shape.judges)
    return list(zip(names, [*shape.steps("score"), *shape.steps("judge")], strict=True))


def summary(run: Run, until: str | None = None) -> Summary:
    """A run at a glance: one pass over its heads, one over its scores."""
    sums, facts, shape = run.journal.sums(), run.facts["run"], run.plan.shape
    found = Summary(
        run.name, run.id, facts["created"], _last_write(run), len(run.plan), None, *sums.spent,
        sums.reused[0], sums.reused[2], sums.doubt[0], sums.doubt[2],
    )  # fmt: skip
    heads, marks, scoring = standings(run), read_marks(run), score_steps(shape)
    now: dict[tuple[str, str], list[tuple[str, float]]] = {}
    first: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for solver, task, key, scored in planned_trials(run):
        part = found.solvers.setdefault(solver, SolverSummary())
        own = heads.get(key, {})
        outcome = outcome_of(own, shape, scored=scored, until=until)
        _count(part, outcome, scored=scored, again=key in marks.first_outcome)
        for stage in _reached(own, shape, scored=scored):
            part.stages[stage] = part.stages.get(stage, 0) + 1
        for name, step in scoring:
            if not scored and step.startswith("score/"):
                continue
            for values, is_first in ((now, False), (first, True)):
                value = marks.value(key, step, outcome, first=is_first)
                if value is not None:
                    values.setdefault((solver, name), []).append((task, value))
    for values, is_first in ((now, False), (first, True)):
        for (solver, name), pairs in values.items():
            part = found.solvers[solver]
            if not is_first:
                part.scores[name] = mean_of(pairs)
            elif part.rerun and not any(key.startswith(f"{Key.of(solver)}/") for key in marks.elsewhere):
                part.first_go[name] = mean_of(pairs)
    found.completed_through = _through(found, shape)
    return found


def _count(part: SolverSummary, outcome: str, *, scored: bool, again: bool) -> None:
    part.planned += 1
    part.unscored += not scored
    part.rerun += again
    if outcome == "error":
        part.errors += 1
    elif outcome == "missing":
        part.missing += 1
    else:
        setattr(part, outcome, getattr(part, outcome) + 1)


def _reached(heads: Mapping[str, Result], shape: Shape, *, scored: bool) -> Iterator[str]:
    """The stages that a trial has been through: below a step that failed nothing is wanted."""
    over = False
    for stage in STAGES:
        steps = shape.steps(stage)
        if not steps:
            continue
        if over or (stage == "score" and not scored):
            yield stage
            continue
        done = [head for step in steps if (head := heads.get(step)) is not None and head.outcome != "error"]
        if len(done) < len(steps):
            return
        over = stage in ("generate", "reduce", "parse") and not any(map(shape.goes_on, done))
        yield stage


def _through(found: Summary, shape: Shape) -> str | None:
    reached = None
    for stage in STAGES:
        if not shape.steps(stage):
            continue
        if sum(part.stages.get(stage, 0) for part in found.solvers.values()) < found.planned:
            break
        reached = stage
    return reached


def _last_write(run: Run) -> str:
    last = run.journal.head().seq
    for _, row in run.journal.rows("", after=max(0, last - 1)):
        return row.at
    return str(run.facts["run"]["created"])


def completed_through(run: Run) -> str | None:
    """The last stage that every planned trial has been through; None if some have not generated."""
    return summary(run).completed_through


def below_mark(run: Run) -> list[str]:
    """Keys of the planned trials whose primary score is below the pass mark, or that have none."""
    mark = float(run.facts["identity"].get("pass_mark", 1.0))
    marks, heads, shape = read_marks(run), standings(run), run.plan.shape
    found = []
    for _, _, key, scored in planned_trials(run):
        own = [step for _, step in score_steps(shape) if scored or not step.startswith("score/")]
        outcome = outcome_of(heads.get(key, {}), shape, scored=scored)
        value = marks.now.get(f"{key}/{own[0]}") if own else None
        if outcome != "ok" or (value is not None and value < mark):
            found.append(str(key))
    return found
